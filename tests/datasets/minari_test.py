"""Tests of reading Minari datasets."""

import json
import os

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import h5py
import numpy as np
import tensorflow as tf

from parl_tf.datasets import formats
from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from parl_tf.datasets import rows
from tests.datasets import dataset_case


def _make(num_steps=3, start=0, end='terminations', **changes):
  """Returns the arrays of an episode by path; None removes one."""
  is_last = np.arange(num_steps) == num_steps - 1
  rows_ = num_steps + 1
  arrays = {
      'observations': start + np.arange(2 * rows_, dtype=np.float32).reshape(
          rows_, 2
      ),
      'actions': np.full([num_steps, 1], 0.5, np.float32),
      'rewards': (is_last & (end == 'terminations')).astype(np.float64),
      'terminations': is_last & (end == 'terminations'),
      'truncations': is_last & (end == 'truncations'),
  }
  arrays.update(changes)
  return {name: x for name, x in arrays.items() if x is not None}


class MinariTest(dataset_case.DatasetCase):

  file_name = 'walk-v0'

  def setUp(self):
    super().setUp()
    self._data = os.path.join(self._path, 'data')
    self._file = os.path.join(self._data, 'main_data.hdf5')
    self._metadata = os.path.join(self._data, 'metadata.json')

  def _write(self, episodes, attributes=(), names=None, **metadata):
    """Writes episodes; `attributes` apply to the last one."""
    os.makedirs(self._data, exist_ok=True)
    with h5py.File(self._file, 'w') as file:
      for number, arrays in enumerate(episodes):
        group = file.create_group(names[number] if names
                                  else f'episode_{number}')
        group.attrs['id'] = number
        group.attrs['total_steps'] = len(arrays.get('rewards', ()))
        for name, array in arrays.items():
          group[name] = array
      for name, value in dict(attributes).items():
        group.attrs[name] = value
    metadata = {
        'total_episodes': len(episodes),
        'total_steps': sum(len(x.get('rewards', ())) for x in episodes),
        'data_format': 'hdf5',
        **metadata,
    }
    with open(self._metadata, 'w', encoding='utf-8') as file:
      json.dump(metadata, file)


class ReadTest(MinariTest):

  def test_episodes_match_the_file(self):
    self._write([_make(3), _make(2, start=50, end='truncations')])
    first, second = self._read()
    self.assertEqual(
        first.observation.tolist(), [[0, 1], [2, 3], [4, 5], [6, 7]]
    )
    self.assertEqual(
        second.observation.tolist(), [[50, 51], [52, 53], [54, 55]]
    )
    self._check_solved_and_cut(first, second)
    self.assertEqual([first.episode_id, second.episode_id], [0, 1])

  def test_the_path_may_be_the_data_directory(self):
    self._write([_make()])
    self.assertLen(list(reading.read_episodes(self._data)), 1)

  def test_statistics(self):
    self._write([_make(3), _make(2, start=50, end='truncations')])
    found = self._check_figures(
        'Minari', num_terminals=1, num_timeouts=1, lengths=[3, 2],
        returns=[1, 0], successes=[True, False],
    )
    self.assertEqual(found.reward_range, (0, 1))
    self.assertEqual(found.shapes['observations'], (5, 2))
    self.assertEqual(found.shapes['terminations'], (5,))
    # The last observation of an episode belongs to no step.
    low, high = found.observation_ranges['observations']
    self.assertEqual((low.tolist(), high.tolist()), ([0, 1], [52, 53]))

  def test_episodes_are_ordered_by_number(self):
    self._write([_make(1, start=number) for number in range(12)])
    self.assertEqual(
        [x.observation[0, 0] for x in self._read()], list(range(12))
    )

  def test_nested_observations_are_named_by_their_paths(self):
    place, speed = np.ones([4, 2], np.float32), np.zeros([4, 1], np.float32)
    self._write([_make(observations=None, **{
        'observations/goal': place,
        'observations/arm/_index_0': 2 * place,
        'observations/arm/_index_1': speed,
    })])
    episode, = self._read()
    self.assertSameStructure(
        {x: y.tolist() for x, y in episode.observation.items()},
        {
            'goal': place.tolist(),
            'arm/_index_0': (2 * place).tolist(),
            'arm/_index_1': speed.tolist(),
        },
    )

  def test_only_requested_parts_are_read(self):
    self._write([_make(observations=None, **{
        'observations/place': np.ones([4, 2], np.float32),
        'observations/camera': np.zeros([4, 2, 2, 3], np.uint8),
    })])
    with dataset_case.record_reads() as names:
      episode, = self._read(
          observation_spec={'place': specs.Array((2,), np.float32)}
      )
    self.assertEqual(list(episode.observation), ['place'])
    self.assertIn('/episode_0/observations/place', names)
    self.assertNotIn('/episode_0/observations/camera', names)

  def test_one_episode_is_read_at_a_time(self):
    self._write([_make(), _make()])
    with dataset_case.record_reads() as names:
      with formats.open_source(self._path, rows.Layout()) as source:
        self.assertEmpty(names)
        first = next(source.read())
    self.assertLen(first['rewards'], 3)
    self.assertEqual({x.split('/')[1] for x in names}, {'episode_0'})

  @parameterized.parameters(
      ([0, 1, 0, 1], [True, False, True]),  # Starts with the initial state.
      ([0, 1, 0], [False, True, False]),
  )
  def test_success_flags(self, flags, expected):
    self._write([_make(**{'infos/success': np.array(flags, np.bool_)})])
    self.assertEqual(self._read()[0].success.tolist(), expected)

  def test_success_field_can_be_named(self):
    self._write([_make(**{'infos/solved': np.array([0, 0, 1, 0])})])
    episode, = self._read(success_field='infos/solved')
    self.assertEqual(episode.success.tolist(), [False, True, False])
    self.assertRegex(
        self._faults(success_field='infos/won')[0], '`infos/won`.*missing'
    )

  def test_an_episode_without_end_times_out(self):
    self._write([_make(2, end=''), _make(2)])
    first, second = self._read()
    self.assertEqual(first.discount.tolist(), [1, 1])
    self.assertEqual(second.discount.tolist(), [1, 0])

  def test_a_terminal_step_that_is_also_truncated_is_terminal(self):
    self._write([_make(2, truncations=np.array([False, True]))])
    self.assertEqual(self._read()[0].discount.tolist(), [1, 0])

  @parameterized.parameters(np.float16, np.float64)
  def test_other_floats_are_cast(self, dtype):
    arrays = _make()
    for name in ('observations', 'actions', 'rewards'):
      arrays[name] = arrays[name].astype(dtype)
    self._write([arrays])
    episode, = self._read()
    for array in (episode.observation, episode.action, episode.reward):
      self.assertEqual(array.dtype, np.float32)

  @parameterized.parameters(1, 3)
  def test_images_are_decoded(self, channels):
    # JPEG preserves uniform grey images exactly.
    frames = [np.full([8, 8, channels], 40 * x, np.uint8) for x in range(4)]
    coded = [
        np.frombuffer(tf.io.encode_jpeg(x).numpy(), np.uint8) for x in frames
    ]
    # Bytes after the end of a JPEG file are ignored.
    length = max(map(len, coded))
    even = np.stack([np.pad(x, [0, length - len(x)]) for x in coded])
    ragged = np.empty([4], object)
    ragged[:] = [np.pad(x, [0, index]) for index, x in enumerate(coded)]
    self._write([_make(observations=None)])
    expected = np.array(frames)
    expected = expected[..., 0] if channels == 1 else expected
    for name, data, dtype in (
        ('even', even, None),
        ('ragged', ragged, h5py.vlen_dtype(np.uint8)),
    ):
      with self.subTest(name):
        with h5py.File(self._file, 'a') as file:
          if 'observations' in file['episode_0']:
            del file['episode_0/observations']
          file.create_dataset('episode_0/observations', data=data, dtype=dtype)
        episode, = self._read()
        self.assertEqual(episode.observation.dtype, np.uint8)
        np.testing.assert_array_equal(episode.observation, expected)
    self.assertEqual(
        inspection.inspect(self._path).shapes['observations'],
        (3, *expected.shape[1:]),
    )


class FaultTest(MinariTest):

  @parameterized.parameters(
      ('rewards', None, '`episode_0/rewards`.*missing'),
      ('actions', None, '`episode_0/actions`.*missing'),
      ('observations', None, '`episode_0/observations`.*missing'),
      ('terminations', None, '`episode_0/terminations`.*missing'),
      ('truncations', None, '`episode_0/truncations`.*missing'),
      ('observations', np.zeros([3, 2], np.float32),
       r'`episode_0/observations` must have 4 rows for 3 steps.*\(3, 2\)'),
      ('rewards', np.zeros([4]),
       r'`episode_0/rewards` must have 3 rows.*\(4,\)'),
      ('infos/success', np.zeros([5]),
       r'`episode_0/infos/success` must have 3 rows.*\(5,\)'),
      ('actions', np.zeros([3, 1], np.int64), '`actions` must be floating'),
      ('terminations', np.array([0, 0, 2]),
       '`terminations` must be 0 or 1; row 2 has value 2'),
      ('terminations', np.array([False, True, False]),
       '`episode_0/terminations`.*before the last step, but step 1 of 3'),
  )
  def test_arrays_of_an_episode(self, name, array, message):
    self._write([_make(**{name: array})], [('total_steps', 3)], total_steps=3)
    self.assertRegex('\n'.join(self._faults()), message)

  def test_a_group_instead_of_an_array(self):
    arrays = _make(actions=None, **{'actions/arm': np.zeros([3, 1])})
    self._write([arrays])
    self.assertRegex(self._faults()[0], '`episode_0/actions`.*got a group')

  def test_an_episode_without_steps(self):
    self._write([_make(), _make(0)])
    self.assertRegex(
        self._faults()[0], '`episode_1/actions` must have at least one row'
    )

  def test_episodes_with_different_keys(self):
    self._write([_make(), _make(**{'infos/success': np.zeros([3])})])
    self.assertRegex(
        self._faults()[0],
        r"`episode_1` must contain \['actions'.*as `episode_0` does.*success",
    )

  def test_episodes_with_different_shapes(self):
    self._write([_make(), _make(actions=np.zeros([3, 2], np.float32))])
    self.assertRegex(
        self._faults()[0], r'`episode_1/actions`.*\(1,\).*got \(2,\)'
    )

  def test_each_kind_of_fault_is_reported_once(self):
    self._write([_make(), _make(0), _make(0)])
    self.assertLen(self._faults(), 1)

  @parameterized.parameters(
      ('id', 0, '`episode_1.id` must be 1.*got 0'),
      ('total_steps', 4, '`episode_1.total_steps` must be 3.*got 4'),
  )
  def test_attributes_that_contradict_the_group(self, name, value, message):
    self._write([_make(), _make()], {name: value})
    self.assertRegex(self._faults()[0], 'main_data.hdf5: ' + message)

  @parameterized.parameters(
      ('total_episodes', 3, '`total_episodes` must be 2, .*got 3'),
      ('total_steps', 7, '`total_steps` must be 6, .*got 7'),
  )
  def test_metadata_that_contradict_the_file(self, name, value, message):
    self._write([_make(), _make()], **{name: value})
    self.assertRegex(self._faults()[0], 'metadata.json: ' + message)

  @parameterized.parameters(
      (['episode_0', 'episode_2'], '`episode_1` is missing before episode_2'),
      (['episode_0', 'episode_01'], '`episode_01` must be a complete group'),
      (['episode_0', 'other'], '`other` must be a complete group'),
  )
  def test_names_of_groups(self, names, message):
    self._write([_make(), _make()], names=names)
    self.assertRegex(self._faults()[0], message)

  def test_no_episodes(self):
    self._write([])
    self.assertRegex(self._faults()[0], '`episode_0`.*missing')

  def test_an_unsupported_back_end(self):
    self._write([_make()], data_format='arrow')
    message = "metadata.json: `data_format` must be 'hdf5'.*got 'arrow'"
    self.assertRegex(self._faults()[0], message)
    os.remove(self._file)
    self.assertRegex(self._faults()[0], message)

  def test_one_of_the_two_files_is_missing(self):
    self._write([_make()])
    os.remove(self._metadata)
    self.assertRegex(self._faults()[0], 'metadata.json: .*missing')
    self._write([_make()])
    os.remove(self._file)
    self.assertRegex(self._faults()[0], 'main_data.hdf5: .*missing')

  @parameterized.parameters(('{"total', 'corrupt'), ('[1]', 'object, got list'))
  def test_invalid_metadata(self, text, message):
    self._write([_make()])
    with open(self._metadata, 'w', encoding='utf-8') as file:
      file.write(text)
    self.assertRegex(self._faults()[0], 'metadata.json: .*' + message)

  @parameterized.parameters(0.05, 0.5, 0.99)
  def test_truncated_file(self, share):
    self._write([_make(50), _make(50)])
    self._check_cut_short(self._file, share, 'main_data.hdf5: .*truncated')

  def test_corruption_anywhere_is_reported_or_harmless(self):
    self._write([_make(), _make()])
    self._check_damage_anywhere(self._file)

  def test_corrupt_image(self):
    code = np.frombuffer(
        tf.io.encode_jpeg(np.zeros([8, 8, 3], np.uint8)).numpy(), np.uint8
    )
    codes = np.stack([code] * 4)
    codes[2, 3:] = 0
    self._write([_make(observations=codes)])
    self.assertRegex(
        self._faults()[0], 'main_data.hdf5: `/episode_0/observations`.*corrupt'
    )


if __name__ == '__main__':
  absltest.main()
