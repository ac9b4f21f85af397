"""Tests with results computed by hand, and properties of any result."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from rliable import metrics

from parl_tf.reports import statistics


def _column(*scores):
  """Returns `[R, 1]` scores of one domain."""
  return np.array(scores, np.float64)[:, None]


class InterquartileMeanTest(parameterized.TestCase):

  @parameterized.named_parameters(
      # Two of eight are dropped at either end: (3 + 4 + 5 + 6) / 4.
      ('eight', [100, 7, 5, 3, 1, 2, 4, 6], 4.5),
      # One of five: (2 + 3 + 4) / 3.
      ('five', [-50, 4, 3, 2, 99], 3.0),
      # With three nothing is dropped.
      ('three', [0, 0, 30], 10.0),
      ('one', [7], 7.0),
  )
  def test_it_is_the_mean_of_the_middle_half(self, scores, wanted):
    self.assertAlmostEqual(
        statistics.interquartile_mean(_column(*scores)), wanted
    )

  def test_domains_are_pooled(self):
    # Of 0, 10, 20 and 90, 0 and 90 are dropped.
    scores = np.array([[0.0, 10.0], [20.0, 90.0]])

    self.assertAlmostEqual(statistics.interquartile_mean(scores), 15.0)

  def test_points_of_a_curve_are_separate(self):
    scores = np.array([[[0.0, 1.0]], [[2.0, 5.0]]])  # [2, 1, 2]

    np.testing.assert_allclose(statistics.interquartile_mean(scores), [1, 3])

  def test_it_matches_rliable(self):
    scores = np.random.default_rng(0).normal(size=[7, 3])

    self.assertAlmostEqual(
        statistics.interquartile_mean(scores), metrics.aggregate_iqm(scores)
    )

  @parameterized.named_parameters(
      ('nan', np.array([[0.0], [np.nan]]), 'finite'),
      ('flat', np.zeros([3]), r'got shape \[3\]'),
      ('empty', np.zeros([0, 1]), r'got shape \[0, 1\]'),
  )
  def test_invalid_scores_are_an_error(self, scores, message):
    with self.assertRaisesRegex(ValueError, message):
      statistics.interquartile_mean(scores)


class EstimateTest(absltest.TestCase):

  def test_limits_are_those_of_the_resampled_means(self):
    # The middle three of five draws are all 10 with a probability of
    # (2 / 5)^5 + 5 (3 / 5) (2 / 5)^4 = 9 %, and all 0 with 34 %.
    estimate = statistics.estimate(_column(0.0, 0.0, 0.0, 10.0, 10.0))

    self.assertAlmostEqual(estimate.value, 10.0 / 3.0)
    self.assertEqual(estimate[1:], (0.0, 10.0))
    self.assertTrue(estimate.has_interval)

  def test_few_seeds_have_no_interval(self):
    estimate = statistics.estimate(_column(3.0, 4.0, 5.0, 6.0))

    self.assertEqual(estimate.value, 4.5)
    self.assertFalse(estimate.has_interval)

  def test_curve_has_an_interval_at_each_point(self):
    scores = np.array([[[x, 1.0]] for x in (0.0, 0.0, 0.0, 10.0, 10.0)])

    estimate = statistics.estimate(scores, num_resamples=300)

    np.testing.assert_allclose(estimate.value, [10 / 3, 1])
    np.testing.assert_allclose(estimate.low, [0, 1])
    np.testing.assert_allclose(estimate.high, [10, 1])

  def test_seeds_are_drawn_within_their_domain(self):
    # Drawn across domains, the mean would vary.
    scores = np.array([[0.0, 10.0]] * 5)

    estimate = statistics.estimate(scores)

    self.assertEqual(estimate, (5.0, 5.0, 5.0))

  def test_resampling_depends_only_on_the_seed(self):
    scores = np.random.default_rng(0).normal(size=[5, 1])
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()

    first = statistics.estimate(scores, num_resamples=200)
    after = np.random.get_state()[1].tolist()
    np.random.seed(4)

    self.assertEqual(statistics.estimate(scores, num_resamples=200), first)
    self.assertEqual(after, before)


class ComparisonTest(parameterized.TestCase):

  def test_difference_and_its_interval(self):
    found = statistics.compare(
        _column(10.0, 10.0, 10.0, 20.0, 20.0), _column(*[4.0] * 5)
    )

    self.assertAlmostEqual(found.difference.value, 28.0 / 3.0)
    self.assertEqual(found.difference[1:], (6.0, 16.0))
    self.assertEqual(found.probability, (1.0, 1.0, 1.0))
    self.assertEqual(found.num_seeds, (5, 5))

  def test_few_seeds_of_either_have_no_interval(self):
    many, few = _column(*range(5)), _column(*range(4))
    for first, second in ((many, few), (few, many)):
      found = statistics.compare(first, second)
      self.assertFalse(found.difference.has_interval)

  def test_two_seeds_resolve_nothing(self):
    found = statistics.compare(_column(10.0, 20.0), _column(0.0, 4.0))

    self.assertAlmostEqual(found.by_chance, 1 / 3)
    self.assertFalse(found.is_resolved)

  @parameterized.parameters(1.0, -1.0)
  def test_four_separate_seeds_are_resolved(self, sign):
    found = statistics.compare(
        sign * _column(5.0, 6.0, 7.0, 8.0), sign * _column(1.0, 2.0, 3.0, 4.0)
    )

    self.assertAlmostEqual(found.by_chance, 2 / 70)
    self.assertTrue(found.is_resolved)

  def test_one_seed_resolves_nothing(self):
    found = statistics.compare(_column(90.0), _column(0.0, 1.0))

    self.assertEqual(found.difference.value, 89.5)
    self.assertFalse(found.difference.has_interval)
    self.assertFalse(found.is_resolved)
    self.assertIsNone(found.num_needed_seeds)

  def test_numbers_of_seeds_may_differ(self):
    found = statistics.compare(_column(1.0, 2.0, 3.0), _column(0.0, 0.0))

    self.assertEqual(found.num_seeds, (3, 2))
    self.assertEqual(found.difference.value, 2.0)

  @parameterized.parameters(([4, 2], [3, 1]), ([4], [3]))
  def test_shapes_that_do_not_match_are_an_error(self, first, second):
    with self.assertRaises(ValueError):
      statistics.compare(np.zeros(first), np.zeros(second))


class ProbabilityTest(absltest.TestCase):

  def test_equal_scores_count_half(self):
    # 1 against 2 and 3: 0, 0. 3 against 2 and 3: 1, 1/2.
    found = statistics.probability_of_improvement(
        _column(1.0, 3.0), _column(2.0, 3.0)
    )

    self.assertEqual(found, 0.375)

  def test_it_matches_rliable(self):
    random = np.random.default_rng(0)
    first = random.integers(0, 5, [6, 3]).astype(float)
    second = random.integers(0, 5, [4, 3]).astype(float)

    self.assertAlmostEqual(
        statistics.probability_of_improvement(first, second),
        metrics.probability_of_improvement(first, second),
    )


class NeededSeedsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      # Variances 50 and 50, difference 10: 2.8^2 * 100 / 100 = 7.84.
      ('eight', [10, 20], [0, 10], 8),
      # Variances 1 and 1, difference 0.5: 7.84 * 2 / 0.25 = 62.72.
      ('many', [0, 1, 2], [0.5, 1.5, 2.5], 63),
      ('at_least_four', [100, 100], [0, 0], 4),
      ('no_difference', [0, 2], [1, 1], None),
      ('one_seed', [0], [1, 2], None),
  )
  def test_it_follows_the_normal_approximation(self, first, second, wanted):
    self.assertEqual(
        statistics.needed_seeds(_column(*first), _column(*second)), wanted
    )

  @parameterized.named_parameters(
      # (1.645 + 0.84)^2 * 2 / 0.25 = 49.4.
      ('many', [0, 1, 2], [0.5, 1.5, 2.5], 50),
      ('at_least_three', [100, 100], [0, 0], 3),
  )
  def test_a_one_sided_test_needs_fewer(self, first, second, wanted):
    self.assertEqual(
        statistics.needed_seeds(
            _column(*first), _column(*second), is_two_sided=False
        ),
        wanted,
    )

  def test_a_seed_counts_by_its_mean_over_domains(self):
    # Means 10, 20 and 0, 10, as above.
    first = np.array([[0.0, 20.0], [30.0, 10.0]])
    second = np.array([[5.0, -5.0], [20.0, 0.0]])

    self.assertEqual(statistics.needed_seeds(first, second), 8)


if __name__ == '__main__':
  absltest.main()
