"""Tests of recording a data set with a domain's own controller."""

import os

from absl.testing import absltest
import gin
import h5py
import numpy as np

from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from parl_tf.domains import pointmaze
from parl_tf.training import recording
from tests.training import small_run


class _Uncontrolled(pointmaze.PointMaze):

  def make_data_controller(self, environment):
    return None


class RecordingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._dir = self.create_tempdir().full_path
    self._path = os.path.join(self._dir, 'data.hdf5')

  def _record(self, path, seed, **kwargs):
    recording.record_dataset(
        small_run.make_domain(), path, num_steps=42, seed=seed, **kwargs
    )
    return list(reading.read_episodes(path))

  def test_file_has_no_fault_and_the_steps_asked_for(self):
    steps = []
    episodes = self._record(self._path, 0, progress=steps.append)
    self.assertEmpty(inspection.inspect(self._path).faults)
    # Episodes of at most 5 steps; the last is cut at 42.
    self.assertEqual(sum(e.num_steps for e in episodes), 42)
    self.assertEqual(steps, np.cumsum([e.num_steps for e in episodes]).tolist())

  def test_file_is_a_function_of_the_seed(self):
    first, again, other = (
        self._record(os.path.join(self._dir, name), seed)
        for name, seed in (('a', 3), ('b', 3), ('c', 4))
    )
    for one, same in zip(first, again, strict=True):
      np.testing.assert_array_equal(one.observation, same.observation)
      np.testing.assert_array_equal(one.action, same.action)
    self.assertFalse(np.array_equal(first[0].action, other[0].action))

  def test_file_tells_what_made_it(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config('PointMaze.start_noise = 0.2')
    self._record(self._path, 3, metadata={'domain': 'pointmaze'})
    with h5py.File(self._path, 'r') as file:
      attributes = dict(file['metadata'].attrs)
    self.assertEqual(attributes['num_steps'], 42)
    self.assertEqual(attributes['seed'], 3)
    self.assertEqual(attributes['domain'], 'pointmaze')
    self.assertIn('PointMaze.start_noise = 0.2', attributes['gin_config'])

  def test_domain_without_controller_is_an_error_and_leaves_nothing(self):
    with self.assertRaisesRegex(ValueError, '_Uncontrolled must have a contr'):
      recording.record_dataset(
          _Uncontrolled(size='UMaze', min_start_distance=2),
          self._path,
          num_steps=10,
          seed=0,
      )
    self.assertEmpty(os.listdir(self._dir))


if __name__ == '__main__':
  absltest.main()
