"""Tests of reading a dataset with the rewards of several tasks."""

from absl.testing import absltest
import numpy as np

from tests.datasets import d4rl_columns
from tests.datasets import dataset_case


class RecordedTasksTest(dataset_case.DatasetCase):

  def test_a_task_of_play_replaces_rewards_successes_and_ends(self):
    columns = d4rl_columns.make('----t-t')
    columns['infos/task_rewards'] = np.array(
        [[-1, 9], [-1, 9], [0, 9], [0, 9], [-1, 9], [-1, 9], [0, 9]], np.float32
    )
    success = columns['infos/task_rewards'] == 0
    columns['infos/task_successes'] = success
    d4rl_columns.write(self._path, columns)

    # Rows 2 and 3 end an episode each, row 4 times out, row 6 is a success.
    found = self._read(task=0)
    self.assertEqual([e.num_steps for e in found], [3, 1, 1, 2])
    self.assertEqual([e.discount[-1] for e in found], [0, 0, 1, 0])
    self.assertEqual([e.success[-1] for e in found], [1, 1, 0, 1])
    self.assertEqual(found[0].reward.tolist(), [-1, -1, 0])

    other = self._read(task=1)
    self.assertEqual([e.num_steps for e in other], [5, 2])
    self.assertEqual(other[1].reward.tolist(), [9, 9])
    # Without a task, the stored rewards are read.
    self.assertEqual(self._read()[0].reward.tolist(), [0] * 5)

  def test_success_in_a_task_need_not_end_an_episode(self):
    columns = d4rl_columns.make('---t')
    columns['infos/task_rewards'] = np.array([[-1], [0], [0], [-1]], np.float32)
    columns['infos/task_successes'] = columns['infos/task_rewards'] == 0
    d4rl_columns.write(self._path, columns)
    (episode,) = self._read(task=0, ends_at_success=False)
    self.assertEqual(episode.discount.tolist(), [1, 1, 1, 1])
    self.assertEqual(episode.success.tolist(), [False, True, True, False])

  def test_flags_may_be_numbers(self):
    columns = d4rl_columns.make('---t')
    columns['infos/task_rewards'] = np.float32([[-1], [0], [-1], [-1]])
    columns['infos/task_successes'] = np.float32([[0], [1], [0], [0]])
    columns['timeouts'] = columns['timeouts'].astype(np.float32)
    d4rl_columns.write(self._path, columns)
    found = self._read(task=0)
    self.assertEqual([e.num_steps for e in found], [2, 2])
    self.assertEqual([e.discount[-1] for e in found], [0, 1])

  def test_a_task_that_is_never_solved_is_warned_of(self):
    columns = d4rl_columns.make('---t')
    columns['infos/task_rewards'] = np.full([4, 1], -1, np.float32)
    columns['infos/task_successes'] = np.zeros([4, 1], np.bool_)
    d4rl_columns.write(self._path, columns)
    with self.assertLogs(level='WARNING') as logs:
      self._read(task=0)
    self.assertIn('the data never solve this task', logs.output[0])

  def test_play_without_actions_names_them(self):
    columns = d4rl_columns.make('---t')
    columns['infos/task_rewards'] = np.full([4, 1], -1, np.float32)
    columns['infos/task_successes'] = np.zeros([4, 1], np.bool_)
    del columns['actions']
    d4rl_columns.write(self._path, columns)
    with self.assertRaisesRegex(ValueError, '`actions` is required but mis'):
      self._read(task=0)

  def test_a_task_that_was_not_recorded_is_a_fault(self):
    rewards = np.zeros([4, 2], np.float32)
    columns = d4rl_columns.make('---t', **{'infos/task_rewards': rewards})
    d4rl_columns.write(self._path, columns)
    with self.assertRaisesRegex(
        ValueError,
        r'`infos/task_rewards` must have 4 rows with a column for task 2'
        r' .*got shape \(4, 2\)(.|\n)*`infos/task_successes`.*None',
    ):
      self._read(task=2)


if __name__ == '__main__':
  absltest.main()
