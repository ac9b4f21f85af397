"""Tests that written LeRobot datasets hold the episodes.

`tests/examples/lerobot_policy_test.py` reads one with LeRobot itself.
"""

import json
import os
from unittest import mock

from absl.testing import absltest
from dm_env import specs
import numpy as np
import pyarrow.parquet as pq
import tree

from parl_tf import types
from parl_tf.datasets import lerobot_writer
from tests.datasets import dataset_case

_STATE = specs.Array((2,), np.float32)


def _episode(length, is_solved, observation=None):
  steps = np.arange(length + 1, dtype=np.float32)
  is_last = np.arange(length) == length - 1
  return types.Episode(
      observation=np.stack([steps, -steps], 1)
      if observation is None
      else observation,
      action=np.tile(np.float32([[0.5]]), [length, 1]),
      reward=(is_last & is_solved).astype(np.float32),
      discount=1.0 - (is_last & is_solved).astype(np.float32),
      success=is_last & is_solved,
  )


class LerobotWriterTest(dataset_case.DatasetCase):

  file_name = 'cubes'

  def _write(self, episodes, **kwargs):
    lerobot_writer.write(
        self._path, episodes, rate=10, instruction='push', **kwargs
    )

  def test_our_reader_returns_the_episodes(self):
    self._write([_episode(3, True), _episode(2, False)])
    solved, cut = self._read(
        observation_spec=_STATE, action_spec=specs.Array((1,), np.float32)
    )
    # The observation after the last action is not stored.
    self.assertFalse(cut.has_last_transition)
    self._check_solved_and_cut(solved, cut._replace(has_last_transition=True))
    self.assertEqual(
        solved.observation.tolist(), [[0, 0], [1, -1], [2, -2], [2, -2]]
    )

  def test_the_path_may_end_in_a_slash(self):
    self._path += os.sep
    self._write([_episode(2, True)])
    self.assertTrue(os.path.exists(self._file('meta/info.json')))
    self.assertFalse(os.path.exists(os.path.join(self._path, '.partial')))

  def test_the_end_of_a_task_that_fails_is_kept(self):
    fallen = _episode(3, False)
    fallen.discount[-1] = 0.0
    self._write([fallen, _episode(2, False)])
    found = self._read(
        observation_spec=_STATE, action_spec=specs.Array((1,), np.float32)
    )
    self.assertEqual([x.discount[-1] for x in found], [0.0, 1.0])
    self.assertFalse(found[0].success.any())
    self.assertTrue(found[0].has_last_transition)

  def test_a_nest_keeps_its_keys_and_a_single_array_has_two_names(self):
    nest = {'state': np.zeros([3, 2]), 'goal': np.ones([3, 4])}
    nest = tree.map_structure(lambda x: x.astype(np.float32), nest)
    self._write([_episode(2, True, nest)])
    features = self._json('meta/info.json')['features']
    self.assertEqual(features['observation.goal']['shape'], [4])
    self.assertNotIn('observation.environment_state', features)

    self._path += '_single'
    self._write([_episode(2, True)])
    features = self._json('meta/info.json')['features']
    for name in ('observation.state', 'observation.environment_state'):
      self.assertEqual(features[name]['shape'], [2])

  def test_a_single_array_is_read_as_one_without_a_task(self):
    self._write([_episode(2, True)])
    (found,) = self._read()
    self.assertEqual(found.observation[:2].tolist(), [[0, 0], [1, -1]])

    nest = dict.fromkeys(('state', 'environment_state'), found.observation)
    self._path += '_nest'
    self._write([_episode(2, True, nest)])
    self.assertEqual(self._read()[0].observation.keys(), nest.keys())

  def test_slashes_become_dots(self):
    nest = {'arm/joints': np.zeros([3, 2], np.float32)}
    self._write([_episode(2, True, nest)])
    self.assertIn('observation.arm.joints', self._json('meta/info.json')[
        'features'
    ])
    nest['arm.joints'] = nest['arm/joints']
    with self.assertRaisesRegex(ValueError, 'Two .*`observation.arm.joints`'):
      self._path += '_twice'
      self._write([_episode(2, True, nest)])

  def test_one_number_is_a_scalar_as_lerobot_reads_it(self):
    nest = {'gap': np.zeros([3, 1], np.float32)}
    self._write([_episode(2, True, nest)])
    features = self._json('meta/info.json')['features']
    schema = pq.read_schema(self._file('data/chunk-000/file-000.parquet'))
    for name in ('action', 'observation.gap'):
      self.assertEqual(features[name]['shape'], [1])
      self.assertEqual(str(schema.field(name).type), 'float')

  def test_actions_are_in_the_units_of_the_environment(self):
    self._write([_episode(2, True)], action_bounds=(0.0, 10.0))
    # 0.5 lies at three quarters of the range.
    self.assertEqual(self._statistics('action')['max'], [7.5])
    (episode,) = self._read(action_bounds=(0.0, 10.0))
    self.assertEqual(episode.action.tolist(), [[0.5]] * 2)

  def test_statistics_are_those_of_all_frames(self):
    self._write([_episode(3, True), _episode(2, False)])
    found = self._statistics('observation.state')
    # The frames are 0, 1, 2, 0, 1.
    self.assertEqual(found['count'], [5])
    self.assertEqual((found['min'], found['max']), ([0, -2], [2, 0]))
    np.testing.assert_allclose(found['mean'], [0.8, -0.8])
    np.testing.assert_allclose(found['std'], [np.sqrt(0.56)] * 2)
    np.testing.assert_allclose(found['q50'], [1, -1])

  def test_images_are_written_in_groups_and_read_again(self):
    random = np.random.default_rng(0)
    nests = [
        {
            'image': random.integers(256, size=(n, 4, 5, 3), dtype=np.uint8),
            'state': random.normal(size=(n, 2)).astype(np.float32),
        }
        for n in (4, 3, 5)
    ]
    with mock.patch.object(lerobot_writer, 'GROUP_BYTES', 700):
      self._write([_episode(len(x['state']) - 1, True, x) for x in nests])

    data = pq.ParquetFile(self._file('data/chunk-000/file-000.parquet'))
    self.assertEqual(data.num_row_groups, 2)
    for nest, episode in zip(nests, self._read(), strict=True):
      for name, array in nest.items():
        read = episode.observation[name]
        np.testing.assert_array_equal(read[:-1], array[:-1])
    self.assertEqual(
        self._json('meta/info.json')['features']['observation.image'],
        {
            'dtype': 'image',
            'shape': [4, 5, 3],
            'names': ['height', 'width', 'channels'],
        },
    )
    pixels = np.concatenate([x['image'][:-1] for x in nests]) / 255.0
    found = self._statistics('observation.image')
    self.assertEqual(found['count'], [9])
    for name, wanted in (
        ('min', pixels.min((0, 1, 2))), ('max', pixels.max((0, 1, 2))),
        ('mean', pixels.mean((0, 1, 2))), ('std', pixels.std((0, 1, 2))),
        ('q50', np.quantile(pixels, 0.5, (0, 1, 2), method='inverted_cdf')),
    ):
      np.testing.assert_allclose(
          found[name], wanted[:, np.newaxis, np.newaxis], err_msg=name
      )

  def test_a_single_image_has_one_name(self):
    self._write([_episode(2, True, np.zeros([3, 4, 4, 3], np.uint8))])
    features = self._json('meta/info.json')['features']
    self.assertEqual(
        [x for x in features if x.startswith('observation')],
        ['observation.image'],
    )

  def test_frames_and_episodes_are_numbered(self):
    self._write([_episode(3, True), _episode(2, False)])
    frames = pq.read_table(self._file('data/chunk-000/file-000.parquet'))
    self.assertEqual(frames['frame_index'].to_pylist(), [0, 1, 2, 0, 1])
    self.assertEqual(frames['episode_index'].to_pylist(), [0, 0, 0, 1, 1])
    self.assertEqual(frames['index'].to_pylist(), [0, 1, 2, 3, 4])
    np.testing.assert_allclose(
        frames['timestamp'].to_pylist(), [0, 0.1, 0.2, 0, 0.1], rtol=1e-6
    )
    episodes = pq.read_table(
        self._file('meta/episodes/chunk-000/file-000.parquet')
    )
    self.assertEqual(episodes['dataset_from_index'].to_pylist(), [0, 3])
    self.assertEqual(episodes['dataset_to_index'].to_pylist(), [3, 5])
    self.assertEqual(episodes['tasks'].to_pylist(), [['push']] * 2)

  def test_what_cannot_be_written_is_an_error_and_leaves_nothing(self):
    gray, floats = np.zeros([3, 4, 4, 1], np.uint8), np.zeros([3, 4, 4, 3])
    for episodes, message in (
        ([], 'at least one episode'),
        ([_episode(2, True, {'top': gray})], '`observation.top`.*vector'),
        ([_episode(2, True, {'top': floats})], '`observation.top`.*uint8'),
        (
            [
                _episode(2, True, {'x': np.zeros([3, 2])}),
                _episode(2, True, {'x': np.zeros([3, 4])}),
            ],
            r"Episode 1 .* 'observation.x': \[2\]}, got .*x': \[4\]",
        ),
        (
            [_episode(2, True), _episode(2, True, {'x': np.zeros([3, 2])})],
            'Episode 1 must have the columns',
        ),
        (
            [_episode(2, True)._replace(reward=np.float32([0, np.nan]))],
            '`next.reward` of episode 0 must be finite',
        ),
        (
            [_episode(2, True, {
                'a.b': np.zeros([3, 2]), 'a': {'b': np.zeros([3, 2])},
            })],
            'Two observations would have the name `observation.a.b`',
        ),
    ):
      with self.assertRaisesRegex(ValueError, message):
        self._write(episodes)
      self.assertEmpty(os.listdir(os.path.dirname(self._path)))
    os.makedirs(self._path)
    with self.assertRaisesRegex(ValueError, 'must not exist'):
      self._write([_episode(2, True)])

  def _file(self, name):
    return os.path.join(self._path, name)

  def _json(self, name):
    with open(self._file(name), encoding='utf-8') as file:
      return json.load(file)

  def _statistics(self, name):
    return self._json('meta/stats.json')[name]


if __name__ == '__main__':
  absltest.main()
