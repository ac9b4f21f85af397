"""Tests of reading LeRobot datasets, versions 2.1 and 3.0."""

import os
import shutil
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import numpy as np

from parl_tf.datasets import formats
from parl_tf.datasets import inspection
from parl_tf.datasets import rows
from tests.datasets import dataset_case
from tests.datasets import episode_check
from tests.datasets import lerobot_files as files

_VERSIONS = ('v2.1', 'v3.0')
_STATE_SPEC = specs.Array((2,), np.float32, 'state')
_OBSERVATION_SPEC = {
    'state': _STATE_SPEC,
    'images.top': specs.Array((16, 16, 3), np.uint8, 'top'),
}
_ACTION_SPEC = specs.BoundedArray((2,), np.float32, -1.0, 1.0, 'action')
# Tolerance for the color conversion of a video.
_ROUNDING = 2
_FIRST = {
    'v2.1': 'data/chunk-000/episode_000000.parquet',
    'v3.0': 'data/chunk-000/file-000.parquet',
}
_LAST = {
    'v2.1': 'data/chunk-000/episode_000002.parquet',
    'v3.0': 'data/chunk-000/file-001.parquet',
}
_VIDEO = {
    'v2.1': f'videos/chunk-000/{files.CAMERA}/episode_000000.mp4',
    'v3.0': f'videos/{files.CAMERA}/chunk-000/file-000.mp4',
}


class LerobotTest(dataset_case.DatasetCase):

  file_name = 'cubes'

  def _write(self, version='v3.0', episodes=None, **kwargs):
    files.write(
        self._path, version, episodes or files.three_episodes(), **kwargs
    )

  def _file(self, name):
    return os.path.join(self._path, name)

  def _read(self, spec=None, **kwargs):
    return super()._read(observation_spec=spec, **kwargs)

  def _change_entry(self, version, index, **changes):
    """Changes the metadata entry of one episode."""
    entries = files.read_entries(self._path, version)
    entries[index].update({x.replace('__', '/'): y for x, y in changes.items()})
    files.write_entries(self._path, version, entries)

  def _cut(self, name):
    with open(self._file(name), 'r+b') as file:
      file.truncate(os.path.getsize(self._file(name)) // 2)


class ReadTest(LerobotTest):

  @parameterized.parameters(*_VERSIONS)
  def test_episodes(self, version):
    self._write(version)
    found = self._read(_OBSERVATION_SPEC)
    self.assertEqual([x.num_steps for x in found], [3, 2, 4])
    self.assertEqual([x.reward.tolist() for x in found],
                     [[0, 0, 1], [0, 0], [0, 0, 0, 0]])
    self.assertEqual([x.discount.tolist() for x in found],
                     [[1, 1, 0], [1, 1], [1, 1, 1, 1]])
    self.assertEqual([x.success.any() for x in found], [True, False, False])
    # The observation after the last action is unknown, but a terminal step does
    # not use it.
    self.assertEqual(
        [x.has_last_transition for x in found], [True, False, False]
    )
    for episode, first in zip(found, (0, 3, 5), strict=True):
      index = first + np.append(
          np.arange(episode.num_steps), episode.num_steps - 1
      )
      np.testing.assert_array_equal(episode.observation['state'][:, 0], index)
      image = episode.observation['images.top']
      self.assertEqual(image.dtype, np.uint8)
      np.testing.assert_allclose(
          image.astype(int), files.images(index * 10), atol=_ROUNDING
      )
      self.assertEqual(episode.action[-1].tolist(), [0.5, -0.25])
      episode_check.check(episode, _OBSERVATION_SPEC, _ACTION_SPEC)

  @parameterized.parameters(*_VERSIONS)
  def test_reading_only_the_state_needs_no_video(self, version):
    self._write(version)
    shutil.rmtree(self._file('videos'))
    first = self._read(_STATE_SPEC)[0]
    self.assertEqual(first.observation[:, 0].tolist(), [0, 1, 2, 2])
    first = self._read({'state': _STATE_SPEC})[0]
    self.assertEqual(first.observation['state'].shape, (4, 2))

  def test_a_flattened_task_reads_its_parts_without_the_videos(self):
    goals = {'observation__goal': np.ones([1, 3], np.float32)}
    self._write(episodes=[files.episode(0, 1, **goals)])
    shutil.rmtree(self._file('videos'))
    spec = specs.Array((5,), np.float32, 'observation')
    (episode,) = self._read(spec, concatenated_keys=('goal', 'state'))
    self.assertEqual(episode.observation[0].tolist(), [1, 1, 1, 0, 0])

  def test_a_flattened_task_without_its_parts_reads_the_state(self):
    self._write()
    shutil.rmtree(self._file('videos'))
    found = self._read(_STATE_SPEC, concatenated_keys=('goal', 'state'))
    self.assertEqual(found[0].observation[:, 0].tolist(), [0, 1, 2, 2])

  @parameterized.parameters(*_VERSIONS)
  def test_a_single_part_becomes_one_array(self, version):
    self._write(version, has_video=False)
    self.assertEqual(self._read()[0].observation.shape, (4, 2))

  def test_a_single_requested_part_becomes_one_array(self):
    self._write()
    found = inspection.inspect(
        self._path, rows.Layout(observation_keys=('images.top',))
    )
    self.assertEmpty(found.faults)
    self.assertEqual(list(found.observation_ranges), [files.CAMERA])

  def test_without_rewards_the_success_flag_is_the_reward(self):
    self._write(episodes=files.three_episodes(next__reward=None))
    first, second, _ = self._read(_STATE_SPEC)
    self.assertEqual(first.reward.tolist(), [0, 0, 1])
    self.assertEqual(first.discount.tolist(), [1, 1, 0])
    self.assertEqual(second.reward.tolist(), [0, 0])

  def test_without_success_flags_the_reward_defines_success(self):
    episodes = files.three_episodes(next__success=None)
    episodes[1]['next.reward'][:] = 0.25
    self._write(episodes=episodes)
    found = self._read(_STATE_SPEC, success_reward=0.5)
    self.assertEqual([x.success.any() for x in found], [True, False, False])
    self.assertEqual([x.discount[-1] for x in found], [0, 1, 1])

  def test_success_flags_override_the_reward(self):
    episodes = files.three_episodes()
    episodes[1]['next.reward'][:] = 0.25
    self._write(episodes=episodes)
    self.assertEqual([x.discount[-1] for x in self._read(_STATE_SPEC)],
                     [0, 1, 1])

  def test_another_column_can_define_success(self):
    episodes = files.three_episodes(next__reward=None, next__success=None)
    self._write(episodes=episodes)
    found = self._read(_STATE_SPEC, success_field='next.done')
    self.assertEqual([x.reward[-1] for x in found], [1, 1, 1])
    self.assertEqual([x.discount[-1] for x in found], [0, 0, 0])

  def test_a_success_is_terminal_only_if_done_is_set(self):
    episodes = files.three_episodes()
    episodes[0]['next.done'][:] = False
    self._write(episodes=episodes)
    self.assertEqual(self._read(_STATE_SPEC)[0].discount.tolist(), [1, 1, 1])

  def test_without_done_a_success_at_the_last_frame_is_terminal(self):
    self._write(episodes=files.three_episodes(next__done=None))
    self.assertEqual([x.discount[-1] for x in self._read(_STATE_SPEC)],
                     [0, 1, 1])

  @parameterized.parameters(((1,),), ((2, 3),))
  def test_observations_of_other_shapes(self, shape):
    array = np.arange(9 * np.prod(shape), dtype=np.float64).reshape(9, *shape)
    parts = np.split(array, [3, 5])
    episodes = [
        {**x, 'observation.state': y}
        for x, y in zip(files.three_episodes(), parts, strict=True)
    ]
    self._write(episodes=episodes, has_video=False)
    for seen, part in zip(self._read(), parts, strict=True):
      np.testing.assert_array_equal(seen.observation[:-1], part)

  @parameterized.parameters(*_VERSIONS)
  def test_images_can_be_stored_in_the_parquet_file(self, version):
    episodes = [
        {**x, 'observation.image': files.encoded(files.grey(x))}
        for x in files.three_episodes()
    ]
    self._write(version, episodes, has_video=False)
    second = self._read()[1].observation['image']
    np.testing.assert_array_equal(second, files.images([30, 40, 40]))

  def test_shapes_may_list_channels_first(self):
    feature = dict(dtype='video', shape=[3, 16, 16], names=['channels'])
    self._write(features={files.CAMERA: feature})
    self.assertLen(self._read(_OBSERVATION_SPEC), 3)

  @parameterized.parameters('info', 'video_info')
  def test_a_depth_map_is_no_picture(self, key):
    depth = {'dtype': 'video', key: {'video.is_depth_map': True}}
    self._write(features={files.CAMERA: depth | {'shape': [16, 16, 3]}})
    self.assertIsInstance(self._read()[0].observation, np.ndarray)

  def test_long_episodes_read_in_batches_are_complete(self):
    episode = files.episode(0, 150)
    episode['index'] = np.arange(150) // 10  # Defines the grey values.
    self._write('v2.1', [episode])
    with formats.open_source(self._path, rows.Layout()) as source:
      lengths = [len(x['rewards']) for x in source.read()]
    self.assertEqual((sum(lengths), max(lengths)), (150, 64))
    (seen,) = self._read(_OBSERVATION_SPEC)
    np.testing.assert_array_equal(
        seen.observation['state'][:-1, 0], np.arange(150)
    )
    np.testing.assert_allclose(
        seen.observation['images.top'][:-1, 0, 0, 0].astype(int),
        np.arange(150) // 10 * 10, atol=_ROUNDING,
    )

  def test_a_video_may_hold_the_episodes_in_any_order(self):
    self._write()
    start = f'videos__{files.CAMERA}__from_timestamp'
    self._change_entry('v3.0', 0, **{start: 0.6})
    self._change_entry('v3.0', 1, **{start: 0.1})
    first, second, _ = self._read(_OBSERVATION_SPEC)
    for seen, grey in ((first, 60), (second, 10)):
      self.assertAlmostEqual(
          seen.observation['images.top'][0].mean(), grey, delta=_ROUNDING
      )

  @parameterized.parameters(*_VERSIONS)
  def test_inspection(self, version):
    self._write(version)
    found = inspection.inspect(self._path)
    self.assertEmpty(found.faults)
    self.assertEqual(found.format, 'LeRobot')
    self.assertEqual(found.lengths.tolist(), [3, 2, 4])
    self.assertEqual((found.num_terminals, found.num_timeouts), (1, 2))
    self.assertEqual(found.num_trailing_rows, 0)
    self.assertEqual(found.shapes[files.CAMERA], (9, 16, 16, 3))
    low, high = found.observation_ranges[files.CAMERA]
    self.assertAlmostEqual(float(low), 0, delta=_ROUNDING)
    self.assertAlmostEqual(float(high), 80, delta=_ROUNDING)

  def test_without_pyarrow_the_error_names_the_extra(self):
    self._write()
    with mock.patch.dict(sys.modules, {'pyarrow': None}):
      with self.assertRaisesRegex(ImportError, r'parl_tf\[lerobot\]'):
        inspection.inspect(self._path)


class FaultTest(LerobotTest):

  @parameterized.product(
      version=_VERSIONS, names=(_FIRST, _LAST, _VIDEO),
  )
  def test_a_truncated_file(self, version, names):
    self._write(version)
    self._cut(names[version])
    self._assert_fault(names[version], 'truncated')

  @parameterized.product(version=_VERSIONS, names=(_FIRST, _VIDEO))
  def test_a_missing_file(self, version, names):
    self._write(version)
    os.remove(self._file(names[version]))
    self._assert_fault(names[version], 'missing', 'total: 1 of')

  @parameterized.parameters(
      ('v2.1', 2, 'at least 3 frames', 'got 2'),
      ('v3.0', 4, 'at least 5 frames', 'episode 1, got 4'),
  )
  def test_a_video_with_too_few_frames(self, version, count, *parts):
    self._write(version)
    content = files.video(tuple(range(0, 10 * count, 10)))
    files.save(self._file(_VIDEO[version]), content)
    self._assert_fault(_VIDEO[version], *parts)

  @parameterized.parameters(*_VERSIONS)
  def test_an_episode_without_a_step(self, version):
    self._write(version)
    self._change_entry(version, 1, length=0)
    found = inspection.inspect(self._path)
    self.assertIn('`length` must be at least 1', found.faults[0])
    self.assertIn('got 0 for episode 1', found.faults[0])
    self.assertIn('`total_frames` must be 7', found.faults[1])

  @parameterized.parameters(*_VERSIONS)
  def test_unsorted_episodes(self, version):
    self._write(version)
    entries = files.read_entries(self._path, version)
    files.write_entries(self._path, version, [entries[i] for i in (0, 2, 1)])
    self._assert_fault('`episode_index` must increase', '1 follows 2')

  @parameterized.parameters('total_frames', 'total_episodes')
  def test_totals_that_contradict_the_episodes(self, field):
    self._write(**{field: 17})
    self._assert_fault('info.json', f'`{field}`', 'got 17')

  @parameterized.parameters(
      ('v2.1', 4, 'must have 4 rows, the total `length`'),
      ('v3.0', 4, 'must have 6 rows, the total `length`'),
  )
  def test_lengths_that_contradict_the_rows(self, version, length, message):
    self._write(version, total_frames=10)
    self._change_entry(version, 0, length=length)
    self._assert_fault(_FIRST[version], message, ', got ')

  def test_lengths_that_contradict_each_other(self):
    self._write()
    self._change_entry('v3.0', 0, length=2)
    self._change_entry('v3.0', 1, length=3)
    self._assert_fault('`episode_index` must be 1 at frame 0', 'got 0')

  @parameterized.parameters(
      ('frame_index', [0, 2, 3], 'must be 1 at frame 1'),
      ('timestamp', [0.0, 0.1, 0.3], 'must be 0.2 at frame 2'),
      ('next.done', [False, True, True], 'set at frame 1 of 3'),
      ('action', np.zeros([3, 3]), 'shape (2,)'),
  )
  def test_values_that_contradict_the_metadata(self, key, values, message):
    episodes = files.three_episodes()
    episodes[1][key] = np.zeros([2, 2], np.float32)
    episodes[0][key] = np.asarray(values)
    if key != 'action':
      episodes[1] = files.three_episodes()[1]
    features = dict(action=dict(dtype='float32', shape=[2]))
    self._write('v2.1', episodes, features=features)
    self._assert_fault(_FIRST['v2.1'], 'episode 0', f'`{key}`', message)

  @parameterized.parameters(
      ('next.done', 'bool', [0.0, 0.0, 2.0], 'got 2.0'),
      ('next.done', 'bool', [0.0, 0.0, np.nan], 'got nan'),
      ('next.reward', 'int64', [0.0, 0.5, 0.0], 'got 0.5'),
  )
  def test_values_that_their_dtype_cannot_hold(
      self, key, dtype, values, message
  ):
    episodes = files.three_episodes()
    for episode in episodes:
      episode[key] = episode[key].astype(np.float64)
    episodes[0][key] = np.asarray(values)
    self._write('v2.1', episodes, features={key: dict(dtype=dtype, shape=[1])})
    self._assert_fault(
        _FIRST['v2.1'], f'`{key}` must be {dtype}, as declared, {message}'
    )

  @parameterized.parameters(
      (None,), ([1],), ({'dtype': 'float32', 'shape': None},)
  )
  def test_a_malformed_feature(self, feature):
    self._write(features={'other': feature})
    self._assert_fault('info.json: `features.other` must have the structure')

  def test_missing_rewards_are_a_fault(self):
    self._write(
        episodes=files.three_episodes(next__reward=None, next__success=None)
    )
    self._assert_fault('info.json', '`next.reward` or `next.success`')

  def test_a_described_column_that_is_missing(self):
    self._write(features={'next.reward': dict(dtype='float32', shape=[1])},
                episodes=files.three_episodes(next__reward=None))
    self._assert_fault(_FIRST['v3.0'], 'must have the column `next.reward`')

  @parameterized.parameters(('pose',), ('images.left',))
  def test_a_requested_part_that_is_missing(self, part):
    self._write()
    self._assert_fault(f'`observation.{part}`', observation_keys=(part,))

  @parameterized.parameters(
      ('codebase_version', 'v1.6', "v3.0, got 'v1.6'"),
      ('fps', 0, 'positive number, got 0'),
  )
  def test_unsupported_metadata(self, field, value, message):
    self._write(**{field: value})
    self._assert_fault('info.json', f'`{field}`', message)

  @parameterized.parameters(
      ('v2.1', 'meta/info.json', 'complete JSON'),
      ('v2.1', 'meta/episodes.jsonl', 'line 2: must be JSON'),
      ('v3.0', 'meta/episodes/chunk-000/file-000.parquet', 'truncated'),
  )
  def test_truncated_metadata(self, version, name, message):
    self._write(version)
    self._cut(name)
    self._assert_fault(name, message)

  @parameterized.parameters('length', 'data__file_index')
  def test_incomplete_episode_entries(self, field):
    self._write()
    self._change_entry('v3.0', 1, **{field: None})
    self._assert_fault('meta/episodes', 'index, length and location', 'None')


if __name__ == '__main__':
  absltest.main()
