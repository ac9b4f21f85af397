"""Tests of one table of stored steps in memory."""

import tracemalloc

from absl.testing import parameterized
import hypothesis
from hypothesis import strategies
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf.replay import step_table


def _steps(first, num_steps):
  """Returns steps whose observations and rewards count from `first`."""
  count = np.arange(first, first + num_steps)
  return trajectory.Trajectory(
      step_type=np.ones(num_steps, np.int32),
      observation=count[:, np.newaxis].astype(np.float32),
      action=np.zeros((num_steps, 2), np.float32),
      policy_info={
          'episode_id': np.zeros(len(count), np.int64),
          'step_index': count.astype(np.int32),
      },
      next_step_type=np.ones(num_steps, np.int32),
      reward=count.astype(np.float32),
      discount=np.ones(num_steps, np.float32),
  )


def _all_rows(table):
  """Returns the observations of all transitions, `[num_transitions, 2]`."""
  rows = table.rows(np.arange(table.num_transitions))
  return rows.observation[..., 0]


class StepTableTest(parameterized.TestCase):

  def test_transitions_are_consecutive_steps_of_one_episode(self):
    table = step_table.StepTable('offline', capacity=10)
    table.add(_steps(0, 3), 2)
    table.add(_steps(10, 2), 1)
    np.testing.assert_array_equal(_all_rows(table), [[0, 1], [1, 2], [10, 11]])
    np.testing.assert_array_equal(
        table.states().observation[:, 0], [0, 1, 2, 10, 11]
    )
    self.assertEqual(table.num_steps, 5)

  def test_steps_outside_transitions_are_not_stored(self):
    table = step_table.StepTable('offline', capacity=10)
    table.add(_steps(0, 4), 2)
    table.add(_steps(10, 2), 0)
    self.assertEqual(table.num_steps, 3)
    self.assertEqual(table.num_transitions, 2)

  def test_oldest_transitions_are_removed_first(self):
    table = step_table.StepTable('online', capacity=3)
    table.add(_steps(0, 3), 2)
    table.add(_steps(10, 3), 2)
    # The first episode lost one of its two transitions, and with it step 0.
    np.testing.assert_array_equal(
        _all_rows(table), [[1, 2], [10, 11], [11, 12]]
    )
    np.testing.assert_array_equal(
        table.states().observation[:, 0], [1, 2, 10, 11, 12]
    )

  def test_table_keeps_the_end_of_an_episode_that_exceeds_it(self):
    table = step_table.StepTable('online', capacity=2)
    table.add(_steps(0, 2), 1)
    table.add(_steps(10, 5), 4)
    np.testing.assert_array_equal(_all_rows(table), [[12, 13], [13, 14]])
    self.assertEqual(table.num_steps, 3)

  @hypothesis.settings(derandomize=True, deadline=None, max_examples=30)
  @hypothesis.given(
      strategies.integers(1, 12),
      strategies.lists(
          strategies.tuples(strategies.integers(1, 9), strategies.booleans()),
          min_size=1,
          max_size=12,
      ),
  )
  def test_contents_are_the_latest_transitions(self, capacity, episodes):
    table = step_table.StepTable('online', capacity)
    wanted = []
    for index, (num_steps, has_last) in enumerate(episodes):
      num_transitions = num_steps - (0 if has_last else 1)
      first = 100 * index
      table.add(_steps(first, num_steps + 1), num_transitions)
      wanted += [(first + t, first + t + 1) for t in range(num_transitions)]
    wanted = wanted[-capacity:]
    self.assertEqual(table.num_transitions, len(wanted))
    if wanted:
      np.testing.assert_array_equal(_all_rows(table), wanted)
      stored = sorted({step for row in wanted for step in row})
      np.testing.assert_array_equal(table.states().observation[:, 0], stored)

  def test_rows_of_two_steps_do_not_go_past_their_episode(self):
    table = step_table.StepTable('offline', capacity=10, chunk_length=2)
    for first in (0, 10):
      table.add(_steps(first, 3), 2)
    np.testing.assert_array_equal(
        table.rows(np.arange(4)).reward,
        [[0, 1, 2], [1, 2, 2], [10, 11, 12], [11, 12, 12]],
    )

  def test_storage_for_the_capacity_is_not_allocated_at_once(self):
    table = step_table.StepTable('offline', capacity=10**9)
    table.add(_steps(0, 3), 2)
    self.assertEqual(table.num_transitions, 2)

  def test_rows_have_the_candidates_of_their_steps(self):
    table = step_table.StepTable('offline', capacity=3)
    for first in (0, 10, 20):
      table.add(_steps(first, 3), 2)
    # Steps 11, 12, 20, 21, 22 remain; the candidates of each are its number.
    observations = table.states().observation
    candidates = np.tile(observations[:, np.newaxis, :], (1, 4, 2))
    table.set_candidates(candidates)
    rows = table.rows(np.arange(3))
    joined = rows.policy_info['candidate_actions']
    self.assertEqual(joined.shape, (3, 2, 4, 2))
    np.testing.assert_array_equal(joined[..., 3, 1], rows.observation[..., 0])

  def test_rows_of_a_part_of_the_candidates_copy_no_more(self):
    table = step_table.StepTable('offline', capacity=100)
    table.add(_steps(0, 3), 2)
    candidates = np.zeros((1_000_000, 8, 2), np.float16)[:, :4]
    table.set_candidates(candidates, np.array([7, 3, 9]))
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)

    rows = table.rows(np.array([0, 1]))

    self.assertEqual(
        rows.policy_info['candidate_actions'].shape, (2, 2, 4, 2)
    )
    self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)

  def test_moved_steps_are_not_in_memory_twice(self):
    table = step_table.StepTable('online', capacity=4_000)
    wide = np.ones((2_000, 4_096), np.float32)
    table.add(_steps(0, 2_000)._replace(observation=wide), 1_999)
    old = table._storage.observation
    # Makes the table move its steps to a larger array.
    table.add(_steps(2_000, 300)._replace(observation=wide[:300]), 299)

    self.assertIsNot(table._storage.observation, old)
    self.assertEqual(np.count_nonzero(old), 0)
    self.assertEqual(np.count_nonzero(table.states().observation - 1.0), 0)

  def test_adding_clears_candidates(self):
    table = step_table.StepTable('offline', capacity=5)
    table.add(_steps(0, 3), 2)
    table.set_candidates(np.zeros((3, 4, 2), np.float32))
    self.assertTrue(table.has_candidates)
    table.add(_steps(10, 3), 2)
    self.assertFalse(table.has_candidates)
    self.assertNotIn(
        'candidate_actions', table.rows(np.arange(1)).policy_info
    )

  def test_changes_of_candidates_are_counted(self):
    table = step_table.StepTable('offline', capacity=5)
    table.add(_steps(0, 3), 2)
    table.set_candidates(np.zeros((3, 4, 2), np.float32))
    self.assertEqual(table.num_changes, 2)
    for _ in range(2):
      table.clear_candidates()
      self.assertEqual(table.num_changes, 3)

  def test_candidates_may_be_half_precision_rows_of_a_larger_array(self):
    table = step_table.StepTable('offline', capacity=5)
    table.add(_steps(0, 3), 2)
    candidates = np.arange(10, dtype=np.float16)[:, np.newaxis, np.newaxis]
    table.set_candidates(np.tile(candidates, (1, 4, 2)), np.array([7, 3, 9]))
    joined = table.rows(np.arange(2)).policy_info['candidate_actions']
    self.assertEqual(joined.dtype, np.float32)
    np.testing.assert_array_equal(joined[:, :, 3, 1], [[7, 3], [3, 9]])

  @parameterized.named_parameters(
      ('steps', np.zeros((2, 4, 2), np.float32), r'has 3 steps, but .*\[2\]'),
      ('action', np.zeros((3, 4, 1), np.float32), r'float32 of shape \[num_'),
      ('rank', np.zeros((3, 2), np.float32), r'got float32 of shape \[3, 2\]'),
      ('dtype', np.zeros((3, 4, 2)), 'got float64'),
  )
  def test_candidates_of_another_shape_are_an_error(self, candidates, fault):
    table = step_table.StepTable('offline', capacity=5)
    table.add(_steps(0, 3), 2)
    with self.assertRaisesRegex(ValueError, f'table `offline`.*{fault}'):
      table.set_candidates(candidates)


if __name__ == '__main__':
  tf.test.main()
