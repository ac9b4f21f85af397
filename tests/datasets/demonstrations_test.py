"""Tests of datasets whose every episode solves the task."""

import json
import os

from absl.testing import absltest
from absl.testing import parameterized
import gin
import h5py
import numpy as np

from parl_tf.datasets import conversion
from parl_tf.datasets import reading
from tests.datasets import dataset_case
from tests.datasets import lerobot_files

_LENGTHS = (3, 2)


def _arrays(length):
  return {
      'observations': np.arange(2.0 * length).reshape([length, 2]),
      'actions': np.full([length, 1], 0.5, np.float32),
  }


def _ends():
  ends = np.zeros([sum(_LENGTHS)], np.bool_)
  ends[np.cumsum(_LENGTHS) - 1] = True
  return ends


class DemonstrationsTest(dataset_case.DatasetCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  def _write_d4rl(self, **columns):
    with h5py.File(self._path, 'w') as file:
      for name, array in {**_arrays(sum(_LENGTHS)), **columns}.items():
        file[name] = array

  def _write_npz(self):
    self._path = self._path.replace('.hdf5', '.npz')
    np.savez(self._path, **_arrays(sum(_LENGTHS)), terminals=_ends())

  def _write_minari(self):
    self._path = os.path.join(os.path.dirname(self._path), 'task')
    os.mkdir(self._path)
    metadata = {'data_format': 'hdf5', 'total_episodes': 2, 'total_steps': 5}
    with open(os.path.join(self._path, 'metadata.json'), 'w') as file:
      json.dump(metadata, file)
    with h5py.File(os.path.join(self._path, 'main_data.hdf5'), 'w') as file:
      for number, length in enumerate(_LENGTHS):
        group = file.create_group(f'episode_{number}')
        group['observations'] = np.zeros([length + 1, 2])
        group['actions'] = _arrays(length)['actions']
        group['terminations'] = np.zeros([length], np.bool_)
        group['truncations'] = np.arange(length) == length - 1

  def _write_robomimic(self):
    with h5py.File(self._path, 'w') as file:
      for number, length in enumerate(_LENGTHS):
        group = file.create_group(f'data/demo_{number}')
        arrays = _arrays(length)
        group['obs/place'] = arrays['observations']
        group['actions'] = arrays['actions']

  def _write_lerobot(self):
    absent = {'next.reward': None, 'next.success': None, 'next.done': None}
    self._path = os.path.join(os.path.dirname(self._path), 'cubes')
    lerobot_files.write(
        self._path,
        'v3.0',
        [
            lerobot_files.episode(0, _LENGTHS[0], **absent),
            lerobot_files.episode(1, _LENGTHS[1], first=3, **absent),
        ],
        has_video=False,
    )

  def _check(self, episodes, low=0.0, high=1.0):
    self.assertEqual([x.num_steps for x in episodes], list(_LENGTHS))
    for episode in episodes:
      before = episode.num_steps - 1
      self.assertEqual(episode.reward.tolist(), [low] * before + [high])
      self.assertEqual(episode.discount.tolist(), [1.0] * before + [0.0])
      self.assertEqual(episode.success.tolist(), [False] * before + [True])
      self.assertTrue(episode.has_last_transition)

  @parameterized.parameters(
      ('d4rl', '`rewards` is required but missing'),
      ('robomimic', '`data/demo_0/rewards` is required but missing'),
      ('lerobot', 'must have `next.reward` or `next.success`'),
      ('minari', '`episode_0/rewards` is required but missing'),
      ('npz', '`rewards` is required but missing'),
  )
  def test_no_rewards_are_needed(self, kind, message):
    write = getattr(self, f'_write_{kind}')
    write(**({'timeouts': _ends()} if kind == 'd4rl' else {}))
    with self.assertRaisesRegex(ValueError, message) as caught:
      self._read()
    self.assertIn('every_episode_succeeds = True', str(caught.exception))
    self._check(self._read(every_episode_succeeds=True))

  def test_stored_rewards_and_flags_are_not_used(self):
    self._write_d4rl(
        rewards=np.full([5, 2], np.nan),
        terminals=np.zeros([5], np.bool_),
        timeouts=_ends(),
    )
    self._check(self._read(every_episode_succeeds=True))

  def test_rewards_are_the_ends_of_the_range_of_the_task(self):
    self._write_d4rl(timeouts=_ends())
    self._check(
        self._read(
            every_episode_succeeds=True,
            reward_range=(-2.0, 0.0),
            reward_values=(-2.0, 0.0),
        ),
        -2.0,
        0.0,
    )

  def test_rows_after_the_last_end_are_no_success(self):
    ends = _ends()
    ends[-1] = False
    self._write_d4rl(terminals=ends)
    first, rest = self._read(every_episode_succeeds=True)
    self.assertTrue(first.success[-1])
    self.assertEqual((rest.success.any(), rest.discount[-1]), (False, 1.0))

  @parameterized.parameters(
      (None, '`terminals` is required'),
      (np.zeros([5], np.bool_), 'neither is set in any of 5 rows'),
      (np.zeros([6], np.bool_), '`terminals` must have shape.*got .6,.'),
      (np.full([5], np.nan), '`terminals` must be 0 or 1, got nan'),
  )
  def test_missing_and_faulty_ends_are_named(self, ends, message):
    self._write_d4rl(**({} if ends is None else {'terminals': ends}))
    with self.assertRaisesRegex(ValueError, message):
      self._read(every_episode_succeeds=True)

  def test_play_is_refused(self):
    infos = {'infos/task_rewards': np.zeros([5, 2], np.float32),
             'infos/task_successes': np.zeros([5, 2], np.bool_)}
    rewards = np.zeros([5], np.float32)
    self._write_d4rl(terminals=_ends(), rewards=rewards, **infos)
    self._read()
    with self.assertRaisesRegex(ValueError, 'must be False for play'):
      self._read(every_episode_succeeds=True)

  def test_a_converted_file_keeps_the_successes(self):
    self._write_robomimic()
    gin.parse_config('dataset.every_episode_succeeds = True')
    output = os.path.join(os.path.dirname(self._path), 'converted.hdf5')
    conversion.convert([self._path], output)
    gin.clear_config()
    self._check(list(reading.read_episodes(output)))

  def test_another_definition_of_success_is_refused(self):
    with self.assertRaisesRegex(ValueError, "only definition.*'mine'"):
      self._read(every_episode_succeeds=True, success_field='mine')


if __name__ == '__main__':
  absltest.main()
