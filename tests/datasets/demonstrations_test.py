"""Tests of datasets whose every episode solves the task."""

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


def _ends(marks_last):
  """Returns `[5]` ends of the episodes, without the last one if asked."""
  ends = np.zeros([sum(_LENGTHS)], np.bool_)
  ends[np.cumsum(_LENGTHS) - 1] = True
  ends[-1] = marks_last
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
    np.savez(self._path, **_arrays(sum(_LENGTHS)), terminals=_ends(True))

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
      ('npz', '`rewards` is required but missing'),
  )
  def test_no_rewards_are_needed(self, kind, message):
    write = getattr(self, f'_write_{kind}')
    write(**({'timeouts': _ends(True)} if kind == 'd4rl' else {}))
    with self.assertRaisesRegex(ValueError, message) as caught:
      self._read()
    self.assertIn('every_episode_succeeds = True', str(caught.exception))
    self._check(self._read(every_episode_succeeds=True))

  def test_stored_rewards_and_flags_are_not_used(self):
    self._write_d4rl(
        rewards=np.full([5], 7.0),
        terminals=np.zeros([5], np.bool_),
        timeouts=_ends(True),
    )
    self._check(self._read(every_episode_succeeds=True))

  def test_rewards_are_the_ends_of_the_range_of_the_task(self):
    self._write_d4rl(timeouts=_ends(True))
    self._check(
        self._read(every_episode_succeeds=True, reward_range=(-2.0, 0.0)),
        -2.0,
        0.0,
    )

  def test_the_last_episode_may_lack_its_end(self):
    self._write_d4rl(terminals=_ends(False))
    self._check(self._read(every_episode_succeeds=True))

  def test_a_file_without_any_ends_is_a_fault(self):
    self._write_d4rl()
    with self.assertRaisesRegex(ValueError, '`terminals` is required'):
      self._read(every_episode_succeeds=True)

  def test_a_converted_file_keeps_the_successes(self):
    self._write_robomimic()
    gin.parse_config('dataset.every_episode_succeeds = True')
    output = os.path.join(os.path.dirname(self._path), 'converted.hdf5')
    conversion.convert([self._path], output)
    gin.clear_config()
    self._check(list(reading.read_episodes(output)))

  def test_another_definition_of_success_is_refused(self):
    with self.assertRaisesRegex(ValueError, "must not be bound.*'mine', 0.0"):
      self._read(every_episode_succeeds=True, success_field='mine')


if __name__ == '__main__':
  absltest.main()
