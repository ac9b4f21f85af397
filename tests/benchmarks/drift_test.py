"""Tests of the drift of online success."""

import os

from absl.testing import absltest
import numpy as np

from benchmarks import drift
from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib
from tests.reports import run_folders


class DriftTest(absltest.TestCase):

  def _rows(self, scores, settings=''):
    rows = [run_folders.evaluated('offline', 1, 30.0)]
    rows += [
        run_folders.evaluated(
            'online', i + 2, score, episodes=10 * i + 11,
            values__start=-10.0 - i, values__start_realised=-20.0,
        )
        for i, score in enumerate(scores)
    ]
    folder = self.create_tempdir().full_path
    path = run_folders.write(os.path.join(folder, 'a', 'seed_0'), rows)
    with open(os.path.join(path, 'config.gin'), 'a', encoding='utf-8') as file:
      file.write(settings)
    return drift.measure(runs_lib.read_run(path, 'a'), [20, 30, 45])

  def test_fall_from_the_best_to_the_last_third(self):
    search, alone = self._rows([20.0, 80.0, 60.0, 40.0, 20.0, 0.0])

    self.assertEqual(
        {k: search[k] for k in ('run', 'policy', 'episodes', 'after_20',
                                'after_30', 'after_45')},
        {'run': 'a/seed_0', 'policy': 'search', 'episodes': 60,
         'after_20': '80.000', 'after_30': '60.000', 'after_45': ''},
    )
    # The last third has the evaluations after 50 and 60 episodes.
    self.assertEqual(search['last_third'], '10.000')
    self.assertEqual(search['fall'], '70.000')
    self.assertEqual(
        (search['first_start'], search['last_start']), ('-10.000', '-15.000')
    )
    self.assertLess(float(search['by_chance']), 5.0)
    # The policy alone has half the score.
    self.assertEqual((alone['policy'], alone['fall']), ('alone', '35.000'))

  def test_a_level_run_falls_by_chance(self):
    search, _ = self._rows([80.0] * 6)

    self.assertEqual(search['fall'], '0.000')
    self.assertEqual(search['by_chance'], '100.000')

  def test_a_rise_does_not_make_a_fall_look_like_chance(self):
    rises, _ = self._rows(
        [0.0, 0.0, 90.0, 100.0, 100.0, 80.0, 80.0, 80.0]
    )
    level, _ = self._rows(
        [90.0, 90.0, 90.0, 100.0, 100.0, 80.0, 80.0, 80.0]
    )

    self.assertLess(float(rises['by_chance']), 10.0)
    self.assertEqual(rises['by_chance'], level['by_chance'])

  def test_the_chance_is_that_of_the_episodes_of_each_evaluation(self):
    rates, is_late = np.array([0.9, 0.7]), np.array([False, True])
    few, many, mixed = (
        drift._chance_of_fall(rates, is_late, np.array(counts))
        for counts in ([20, 20], [2_000, 2_000], [20, 2_000])
    )
    self.assertBetween(few, 0.05, 0.5)
    self.assertLess(many, 0.001)
    self.assertBetween(mixed, many, few)

  def test_starts_that_keep_their_outcome_do_not_excuse_a_fall(self):
    is_late = np.array([False, False, False, True, True])
    always = np.repeat([[True] * 50 + [False] * 6], 5, axis=0)
    # Eight more starts succeed until the last third.
    lost = np.repeat(~is_late[:, np.newaxis], 8, axis=1)
    falling = np.concatenate([always, lost], axis=1)
    num_starts = np.full([5], 64)
    self.assertGreater(
        drift._chance_of_fall(falling.mean(axis=1), is_late, num_starts), 0.02
    )
    self.assertLess(drift._chance_of_order(falling, is_late), 0.001)
    # In another order in each start.
    for i in range(8):
      lost[:, i] = np.roll(lost[:, i], i)
    level = np.concatenate([always, lost], axis=1)
    self.assertGreater(drift._chance_of_order(level, is_late), 0.2)
    self.assertEqual(drift._chance_of_order(always, is_late), 1.0)

  def test_the_outcomes_of_a_run_are_those_of_its_evaluations(self):
    folder = self.create_tempdir().full_path
    path = run_folders.write(
        os.path.join(folder, 'a', 'seed_0'),
        [
            run_folders.evaluated('online', i + 1, score, episodes=10 * i + 11)
            for i, score in enumerate([100.0, 100.0, 100.0, 80.0])
        ],
    )
    found = []
    # The second is a method without a search.
    for policies in (('search', 'alone'), ('alone',)):
      lines = [','.join(run_files.EVALUATION_COLUMNS)]
      lines += [
          f'{row},online,{row + 1},{10 * row + 11},{policy},{start},'
          f'{int(start < 8 or row < 3)},,-1.0'
          for row in range(4)
          for policy in policies
          for start in range(10)
      ]
      with open(os.path.join(path, 'evaluations.csv'), 'w') as file:
        file.write('\n'.join(lines) + '\n')
      (row, _) = drift.measure(runs_lib.read_run(path, 'a'), [])
      found.append(float(row['by_chance']))
    # Two starts are lost in the last evaluation. Had they been lost in any of
    # the four, both were in the last two in a quarter of the cases.
    self.assertBetween(found[0], 23.0, 27.0)
    self.assertEqual(found[1], found[0])

  def test_only_the_online_phase_with_replay_has_warm_up_episodes(self):
    macro = 'num = 6\nOnline.num_warm_up_episodes = %num\n'
    for settings, episodes in (
        (macro, 15),
        ('run_experiment.online_ctor = @OnPolicy\n', 21),
        ('run_experiment.online_ctor = @phases.Online\n', 20),
    ):
      search, _ = self._rows([20.0, 80.0], settings)
      self.assertEqual(search['episodes'], episodes)

  def test_a_run_without_online_evaluation_has_no_row(self):
    self.assertEqual(self._rows([]), [])


if __name__ == '__main__':
  absltest.main()
