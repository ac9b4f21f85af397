from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf import proportion
from parl_tf.reports import comparison
from parl_tf.reports import runs
from parl_tf.reports import statistics
from tests.reports import run_folders

_SCORES = {'good': [80.0, 90.0], 'bad': [10.0, 20.0], 'single': [50.0]}


def _pair(first, second):
  """Returns a pair of methods with the given seed scores, in one domain."""
  found = statistics.compare(
      np.array(first)[:, None], np.array(second)[:, None], num_resamples=500
  )
  return comparison.Pair('Walk', 'online', 'a', 'b', found)


class GroupsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path

  def _groups(self, *folders):
    return comparison.make_groups(runs.read_runs(folders).runs)

  def test_table_has_one_row_per_method_and_phase(self):
    groups = self._groups(run_folders.write_study(self._root, _SCORES))
    rows = {
        (row.phase, row.method): row
        for row in map(comparison.make_row, groups)
    }

    self.assertLen(rows, 9)
    good = rows['online', 'good']
    self.assertEqual(good.score.value, 85.0)
    self.assertEqual(good.score_without_search.value, 42.5)
    np.testing.assert_array_equal(good.seed_scores, [80.0, 90.0])
    self.assertEqual((good.num_seeds, good.num_partial), (2, 0))
    # 8 + 9 of 20 episodes.
    self.assertEqual(
        good.success_rate, (0.85, *proportion.wilson_interval(0.85, 20))
    )
    # 8 episodes of 20 steps and 9 of 37: (160 + 333) / 17.
    self.assertAlmostEqual(good.steps_to_success, 29.0)
    self.assertIsNone(good.steps_to_success_without_search)
    self.assertEqual(good.mean_return, -15.0)  # -10 and -20.
    self.assertEqual(good.num_episodes, 20)
    self.assertEqual(good.env_steps, 100.5)  # 100 and 101.
    self.assertAlmostEqual(good.minutes, 10.0 / 60.0)
    self.assertFalse(rows['online', 'single'].score.has_interval)
    cloning = rows['behavior_cloning', 'bad']
    self.assertEqual(cloning.score.value, 10.0)
    self.assertIsNone(cloning.success_rate)

  def test_unfinished_runs_are_counted(self):
    for seed, is_finished in enumerate((True, False)):
      rows = [run_folders.evaluated('online', 10, 50.0 + seed)]
      folder = f'{self._root}/a/seed_{seed}'
      run_folders.write(folder, rows, seed=seed, is_finished=is_finished)

    [group] = self._groups(self._root)

    row = comparison.make_row(group)
    self.assertEqual((row.num_seeds, row.num_partial), (2, 1))

  def test_successes_are_whole_episodes(self):
    row = run_folders.evaluated('online', 10, 29.0)
    # 0.29 * 100 is 28.999999999999996.
    row = {**row, 'num_evaluation_episodes': 100}
    run_folders.write(f'{self._root}/a/seed_0', [row])

    [group] = self._groups(self._root)

    self.assertEqual(comparison.make_row(group).success_rate.value, 0.29)

  def test_steps_without_search_are_those_of_its_own_successes(self):
    run_folders.write_study(self._root, {'a': [50.0, 50.0]})
    group = self._groups(self._root)[-1]
    # 1 episode of 10 steps and 3 of 20.
    results = {
        seed: x._replace(
            steps_to_success_without_search=(10.0, 20.0)[seed],
            success_rate_without_search=(0.1, 0.3)[seed],
        )
        for seed, x in group.results[0].items()
    }

    row = comparison.make_row(
        group._replace(results=(results,)), num_resamples=100
    )

    self.assertAlmostEqual(row.steps_to_success_without_search, 17.5)

  def test_domains_are_pooled_for_methods_with_runs_in_all(self):
    small = f'{self._root}/small'
    run_folders.write_study(small, {'a': [10.0, 20.0, 99.0], 'b': [1.0]})
    run_folders.write_study(f'{self._root}/large', {'a': [30.0, 40.0]}, 50)

    groups = self._groups(self._root)

    [group] = [
        group
        for group in groups
        if group.domain == comparison.ALL_DOMAINS and group.phase == 'online'
    ]
    self.assertEqual(group.method, 'a')
    # Seed 2 ran in only one domain. The domain of length 5 comes first.
    np.testing.assert_array_equal(
        group.matrix('score'), [[10.0, 30.0], [20.0, 40.0]]
    )
    self.assertEqual(
        [result.score for result in group.flat()], [10.0, 20.0, 30.0, 40.0]
    )
    # Nor does a seed count that has no score in one of them.
    first, second = group.results
    first = {**first, 0: first[0]._replace(score=np.nan)}
    np.testing.assert_array_equal(
        group._replace(results=(first, second)).matrix('score'), [[20.0, 40.0]]
    )


class PairsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    root = run_folders.write_study(self.create_tempdir().full_path, _SCORES)
    self._groups = comparison.make_groups(runs.read_runs([root]).runs)

  def _couples(self, baseline=None):
    pairs = comparison.make_pairs(self._groups, baseline, num_resamples=100)
    self.assertLen(pairs, comparison.num_pairs(self._groups, baseline))
    return [(x.first, x.second) for x in pairs if x.phase == 'online']

  def test_every_pair_is_compared_with_the_higher_score_first(self):
    self.assertEqual(
        self._couples(),
        [('good', 'single'), ('good', 'bad'), ('single', 'bad')],
    )

  def test_all_other_methods_are_compared_with_the_baseline(self):
    self.assertEqual(
        self._couples('good'), [('bad', 'good'), ('single', 'good')]
    )

  def test_unknown_baseline_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "`baseline`.*'good'.*got 'best'"):
      comparison.make_pairs(self._groups, 'best')

  def test_phases_that_were_taken_over_are_not_compared(self):
    taken_over = [
        group._replace(
            results=tuple(
                {
                    # Of some seeds, at least.
                    seed: x._replace(
                        is_taken_over=group.phase == 'offline' and not seed
                    )
                    for seed, x in results.items()
                }
                for results in group.results
            )
        )
        for group in self._groups
    ]
    pairs = comparison.make_pairs(taken_over, num_resamples=100)
    self.assertEqual(
        {pair.phase for pair in pairs}, {'behavior_cloning', 'online'}
    )

  def test_progress_is_reported(self):
    counts = []
    comparison.make_pairs(
        self._groups, 'good', num_resamples=100, progress=counts.append
    )

    self.assertEqual(counts, [1, 2, 3, 4, 5, 6])


class VerdictTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('above', [80, 81, 82, 83, 84], [1, 2, 3, 4, 5], 'a is above b'),
      ('below', [1, 2, 3, 4, 5], [80, 81, 82, 83, 84], 'a is below b'),
      # The test is of means; the middle halves are equal.
      ('means', [100] * 3 + [50] * 9, [0] * 3 + [50] * 9, 'a is above b'),
      ('three_seeds', [80, 81, 82], [1, 2, 3],
       'not resolved; by chance in 10% of studies; .* need 4 seeds each'),
      # Variances 50 and 50, difference 10; see `needed_seeds`.
      ('overlap', [10, 20], [0, 10],
       'not resolved; by chance in 67% of studies; with the observed variance a'
       ' resolution would need 8 seeds each'),
      ('equal', [0, 2], [1, 1], 'not resolved; by chance in 100% of studies'),
      ('one_seed', [90], [0, 1], 'not resolved; by chance in 33% of studies'),
  )
  def test_order_is_claimed_only_if_it_is_resolved(
      self, first, second, text
  ):
    self.assertRegex(comparison.verdict(_pair(first, second)), f'^{text}$')


if __name__ == '__main__':
  absltest.main()
