"""Tests with assignments counted by hand."""

import math
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import scipy.stats

from parl_tf.reports import permutation


def _column(*scores):
  return np.array(scores, np.float64)[:, None]


class TwoTest(parameterized.TestCase):

  @parameterized.parameters(
      # Only the observed assignment of 20, and the opposite one.
      ([7, 8, 9], [1, 2, 3], 1 / 20, 2 / 20),
      # As large: {5, 3} and {5, 4} of six; as small: {1, 3} and {1, 4}.
      ([5, 3], [1, 4], 2 / 6, 4 / 6),
      ([1, 4], [5, 3], 5 / 6, 4 / 6),
      ([2, 2], [2, 2, 2], 1.0, 1.0),
      ([3], [1, 2], 1 / 3, 2 / 3),
  )
  def test_share_of_assignments(self, first, second, greater, either):
    first, second = _column(*first), _column(*second)

    one_sided = permutation.by_chance_of_two(first, second, is_two_sided=False)
    self.assertAlmostEqual(one_sided, greater)
    two_sided = permutation.by_chance_of_two(first, second)
    self.assertAlmostEqual(two_sided, either)

  def test_five_seeds_each_can_be_resolved_three_cannot(self):
    for num_seeds, wanted in ((3, 0.1), (4, 2 / 70), (5, 2 / 252)):
      by_chance = permutation.by_chance_of_two(
          _column(*range(10, 10 + num_seeds)), _column(*range(num_seeds))
      )
      self.assertAlmostEqual(by_chance, wanted)

  def test_a_run_counts_by_its_mean_over_domains(self):
    first = np.array([[6.0, 8.0], [9.0, 7.0], [9.0, 9.0]])

    self.assertAlmostEqual(
        permutation.by_chance_of_two(first, _column(1.0, 2.0, 3.0)), 0.1
    )

  def test_equal_methods_are_resolved_in_five_percent_of_studies(self):
    random = np.random.default_rng(0)
    scores = random.exponential(size=[1_000, 2, 5, 1])

    resolved = [
        permutation.by_chance_of_two(*x) <= permutation.LEVEL for x in scores
    ]

    self.assertBetween(np.mean(resolved), 0.03, 0.07)

  def test_many_seeds_are_tested_by_random_assignments(self):
    self.enter_context(mock.patch.object(permutation, '_MAX_ASSIGNMENTS', 999))
    random = np.random.default_rng(1)
    first, second = random.normal(size=[2, 8, 1])
    first += 0.4
    exact = scipy.stats.permutation_test(
        [first[:, 0], second[:, 0]],
        lambda x, y, axis: np.mean(x, axis) - np.mean(y, axis),
        vectorized=True,
        n_resamples=np.inf,
        alternative='greater',
    ).pvalue

    found = permutation.by_chance_of_two(first, second, is_two_sided=False)
    self.assertBetween(exact, 0.01, 0.3)
    self.assertAlmostEqual(found, exact, delta=0.005)
    # At least the observed assignment counts.
    self.assertGreater(
        permutation.by_chance_of_two(first + 1_000, second), 0.0
    )


class OneTest(parameterized.TestCase):

  @parameterized.parameters(
      ([1, 2, 3, 4, 5], 1 / 32, 2 / 32),
      # Sums of at least 3: 1 + 2 + 2 and -1 + 2 + 2.
      ([-1, 2, 2], 2 / 8, 4 / 8),
      ([0, 0], 1.0, 1.0),
  )
  def test_share_of_signs(self, differences, greater, either):
    differences = _column(*differences)

    one_sided = permutation.by_chance_of_one(differences, is_two_sided=False)
    self.assertAlmostEqual(one_sided, greater)
    self.assertAlmostEqual(permutation.by_chance_of_one(differences), either)

  def test_many_seeds_are_tested_by_random_signs(self):
    # Of 18 equal differences, at least 13 have the same sign.
    exact = sum(math.comb(18, k) for k in range(13, 19)) / 2**18
    differences = np.array([1.0] * 13 + [-1.0] * 5)[:, np.newaxis]

    found = permutation.by_chance_of_one(differences, is_two_sided=False)
    self.assertAlmostEqual(found, exact, delta=0.005)
    # At least the observed signs count.
    self.assertGreater(permutation.by_chance_of_one(np.ones([40, 1])), 0.0)


if __name__ == '__main__':
  absltest.main()
