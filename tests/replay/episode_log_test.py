"""Tests of the episode log."""

import os
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.replay import episode_log


def _episode(episode_id, num_steps=3, observation=None):
  """Returns an episode whose observations hold its id."""
  if observation is None:
    observation = np.full((num_steps + 1, 2), episode_id, np.float32)
  return types.Episode(
      observation=observation,
      action=np.full((num_steps, 1), -0.5, np.float32),
      reward=np.arange(num_steps, dtype=np.float32),
      discount=np.ones(num_steps, np.float32),
      success=np.arange(num_steps) % 2 == 0,
      episode_id=episode_id,
      policy_version=10 * episode_id,
      has_last_transition=False,
  )


class EpisodeLogTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._directory = os.path.join(self.create_tempdir().full_path, 'episodes')

  def _assert_same(self, episode, other):
    tf.nest.assert_same_structure(episode, other)
    for leaf, other_leaf in zip(
        tf.nest.flatten(episode), tf.nest.flatten(other)
    ):
      np.testing.assert_array_equal(leaf, other_leaf)
      self.assertEqual(np.asarray(leaf).dtype, np.asarray(other_leaf).dtype)

  @parameterized.named_parameters(
      ('array', None),
      ('mapping', {
          'image': np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3),
          'position/x': np.ones((4, 2), np.float32),
      }),
  )
  def test_episodes_are_read_back_unchanged(self, observation):
    log = episode_log.EpisodeLog(self._directory)
    episode = _episode(4, observation=observation)
    self.assertEqual(log.append(episode), 0)
    self._assert_same(next(log.read()), episode)
    reopened = episode_log.EpisodeLog(self._directory)
    self._assert_same(next(reopened.read()), episode)

  def test_positions_continue_after_reopening(self):
    log = episode_log.EpisodeLog(self._directory)
    self.assertEqual([log.append(_episode(i)) for i in (5, 3)], [0, 1])
    log = episode_log.EpisodeLog(self._directory)
    self.assertLen(log, 2)
    self.assertEqual(log.append(_episode(8)), 2)
    self.assertEqual([e.episode_id for e in log.read()], [5, 3, 8])
    self.assertEqual([e.episode_id for e in log.read(1)], [3, 8])
    self.assertEqual([e.episode_id for e in log.read(1, 2)], [3])
    self.assertEmpty(list(log.read(3)))

  def test_positions_outside_the_log_are_an_error(self):
    log = episode_log.EpisodeLog(self._directory)
    with self.assertRaisesRegex(ValueError, r'\[0, 0\], got start 1'):
      list(log.read(1))

  def test_duplicate_id_is_dropped_with_a_warning(self):
    log = episode_log.EpisodeLog(self._directory)
    log.append(_episode(5, num_steps=2))
    log.append(_episode(6))
    with self.assertLogs(level='WARNING') as logs:
      self.assertEqual(log.append(_episode(5, num_steps=9)), 0)
    self.assertIn('5', logs.output[0])
    self.assertLen(log, 2)
    self.assertEqual(next(log.read()).num_steps, 2)

  def test_duplicate_id_of_a_copied_file_is_dropped_with_a_warning(self):
    log = episode_log.EpisodeLog(self._directory)
    log.append(_episode(5))
    path, = [entry.path for entry in os.scandir(self._directory)]
    with open(path, 'rb') as file:
      contents = file.read()
    with open(path.replace('00000000', '00000001'), 'wb') as file:
      file.write(contents)
    with self.assertLogs(level='WARNING'):
      log = episode_log.EpisodeLog(self._directory)
    self.assertLen(log, 1)
    self.assertEqual(log.append(_episode(6)), 1)
    with self.assertLogs(level='WARNING'):
      log = episode_log.EpisodeLog(self._directory)
    self.assertEqual([e.episode_id for e in log.read()], [5, 6])

  def test_torn_write_is_ignored_and_named(self):
    log = episode_log.EpisodeLog(self._directory)
    log.append(_episode(0))
    path, = [entry.path for entry in os.scandir(self._directory)]
    with open(path, 'rb') as file:
      head = file.read()[:100]
    torn = path.replace('00000000_0', '00000001_1') + '.partial'
    with open(torn, 'wb') as file:
      file.write(head)
    with self.assertLogs(level='WARNING') as logs:
      log = episode_log.EpisodeLog(self._directory)
    self.assertIn(os.path.basename(torn), logs.output[0])
    self.assertLen(log, 1)
    # The same episode, collected again, replaces the partial file.
    self.assertEqual(log.append(_episode(1)), 1)
    self.assertFalse(os.path.exists(torn))

  @parameterized.named_parameters(
      ('cut', lambda contents: contents[:len(contents) // 2]),
      ('empty', lambda contents: b''),
      ('bit', lambda contents: contents.replace(
          np.float32(-0.5).tobytes(), np.float32(-0.25).tobytes(), 1)),
  )
  def test_corrupt_file_is_an_error_that_names_it(self, damage):
    log = episode_log.EpisodeLog(self._directory)
    log.append(_episode(0))
    path, = [entry.path for entry in os.scandir(self._directory)]
    with open(path, 'rb') as file:
      contents = file.read()
    with open(path, 'wb') as file:
      file.write(damage(contents))
    with self.assertRaisesRegex(ValueError, 'episode_00000000_0.npz'):
      list(log.read())

  def test_a_torn_end_is_set_aside(self):
    log = episode_log.EpisodeLog(self._directory)
    for episode_id in range(2):
      log.append(_episode(episode_id))
    path = os.path.join(self._directory, 'episode_00000001_1.npz')
    os.truncate(path, 100)

    log = episode_log.EpisodeLog(self._directory, drop_torn_end=True)

    self.assertTrue(os.path.exists(path + '.torn'))
    self.assertEqual([e.episode_id for e in log.read()], [0])
    self.assertEqual(log.append(_episode(1)), 1)
    self.assertEqual([e.episode_id for e in log.read()], [0, 1])

  def test_end_that_the_disk_cannot_read_is_not_set_aside(self):
    episode_log.EpisodeLog(self._directory).append(_episode(0))
    names = os.listdir(self._directory)
    with mock.patch('builtins.open', side_effect=OSError(5, 'bad block')):
      with self.assertRaisesRegex(OSError, 'bad block'):
        episode_log.EpisodeLog(self._directory, drop_torn_end=True)
    self.assertEqual(os.listdir(self._directory), names)

  def test_missing_file_is_an_error(self):
    log = episode_log.EpisodeLog(self._directory)
    for episode_id in range(3):
      log.append(_episode(episode_id))
    os.remove(os.path.join(self._directory, 'episode_00000001_1.npz'))
    with self.assertRaisesRegex(ValueError, 'file number 1 of the log'):
      episode_log.EpisodeLog(self._directory)

  @parameterized.named_parameters(
      ('nan', _episode(1)._replace(reward=np.full(3, np.nan, np.float32)),
       'episode_00000001_1.npz: field `reward` must be finite'),
      ('width', _episode(1, observation=np.zeros((4, 5), np.float32)),
       r'field `observation` must be float32 of shape \[2\] at each step, got '
       r'float32 of shape \[5\]'),
      ('dtype', _episode(1, observation=np.zeros((4, 2), np.uint8)),
       r'must be float32 of shape \[2\] at each step, got uint8'),
      ('fields', _episode(1, observation={'x': np.zeros((4, 2), np.float32)}),
       r"unknown \['observation/x'\]"),
      ('action', _episode(1)._replace(action=np.full((3, 1), 2, np.float32)),
       r'field `action` must be in \[-1, 1\], got 2.0'),
  )
  def test_bad_episode_is_an_error_before_it_is_written(self, episode, message):
    episode_log.EpisodeLog(self._directory).append(_episode(0))
    log = episode_log.EpisodeLog(self._directory)
    with self.assertRaisesRegex(ValueError, message):
      log.append(episode)
    self.assertLen(log, 1)
    self.assertLen(os.listdir(self._directory), 1)


if __name__ == '__main__':
  tf.test.main()
