"""Tests of ends of episodes that contradict the task's time limit."""

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from parl_tf.domains import pointmaze
from tests.datasets import d4rl_columns
from tests.datasets import dataset_case


class EpisodeEndsTest(dataset_case.DatasetCase):

  def _hints(self, ends, limit=3, options=(), **changes):
    d4rl_columns.write(self._path, d4rl_columns.make(ends, **changes))
    layout = reading.make_layout(max_episode_steps=limit, **dict(options))
    found = inspection.inspect(self._path, layout)
    self.assertEmpty(found.faults)
    return found.end_hints

  def test_missing_timeouts_name_the_longest_episode(self):
    # Episode 1, rows 2 to 8, ran out of time twice.
    (hint,) = self._hints('-T--t--tT-T', timeouts=None)
    self.assertStartsWith(
        hint,
        'episode 1 has 7 steps from row 2 on, but the time limit of the task is'
        ' 3 steps (`max_episode_steps`), and there are no `timeouts`.',
    )

  def test_a_column_of_timeouts_that_is_never_set_is_as_good_as_none(self):
    (hint,) = self._hints('-T----T')
    self.assertStartsWith(
        hint,
        'episode 1 has 5 steps from row 2 on, but the time limit of the task is'
        ' 3 steps (`max_episode_steps`), and `timeouts` is never set.',
    )

  def test_rows_after_the_last_end_are_an_episode(self):
    (hint,) = self._hints('-T----', timeouts=None)
    self.assertStartsWith(hint, 'episode 1 has 4 steps from row 2 on')

  @parameterized.parameters(16_383, 16_384)
  def test_an_episode_across_batches_is_one(self, end):
    (hint,) = self._hints('-' * end + 'T-T', limit=100, timeouts=None)
    self.assertStartsWith(hint, f'episode 0 has {end + 1} steps from row 0')

  @parameterized.parameters(
      ('------t-T', 3, {}),  # Play has longer episodes than the task.
      ('--T-T', 3, {'timeouts': None}),
      ('------T', None, {'timeouts': None}),  # The limit is not known.
  )
  def test_there_is_nothing_to_hint_at(self, ends, limit, changes):
    self.assertEmpty(self._hints(ends, limit, **changes))

  def test_demonstrations_may_be_longer_than_the_limit(self):
    options = dict(every_episode_succeeds=True)
    self.assertEmpty(self._hints('-----T-T', options=options, timeouts=None))

  def test_terminals_at_the_time_limit_are_hinted_at(self):
    rewards = np.full([11], -1.0, np.float32)
    (hint,) = self._hints('--T--T-T--T', rewards=rewards)
    self.assertStartsWith(
        hint,
        '3 episodes end with `terminals` and without success at the time limit'
        ' of the task, 3 steps (`max_episode_steps`)',
    )

  def test_a_success_that_did_not_end_the_episode_does_not_explain_its_end(
      self,
  ):
    success = np.array([0, 1, 1, 1, 1, 1], np.bool_)
    (hint,) = self._hints('--T--T', **{'infos/success': success})
    self.assertIn('2 episodes end with', hint)

  @parameterized.parameters(
      ('--T--T', 3, {}),  # Each first success is terminal.
      ('-T-T--T', 3, {'rewards': np.zeros([7])}),  # Failures at any step.
      ('--T--T--t--t', 3, {'rewards': np.zeros([12])}),
      ('--T', 3, {'rewards': np.zeros([3])}),
      ('TTT', 1, {'rewards': np.zeros([3])}),
      ('--T--T', None, {'rewards': np.zeros([6])}),
  )
  def test_terminals_may_be_at_the_time_limit(self, ends, limit, changes):
    self.assertEmpty(self._hints(ends, limit, **changes))

  def test_ends_that_are_replaced_are_not_hinted_at(self):
    rewards = np.zeros([6])
    options = dict(is_binary=True)
    self.assertEmpty(self._hints('--T--T', options=options, rewards=rewards))

  def test_reading_for_a_task_warns(self):
    task = pointmaze.PointMaze(max_episode_steps=3)
    columns = d4rl_columns.make(
        '---T',
        observations=np.zeros([4, 4], np.float32),
        actions=np.eye(4, 2, dtype=np.float32),
        timeouts=None,
    )
    d4rl_columns.write(self._path, columns)
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      list(reading.read_episodes(self._path, **task.dataset_options()))
    self.assertLen(logs.output, 1)
    self.assertRegex(logs.output[0], 'data.hdf5: episode 0 has 4 steps')


if __name__ == '__main__':
  absltest.main()
