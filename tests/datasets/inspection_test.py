"""Tests of the figures of a file; its faults are tested with `d4rl`."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import h5py
import numpy as np

from parl_tf.datasets import inspection


class InspectionTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'data.hdf5')

  def _write(self, num_rows, terminals, timeouts, rewards, actions):
    with h5py.File(self._path, 'w') as file:
      file['observations'] = np.arange(num_rows, dtype=np.float32)[:, None]
      file['actions'] = np.asarray(actions, np.float32)
      file['rewards'] = np.asarray(rewards, np.float32)
      file['terminals'] = np.isin(np.arange(num_rows), terminals)
      file['timeouts'] = np.isin(np.arange(num_rows), timeouts)

  def test_figures(self):
    # Episodes: rows 0-1 (terminal), 2-4 (time-out), 5 (no end).
    self._write(
        6, [1], [4], [0, 1, 0.25, 0, -0.5, 0],
        [[0, 0.5], [1, -1], [0.5, 0], [0, 0], [0, 0], [0, 0]],
    )
    found = inspection.inspect(self._path)
    self.assertEmpty(found.faults)
    self.assertEqual(found.num_rows, 6)
    self.assertEqual(found.num_terminals, 1)
    self.assertEqual(found.num_timeouts, 1)
    self.assertEqual(found.num_trailing_rows, 1)
    self.assertEqual(found.lengths.tolist(), [2, 3, 1])
    self.assertEqual(found.returns.tolist(), [1.0, -0.25, 0.0])
    self.assertEqual(found.successes.tolist(), [True, True, False])
    self.assertEqual(found.observation_range[0].tolist(), [0])
    self.assertEqual(found.observation_range[1].tolist(), [5])
    self.assertEqual(found.action_range[0].tolist(), [0, -1])
    self.assertEqual(found.action_range[1].tolist(), [1, 0.5])
    self.assertAlmostEqual(found.saturation, 2 / 12)
    self.assertEqual(found.shapes['actions'], (6, 2))

  def test_a_file_that_ends_with_an_end_has_no_trailing_rows(self):
    self._write(3, [], [2], [0, 0, 0], np.zeros([3, 1]))
    found = inspection.inspect(self._path)
    self.assertEqual(found.num_trailing_rows, 0)
    self.assertEqual(found.lengths.tolist(), [3])

  @parameterized.parameters(16_383, 16_384, 16_385)
  def test_episodes_across_chunks_are_counted_once(self, end):
    num_rows = 20_000
    rewards = np.zeros([num_rows])
    rewards[[end - 1, end]] = 1, 2
    self._write(num_rows, [end], [19_999], rewards, np.zeros([num_rows, 1]))
    found = inspection.inspect(self._path)
    self.assertEqual(found.lengths.tolist(), [end + 1, num_rows - end - 1])
    self.assertEqual(found.returns.tolist(), [3, 0])

  def test_a_kind_of_fault_is_named_once(self):
    self._write(4, [3], [], [np.nan] * 4, np.zeros([4, 1]))
    found = inspection.inspect(self._path)
    self.assertLen(found.faults, 1)
    self.assertIn('row 0', found.faults[0])

  def test_figures_count_what_a_faulty_file_holds(self):
    self._write(4, [1], [3], [0, 1, 0, 0], np.full([4, 1], 2.0))
    found = inspection.inspect(self._path)
    self.assertLen(found.faults, 1)
    self.assertEqual(found.lengths.tolist(), [2, 2])

  def test_a_file_that_is_not_there_is_a_fault(self):
    found = inspection.inspect(self._path)
    self.assertIn('no such file', found.faults[0])
    self.assertEqual(found.num_rows, 0)


if __name__ == '__main__':
  absltest.main()
