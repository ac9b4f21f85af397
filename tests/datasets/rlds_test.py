"""Tests of reading RLDS datasets written by TensorFlow Datasets."""

import json
import os

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import gin
import numpy as np
import tensorflow as tf

from parl_tf.datasets import formats
from parl_tf.datasets import inspection
from parl_tf.datasets import rows
from tests.datasets import dataset_case
from tests.datasets import episode_check

_KINDS = 'tensorflow_datasets.core.features'
_IMAGE = {'photo': (4, 6, 3), 'depth': (4, 6, 1)}
_OBSERVATION_SPEC = {
    'photo': specs.Array((4, 6, 3), np.uint8, 'photo'),
    'state': specs.Array((2,), np.float32, 'state'),
}
_ACTION_SPEC = specs.BoundedArray((1,), np.float32, -1.0, 1.0, 'action')


def _tensor(dtype, *shape):
  dimensions = {'dimensions': [str(x) for x in shape]} if shape else {}
  return {
      'pythonClassName': f'{_KINDS}.tensor_feature.Tensor',
      'tensor': {'dtype': dtype, 'encoding': 'none', 'shape': dimensions},
  }


def _image(*shape):
  image = _tensor('uint8', *shape)['tensor']
  del image['encoding']
  return {'pythonClassName': f'{_KINDS}.image_feature.Image', 'image': image}


def _dict(**features):
  return {
      'pythonClassName': f'{_KINDS}.features_dict.FeaturesDict',
      'featuresDict': {'features': features},
  }


def _features(**changes):
  """Returns the `features.json` of `_episode`, with changes."""
  steps = dict(
      observation=_dict(
          photo=_image(4, 6, 3),
          state=_tensor('float32', 2),
          count=_tensor('int32'),
          text={'pythonClassName': f'{_KINDS}.text_feature.Text', 'text': {}},
      ),
      action=_tensor('float32', 1),
      reward=_tensor('float32'),
      discount=_tensor('float32'),
      is_first=_tensor('bool'),
      is_last=_tensor('bool'),
      is_terminal=_tensor('bool'),
      success=_tensor('bool'),
      language_instruction={'text': {}},
  )
  steps.update(changes)
  steps = {name: x for name, x in steps.items() if x is not None}
  return _dict(
      steps={
          'pythonClassName': f'{_KINDS}.dataset_feature.Dataset',
          'sequence': {'feature': _dict(**steps), 'length': '-1'},
      },
      episode_metadata=_dict(file_path={'text': {}}),
  )


def _photos(start, num_steps):
  """Returns images whose entries are ten times the step number."""
  values = np.arange(start, start + num_steps, dtype=np.uint8) * 10
  return np.broadcast_to(values[:, None, None, None], [num_steps, 4, 6, 3])


def _episode(start=0, num_steps=4, ends_task=True, encode=None, **changes):
  """Returns the features of one record; None in `changes` removes one."""
  numbers = np.arange(start, start + num_steps)
  is_last = np.arange(num_steps) == num_steps - 1
  encode = encode or tf.io.encode_png
  values = {
      'steps/observation/photo': [
          encode(x).numpy() for x in _photos(start, num_steps)
      ],
      'steps/observation/state': np.stack([numbers, -numbers], 1) * 0.5,
      'steps/observation/count': numbers,
      'steps/observation/text': [b'a cube'] * num_steps,
      # RLDS leaves these values of the last step undefined.
      'steps/action': np.where(is_last, 99.0, np.arange(num_steps) / num_steps),
      'steps/reward': np.append([0.0] * (num_steps - 2), [1.0, 0.0]),
      'steps/discount': 1.0 - is_last,
      'steps/is_first': is_last[::-1],
      'steps/is_last': is_last,
      'steps/is_terminal': is_last & ends_task,
      'steps/success': is_last & ends_task,
      'steps/language_instruction': [b'lift it'] * num_steps,
      'episode_metadata/file_path': [b'raw.pkl'],
  }
  values.update({f'steps/{name}': x for name, x in changes.items()})
  return {name: x for name, x in values.items() if x is not None}


def _encode(episode):
  """Returns the bytes of a record, encoded like TensorFlow Datasets."""
  features = {}
  for key, values in episode.items():
    if isinstance(values, list):
      bytes_list = tf.train.BytesList(value=values)
      features[key] = tf.train.Feature(bytes_list=bytes_list)
    elif np.asarray(values).dtype.kind == 'f':
      float_list = tf.train.FloatList(value=np.ravel(values))
      features[key] = tf.train.Feature(float_list=float_list)
    else:
      int64_list = tf.train.Int64List(value=np.ravel(values).astype(np.int64))
      features[key] = tf.train.Feature(int64_list=int64_list)
  example = tf.train.Example(features=tf.train.Features(feature=features))
  return example.SerializeToString()


def _two_episodes():
  """Returns a 3-step terminal episode and a 2-step timeout."""
  return [_episode(0, 4, True), _episode(10, 3, False)]


class RldsTest(dataset_case.DatasetCase):

  file_name = '1.0.0'

  def setUp(self):
    super().setUp()
    os.mkdir(self._path)
    self.addCleanup(gin.clear_config)

  def _shard(self, number, num_shards=1, split='train'):
    name = f'cubes-{split}.tfrecord-{number:05d}-of-{num_shards:05d}'
    return os.path.join(self._path, name)

  def _write(self, *shards, features=None, split='train', **changes):
    """Writes a one-split dataset; each shard is a list of episodes."""
    info = {
        'fileFormat': 'tfrecord',
        'name': 'cubes',
        'splits': [{
            'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
            'name': split,
            'numBytes': '1234',
            'shardLengths': [str(len(x)) for x in shards],
        }],
        'version': '1.0.0',
    }
    info['splits'][0].update(changes)
    self._write_json('dataset_info.json', info)
    self._write_json('features.json', features or _features())
    for number, episodes in enumerate(shards):
      file = self._shard(number, len(shards), split)
      with tf.io.TFRecordWriter(file) as writer:
        for episode in episodes:
          writer.write(_encode(episode))

  def _write_json(self, name, content):
    with open(os.path.join(self._path, name), 'w') as file:
      json.dump(content, file)

  def _read(self, **kwargs):
    return super()._read(**{'observation_spec': _OBSERVATION_SPEC, **kwargs})


class ReadTest(RldsTest):

  def test_the_last_step_holds_only_the_last_observation(self):
    self._write(_two_episodes())
    first, second = self._read()
    state = first.observation['state']
    self.assertEqual(state[:, 0].tolist(), [0, 0.5, 1, 1.5])
    self.assertEqual(first.action.tolist(), [[0], [0.25], [0.5]])
    self.assertEqual(first.reward.tolist(), [0, 0, 1])
    self.assertEqual(first.discount.tolist(), [1, 1, 0])
    self.assertEqual(first.success.tolist(), [False, False, True])
    self.assertEqual(second.observation['state'][:, 1].tolist(), [-5, -5.5, -6])
    self.assertEqual(second.reward.tolist(), [0, 1])
    self.assertEqual(second.discount.tolist(), [1, 1])
    for episode in (first, second):
      self.assertTrue(episode.has_last_transition)
      episode_check.check(episode, _OBSERVATION_SPEC, _ACTION_SPEC)

  @parameterized.parameters(tf.io.encode_png, tf.io.encode_jpeg)
  def test_images_are_decoded(self, encode):
    self._write([_episode(3, 3, encode=encode)])
    (episode,) = self._read()
    photo = episode.observation['photo']
    self.assertEqual(photo.dtype, np.uint8)
    np.testing.assert_array_equal(photo, _photos(3, 3))

  def test_long_episodes_read_in_batches_are_complete(self):
    self._write([_episode(0, 150)])
    with formats.open_source(self._path, rows.Layout()) as source:
      lengths = [len(x['rewards']) for x in source.read()]
    self.assertEqual((sum(lengths), max(lengths)), (149, 64))
    (episode,) = self._read(
        observation_spec={'state': _OBSERVATION_SPEC['state']}
    )
    np.testing.assert_array_equal(
        episode.observation['state'][:, 0], 0.5 * np.arange(150)
    )
    self.assertEqual(np.sum(episode.reward), 1)

  def test_shards_are_read_in_order(self):
    first, second = _two_episodes()
    self._write([first], [second, _episode(20, 2)])
    starts = [x.observation['state'][0, 0] for x in self._read()]
    self.assertEqual(starts, [0, 5, 10])

  def test_another_split(self):
    self._write([_episode(10, 2)], split='val')
    gin.parse_config("rlds.split = 'val'")
    self.assertLen(self._read(), 1)

  def test_a_single_array_observation(self):
    features = _features(observation=_tensor('float64', 2))
    state = np.arange(8).reshape(4, 2) * 0.5
    self._write([_episode(observation=state)], features=features)
    (episode,) = self._read(observation_spec=None)
    np.testing.assert_array_equal(episode.observation, state)

  def test_a_single_part_becomes_one_array_if_one_is_expected(self):
    features = _features(observation=_dict(state=_tensor('float32', 2)))
    self._write(_two_episodes(), features=features)
    episode = self._read(observation_spec=_OBSERVATION_SPEC['state'])[0]
    self.assertEqual(episode.observation.shape, (4, 2))
    self.assertIn('state', self._read(observation_spec=None)[0].observation)

  def test_success_can_be_an_observation_flag(self):
    self._write([_episode(success=np.array([False, False, True, False]))])
    (episode,) = self._read(success_field='success')
    self.assertEqual(episode.success.tolist(), [False, True, False])

  def test_rewards_are_not_needed_if_every_episode_succeeds(self):
    self._write([_episode(reward=None)], features=_features(reward=None))
    self._assert_fault('features.json', 'steps/reward', 'every_episode_succee')
    (episode,) = self._read(every_episode_succeeds=True)
    self.assertEqual(episode.reward.tolist(), [0.0, 0.0, 1.0])
    self.assertEqual(episode.success.tolist(), [False, False, True])

  @parameterized.parameters((True, [0, 0, 3]), (False, [0, 0, 2]))
  def test_the_last_reward_counts_as_configured(self, counts, expected):
    self._write([_episode(reward=np.array([0.0, 0.0, 2.0, 1.0]))])
    gin.parse_config(f'rlds.last_reward_counts = {counts}')
    self.assertEqual(self._read()[0].reward.tolist(), expected)

  def test_inspection(self):
    self._write(_two_episodes())
    found = inspection.inspect(self._path)
    self.assertEmpty(found.faults)
    self.assertEqual(found.format, 'RLDS')
    self.assertEqual(found.lengths.tolist(), [3, 2])
    self.assertEqual((found.num_terminals, found.num_timeouts), (1, 1))
    self.assertEqual(found.shapes['steps/observation/photo'], (5, 4, 6, 3))
    self.assertEqual(found.shapes['steps/action'], (5, 1))
    # Integers and text are skipped unless requested.
    self.assertEqual(
        list(found.observation_ranges),
        ['steps/observation/photo', 'steps/observation/state'],
    )

  def test_only_requested_parts_are_read(self):
    self._write([{**_episode(), 'steps/observation/photo': [b'damaged'] * 4}])
    self.assertLen(
        self._read(observation_spec={'state': _OBSERVATION_SPEC['state']}), 1
    )


class FaultTest(RldsTest):

  def test_a_truncated_shard(self):
    self._write(_two_episodes())
    with open(self._shard(0), 'r+b') as file:
      file.truncate(os.path.getsize(self._shard(0)) - 5)
    self._assert_fault(self._shard(0), 'truncated')

  def test_a_shard_with_a_wrong_byte(self):
    self._write(_two_episodes())
    with open(self._shard(0), 'r+b') as file:
      file.seek(60)
      file.write(b'\xff')
    self._assert_fault(self._shard(0), 'corrupt')

  def test_a_shard_that_lacks_records(self):
    self._write(_two_episodes(), shardLengths=['3'])
    self._assert_fault(self._shard(0), '`shardLengths`', '2, got 3')

  def test_a_missing_shard(self):
    self._write(_two_episodes(), [_episode()], [_episode()])
    os.remove(self._shard(1, 3))
    self._assert_fault(self._shard(1, 3), 'one of 3 files', 'missing')

  @parameterized.parameters(0, 1)
  def test_an_episode_without_a_step(self, num_steps):
    empty = {key: x[:num_steps] for key, x in _episode().items()}
    self._write([_episode(), empty])
    self._assert_fault(
        f'{self._shard(0)}, record 1', '`steps`', f'got {num_steps}'
    )

  def test_a_feature_with_fewer_steps(self):
    self._write([_episode(reward=np.zeros([3]))])
    self._assert_fault('record 0', '`steps/reward`', 'have 4', 'got 3')

  @parameterized.named_parameters(
      ('missing', {'action': None}, 'got 0'),
      ('another_width', {'action': np.zeros([4, 2])}, 'got 8'),
      ('part_of_a_step', {'observation/state': np.zeros([7])}, 'state'),
      ('of_another_kind', {'action': np.zeros([4], np.int64)}, 'steps/action'),
  )
  def test_a_feature_that_contradicts_its_description(self, changes, message):
    self._write([_episode(**changes)])
    self._assert_fault('record 0', message)

  @parameterized.parameters(
      ('is_last', [False] * 4, 'got []'),
      ('is_last', [False, True, False, True], 'got [1, 3]'),
      ('is_terminal', [False, True, False, False], 'got [1]'),
      ('is_first', [True, False, True, False], 'got [0, 2]'),
  )
  def test_a_flag_at_a_wrong_step(self, name, values, message):
    self._write([_episode(**{name: np.array(values)})])
    self._assert_fault('record 0', f'`steps/{name}`', message)

  def test_a_last_reward_requires_a_choice(self):
    self._write([_episode(reward=np.array([0.0, 0.0, 0.0, 1.0]))])
    self._assert_fault('`steps/reward`', 'got 1.0', 'rlds.last_reward_counts')

  @parameterized.parameters(
      (b'no image', 'complete PNG or JPEG'),
      (tf.io.encode_png(np.zeros([5, 6, 3], np.uint8)).numpy(), '(5, 6, 3)'),
  )
  def test_an_invalid_image(self, image, message):
    episode = _episode()
    episode['steps/observation/photo'][2] = image
    self._write([episode])
    self._assert_fault('`steps/observation/photo` of step 2', message)

  @parameterized.parameters('action', 'reward', 'is_terminal')
  def test_a_missing_feature(self, name):
    self._write([_episode()], features=_features(**{name: None}))
    self._assert_fault('features.json', f'`steps/{name}`', 'is missing')

  @parameterized.parameters(('text', 'another type'), ('depth', 'is missing'))
  def test_a_requested_part_that_cannot_be_read(self, name, message):
    self._write([_episode()])
    self._assert_fault(
        f'`steps/observation/{name}`', message,
        observation_keys=(name,),
    )

  def test_an_unknown_split(self):
    self._write([_episode()], split='val')
    self._assert_fault('dataset_info.json', "'train'", "['val']")

  def test_a_split_without_episodes(self):
    self._write([])
    self._assert_fault('`shardLengths`', 'at least one episode')

  @parameterized.parameters(
      ('splits', None), ('splits', [{'name': 'train', 'shardLengths': ['a']}])
  )
  def test_malformed_splits(self, field, value):
    self._write([_episode()])
    path = os.path.join(self._path, 'dataset_info.json')
    with open(path) as file:
      info = json.load(file)
    info[field] = value
    with open(path, 'w') as file:
      json.dump(info, file)
    self._assert_fault('dataset_info.json: must have the structure')

  def test_features_without_steps(self):
    self._write([_episode()], features=_dict(image=_image(4, 6, 3)))
    self._assert_fault('features.json', '`steps`')

  def test_invalid_json(self):
    self._write([_episode()])
    with open(os.path.join(self._path, 'features.json'), 'w') as file:
      file.write('{"featuresDict": ')
    self._assert_fault('features.json', 'JSON')

  def test_an_empty_directory_has_no_format(self):
    with self.assertRaisesRegex(rows.DamagedFileError, 'supported format'):
      formats.open_source(self._path, rows.Layout())


if __name__ == '__main__':
  absltest.main()
