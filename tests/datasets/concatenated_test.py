"""Tests of nested observations that are concatenated to one array."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import h5py
import numpy as np

from parl_tf.datasets import formats
from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from parl_tf.datasets import rows
from parl_tf.domains import gymnasium

_KEYS = ('goal', 'state')


def _columns(**changes):
  """Returns the columns of five steps; None removes one."""
  columns = {
      'observations/state': np.arange(10, dtype=np.float32).reshape(5, 2),
      'observations/goal': np.arange(20.0, 35.0).reshape(5, 3),
      'observations/unused': np.zeros([5, 1], np.float32),
      'actions': np.zeros([5, 1], np.float32),
      'rewards': np.zeros([5], np.float32),
      'terminals': np.array([0, 0, 0, 0, 1]),
  }
  columns.update(changes)
  return {name: array for name, array in columns.items() if array is not None}


class ConcatenatedTest(parameterized.TestCase):

  def _write(self, columns):
    path = os.path.join(self.create_tempdir().full_path, 'data.hdf5')
    with h5py.File(path, 'w') as file:
      for name, array in columns.items():
        file[name] = array
    return path

  def _faults(self, columns, **layout):
    path = self._write(columns)
    layout = rows.Layout(concatenated_keys=_KEYS, **layout)
    return inspection.inspect(path, layout).faults

  def test_parts_are_joined_in_the_order_of_the_keys(self):
    columns = _columns()
    path = self._write(columns)
    (episode,) = reading.read_episodes(path, concatenated_keys=_KEYS)
    np.testing.assert_array_equal(
        episode.observation[:5],
        np.hstack([columns[f'observations/{key}'] for key in _KEYS]),
    )

  def test_next_observations_are_joined_as_well(self):
    columns = _columns(**{
        f'next_observations/{key}': np.full([5, size], 50.0 + size)
        for key, size in (('state', 2), ('goal', 3), ('unused', 1))
    })
    path = self._write(columns)
    with formats.open_source(
        path, rows.Layout(concatenated_keys=_KEYS)
    ) as source:
      (found,) = source.read()
      self.assertEqual(source.columns['next_observations'].shape, (5, 5))
    self.assertEqual(
        found['next_observations'][0].tolist(), [53, 53, 53, 52, 52]
    )
    self.assertNotIn('observations/state', found)

  def test_one_array_is_read_as_it_is(self):
    array = np.ones([5, 5], np.float32)
    path = self._write(_columns(**{
        'observations/state': None,
        'observations/goal': None,
        'observations/unused': None,
        'observations': array,
    }))
    (episode,) = reading.read_episodes(path, concatenated_keys=_KEYS)
    np.testing.assert_array_equal(episode.observation[:5], array)

  @parameterized.parameters(
      ({'observations/goal': None}, r"parts \['goal', 'state'\].*\['goal'\]"),
      ({'observations/goal': np.zeros([4, 3])}, r'one row per step.*\(4, 3\)'),
      (
          {'observations/goal': np.full([5, 3], b'x')},
          r'observations/goal, observations/state.*dtype',
      ),
      (
          {'observations/goal': np.full([5, 3], np.nan)},
          'observations/goal.*must be finite',
      ),
  )
  def test_faults_name_the_parts(self, changes, message):
    (fault,) = self._faults(_columns(**changes))
    self.assertRegex(fault, message)

  def test_wrong_size_names_both_shapes(self):
    faults = self._faults(_columns(), observation_shape=(4,))
    self.assertRegex(faults[0], r'\(5, 4\), got \(5, 5\)')

  def test_format_is_that_of_the_file(self):
    path = self._write(_columns())
    found = inspection.inspect(path, rows.Layout(concatenated_keys=_KEYS))
    self.assertEqual(found.format, inspection.inspect(path).format)

  def test_a_flattened_task_reads_the_parts(self):
    task = gymnasium.Gymnasium(
        'gymnasium_robotics:FetchReach-v4', flatten_observation=True
    )
    environment = task.make_environment(0, evaluation=True)
    parts = environment.gymnasium_environment.reset(seed=3)[0]
    columns = {
        'actions': np.zeros([2, 4], np.float32),
        'rewards': -np.ones([2]),
        'terminals': np.zeros([2]),
        'timeouts': np.array([0, 1]),
    }
    for key, part in parts.items():
      columns[f'observations/{key}'] = np.stack([part, part])

    path = self._write(columns)
    (episode,) = reading.read_episodes(path, **task.dataset_options())

    space = environment.gymnasium_environment.observation_space
    wanted = np.concatenate([parts[key] for key in space.spaces])
    np.testing.assert_allclose(episode.observation[0], wanted, rtol=1e-6)
    self.assertEqual(task.observation_spec().shape, wanted.shape)


if __name__ == '__main__':
  absltest.main()
