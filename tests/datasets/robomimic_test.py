"""Tests of reading demonstrations in robomimic's layout."""

import os

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import gin
import h5py
import numpy as np

from parl_tf.datasets import conversion
from parl_tf.datasets import formats
from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from parl_tf.datasets import rows
from tests.datasets import dataset_case


def _make(flags='--S', start=0, has_next=True, **changes):
  """Returns the arrays of a demonstration by path.

  Args:
    flags: One character per step: S is done and solved, d done, r solved.
    start: First entry of the observations.
    has_next: Whether to add `next_obs`.
    **changes: Arrays to replace, by path; None removes an array.
  """
  steps = len(flags)
  place = start + np.arange(2.0 * (steps + 1)).reshape([steps + 1, 2])
  arrays = {
      'obs/place': place[:-1],
      'obs/height': place[:-1, :1],
      'next_obs/place': place[1:] if has_next else None,
      'next_obs/height': place[1:, :1] if has_next else None,
      'actions': np.full([steps, 1], 0.5),
      'rewards': np.array([x in 'Sr' for x in flags], np.float64),
      'dones': np.array([x in 'Sd' for x in flags], np.int64),
      'states': np.zeros([steps, 3]),
  }
  arrays.update(changes)
  return {name: x for name, x in arrays.items() if x is not None}


class RobomimicTest(dataset_case.DatasetCase):

  file_name = 'demo.hdf5'

  def _write(self, episodes, names=None, num_samples=None):
    with h5py.File(self._path, 'w') as file:
      file.create_group('data').attrs['env_args'] = '{}'
      file['mask/train'] = np.array([b'demo_0'])
      for number, arrays in enumerate(episodes):
        name = names[number] if names else f'demo_{number}'
        group = file.create_group(f'data/{name}')
        group.attrs['num_samples'] = num_samples or len(arrays['dones'])
        for field, array in arrays.items():
          group[field] = array


class ReadTest(RobomimicTest):

  def test_episodes_that_exceed_the_time_limit_are_not_joined_ones(self):
    self._write([_make('-S'), _make('---S')])
    layout = reading.make_layout(max_episode_steps=2)
    self.assertEmpty(inspection.inspect(self._path, layout).end_hints)

  def test_demonstrations_match_the_file(self):
    self._write([_make('--S'), _make('-d', start=50)])
    first, second = self._read()
    self.assertEqual(
        {x: y.tolist() for x, y in first.observation.items()},
        {
            'place': [[0, 1], [2, 3], [4, 5], [6, 7]],
            'height': [[0], [2], [4], [6]],
        },
    )
    self.assertEqual(first.observation['place'].dtype, np.float32)
    self.assertEqual(
        second.observation['place'].tolist(), [[50, 51], [52, 53], [54, 55]]
    )
    self._check_solved_and_cut(first, second)

  def test_statistics(self):
    self._write([_make('--SS'), _make('-d', start=50)])
    found = self._check_figures(
        "robomimic's HDF5", num_terminals=1, num_timeouts=1, lengths=[3, 2],
        returns=[1, 0], successes=[True, False],
    )
    # Ranges cover the whole file, including the dropped steps.
    self.assertEqual(found.shapes['obs/place'], (6, 2))
    self.assertEqual(found.shapes['dones'], (6,))

  def test_a_timeout_without_next_observation_has_no_last_transition(self):
    self._write([_make('-S', has_next=False), _make('-d', has_next=False)])
    first, second = self._read()
    self.assertEqual(first.observation['place'].tolist(),
                     [[0, 1], [2, 3], [2, 3]])
    self.assertTrue(first.has_last_transition)
    self.assertFalse(second.has_last_transition)

  @parameterized.parameters(
      # Marked: only the end, each solved step, or both.
      ('-rrS', 4, 0), ('-SSS', 2, 0), ('-SS-', 2, 0), ('-S-d', 2, 0),
      ('--rd', 4, 1), ('----', 4, 1), ('---d', 4, 1), ('S', 1, 0),
  )
  def test_a_demonstration_ends_at_its_first_terminal_step(
      self, flags, num_steps, last_discount
  ):
    self._write([_make(flags)])
    episode, = self._read()
    self.assertEqual(
        episode.discount.tolist(), [1] * (num_steps - 1) + [last_discount]
    )
    self.assertLen(episode.observation['place'], num_steps + 1)
    # The next observation of the last step that is kept.
    self.assertEqual(episode.observation['place'][-1, 0], 2 * num_steps)

  def test_success_requires_a_reward_above_the_threshold(self):
    rewards = np.array([-1.0, -0.25, 0.0])
    self._write([_make('-dd', rewards=rewards)])
    episode, = self._read(success_reward=-0.5)
    self.assertEqual(episode.discount.tolist(), [1, 0])
    self.assertEqual(episode.success.tolist(), [False, True])

  def test_conversion_needs_a_success_to_know_the_end_of_the_task(self):
    self._write([_make('--S', rewards=np.array([-1.0, -1.0, 0.0]))])
    output = self._path + '.converted.hdf5'
    self.addCleanup(gin.clear_config)
    with self.assertRaisesRegex(ValueError, 'demo.hdf5: no step succeeds'):
      list(conversion.read([self._path]).episodes)
    with self.assertRaisesRegex(ValueError, 'demo.hdf5: no step succeeds'):
      conversion.convert([self._path], output)
    self.assertFalse(os.path.exists(output))

    gin.bind_parameter('dataset.success_reward', -0.5)
    conversion.convert([self._path], output)
    [episode] = reading.read_episodes(output)
    self.assertEqual(episode.discount.tolist(), [1.0, 1.0, 0.0])

  def test_success_field_can_be_named(self):
    self._write([_make('-dd', successes=np.array([0, 1, 1]))])
    episode, = self._read(success_field='successes')
    self.assertEqual(episode.discount.tolist(), [1, 0])
    self.assertEqual(episode.success.tolist(), [False, True])
    self.assertRegex(self._faults(success_field='won')[0], '`won`.*missing')

  def test_demonstrations_are_ordered_by_number_and_may_have_gaps(self):
    names = ['demo_10', 'demo_9', 'demo_2']
    self._write([_make(start=int(x[5:])) for x in names], names)
    self.assertEqual(
        [x.observation['place'][0, 0] for x in self._read()], [2, 9, 10]
    )

  def test_only_requested_parts_are_read(self):
    camera = np.zeros([3, 2, 2, 3], np.uint8)
    self._write([_make(**{'obs/camera': camera, 'next_obs/camera': camera})])
    with dataset_case.record_reads() as names:
      episode, = self._read(
          observation_spec={'place': specs.Array((2,), np.float32)}
      )
    self.assertEqual(list(episode.observation), ['place'])
    self.assertEqual(
        {x.removeprefix('/data/demo_0/') for x in names},
        {'actions', 'rewards', 'dones', 'obs/place', 'next_obs/place'},
    )

  def test_images_stay_bytes(self):
    camera = np.arange(48, dtype=np.uint8).reshape([4, 2, 2, 3])
    self._write([_make(
        **{'obs/camera': camera[:-1], 'next_obs/camera': camera[1:]}
    )])
    image = self._read()[0].observation['camera']
    self.assertEqual(image.dtype, np.uint8)
    np.testing.assert_array_equal(image, camera)

  def test_one_demonstration_is_read_at_a_time(self):
    self._write([_make(), _make()])
    with dataset_case.record_reads() as names:
      with formats.open_source(self._path, rows.Layout()) as source:
        self.assertEmpty(names)
        first = next(source.read())
    self.assertLen(first['rewards'], 3)
    self.assertEqual({x.split('/')[2] for x in names}, {'demo_0'})

  def test_some_demonstrations_may_have_integer_rewards(self):
    self._write([_make('-S'), _make('-d', rewards=np.zeros([2], np.int64))])
    self.assertLen(self._read(), 2)


class FaultTest(RobomimicTest):

  @parameterized.parameters(
      ('rewards', None, '`data/demo_0/rewards`.*missing'),
      ('actions', None, '`data/demo_0/actions`.*missing'),
      ('dones', None, '`data/demo_0/dones`.*missing'),
      ('obs/place', np.zeros([2, 2]),
       r'`data/demo_0/obs/place` must have 3 rows.*\(2, 2\)'),
      ('next_obs/place', np.zeros([4, 2]),
       r'`data/demo_0/next_obs/place` must have 3 rows.*\(4, 2\)'),
      ('dones', np.zeros([4]), r'`data/demo_0/dones` must have 3 rows'),
      ('next_obs/height', None,
       r"`next_observations` must have parts for \['obs/height', 'obs/place'\],"
       r" got \['next_obs/place'\]"),
      ('actions', np.zeros([3, 1], np.int64), '`actions` must be floating'),
      ('dones', np.array([0, 0, 2]), '`data/demo_0/dones` must be 0 or 1'),
      ('next_obs/place', np.zeros([3, 2]),
       '`obs/place` must equal `next_obs/place` of the previous row.*row 1'),
      ('obs/place/x', np.zeros([3, 1]), '`data/demo_0/obs/place`.*got a group'),
      ('dones', np.array([0, 1, 0]),
       '`data/demo_0/dones` must be 0 before.*step 1 of 3 is done with reward'),
  )
  def test_arrays_of_a_demonstration(self, name, array, message):
    arrays = {x: y for x, y in _make().items() if not name.startswith(x)}
    if array is not None:
      arrays[name] = array
    self._write([arrays], num_samples=3)
    self.assertRegex('\n'.join(self._faults()), 'demo.hdf5: ' + message)

  def test_no_observations(self):
    arrays = {x: y for x, y in _make().items() if 'obs' not in x}
    self._write([arrays])
    self.assertRegex(self._faults()[0], '`data/demo_0/obs`.*missing')

  def test_a_demonstration_without_steps(self):
    self._write([_make(), _make('')], num_samples=3)
    self.assertRegex(
        self._faults()[0], '`data/demo_1/actions` must have at least one row'
    )

  def test_demonstrations_with_different_keys(self):
    self._write([_make(), _make(has_next=False)])
    self.assertRegex(
        self._faults()[0], '`data/demo_1` must contain.*as `data/demo_0` does'
    )

  def test_a_number_of_samples_that_contradicts_the_arrays(self):
    self._write([_make()], num_samples=4)
    self.assertRegex(
        self._faults()[0], '`data/demo_0.num_samples` must be 3.*got 4'
    )

  @parameterized.parameters('demo_01', 'other', 'demo_')
  def test_names_of_groups(self, name):
    self._write([_make(), _make()], ['demo_0', name])
    self.assertRegex(
        self._faults()[0], f'`data/{name}` must be a complete group `demo_<n>`'
    )

  def test_no_demonstrations(self):
    self._write([])
    self.assertRegex(self._faults()[0], '`data/demo_0` is required but missing')

  @parameterized.parameters(0.05, 0.5, 0.99)
  def test_truncated_file(self, share):
    self._write([_make('-' * 50), _make('-' * 50)])
    self._check_cut_short(self._path, share, 'demo.hdf5: .*truncated')

  def test_corruption_anywhere_is_reported_or_harmless(self):
    self._write([_make(), _make()])
    # The root group at the start of the file identifies the format.
    self._check_damage_anywhere(self._path, first=2_048)


if __name__ == '__main__':
  absltest.main()
