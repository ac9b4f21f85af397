"""Tests of how a file of episodes is written."""

import itertools
import os
import shutil
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
import h5py
import numpy as np

from parl_tf import synced_file
from parl_tf.datasets import d4rl
from parl_tf.datasets import d4rl_writer
from parl_tf.datasets import reading
from tests import build_files
from tests.datasets import d4rl_columns

_episode = d4rl_columns.make_episode
_NUM_COLUMNS = 7  # Of such an episode.
# Prints the number of each episode that it has recorded.
_RECORDER = """
import itertools, sys
from parl_tf.datasets import d4rl_writer
from tests.datasets import d4rl_columns

with d4rl_writer.EpisodeFile(sys.argv[1], keeps_unfinished=True) as file:
  for number in itertools.count():
    file.append(d4rl_columns.make_episode(range(60), True, number))
    print(number, flush=True)
"""


class EpisodeFileTest(absltest.TestCase):

  def test_a_second_recording_to_the_same_file_is_refused(self):
    program = (
        'import sys\n'
        'from parl_tf.datasets import d4rl_writer\n'
        'try:\n'
        '  d4rl_writer.EpisodeFile(sys.argv[1])\n'
        'except OSError as error:\n'
        '  print(error)\n'
    )
    with d4rl_writer.EpisodeFile(self._path) as file:
      file.append(_episode(range(60), True, 0))
      done = subprocess.run(
          [sys.executable, '-c', program, self._path],
          env={**os.environ, 'PYTHONPATH': str(build_files.ROOT)},
          capture_output=True, text=True, check=True,
      )
      self.assertEqual(
          done.stdout, f'{self._path}: another process writes to it.\n'
      )
      file.append(_episode(range(60), True, 1))
    (first, second) = reading.read_episodes(self._path)
    self.assertEqual((first.num_steps, second.num_steps), (59, 59))
    self.assertEqual(os.listdir(os.path.dirname(self._path)), ['data.hdf5'])

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'data.hdf5')

  def test_no_file_is_left_after_an_error(self):
    def fail():
      yield _episode([0, 1], True)
      raise RuntimeError('stop')

    with self.assertRaisesRegex(RuntimeError, 'stop'):
      d4rl_columns.write_episodes(self._path, fail())
    self.assertEmpty(os.listdir(os.path.dirname(self._path)))

  def test_complete_episodes_can_be_kept_after_an_error(self):
    folder = os.path.dirname(self._path)
    for length in (3, 5):
      with self.assertRaisesRegex(RuntimeError, 'stop'):
        with d4rl_writer.EpisodeFile(self._path, keeps_unfinished=True) as file:
          file.append(_episode(range(length), True))
          raise RuntimeError('stop')
    self.assertCountEqual(
        os.listdir(folder),
        ['data.unfinished-1.hdf5', 'data.unfinished-2.hdf5'],
    )
    for i, length in (1, 3), (2, 5):
      path = os.path.join(folder, f'data.unfinished-{i}.hdf5')
      (episode,) = reading.read_episodes(path)
      self.assertEqual(episode.num_steps, length - 1)

  def test_episodes_are_on_the_disk_before_their_copies_are_removed(self):
    kept_folder = self._path + '.episodes'
    synced = []

    def sync(path):
      synced.append((os.path.basename(path), os.path.exists(kept_folder)))

    with self.assertRaises(KeyboardInterrupt):
      with d4rl_writer.EpisodeFile(self._path, keeps_unfinished=True) as file:
        file.append(_episode([0, 1], True))
        self.enter_context(mock.patch.object(synced_file, 'sync', sync))
        raise KeyboardInterrupt

    folder = os.path.basename(os.path.dirname(self._path))
    self.assertEqual(
        synced, [('data.hdf5.partial', True), (folder, True)]
    )
    self.assertFalse(os.path.exists(kept_folder))

  def test_metadata_that_do_not_fit_leave_no_file(self):
    with self.assertRaises(OSError):
      d4rl_writer.EpisodeFile(self._path, metadata={'x': 70_000 * ['x']})
    self.assertEmpty(os.listdir(os.path.dirname(self._path)))

  def test_infos_may_be_empty(self):
    with d4rl_writer.EpisodeFile(self._path) as file:
      episode = _episode([0, 1], True)
      file.append(episode, {'buttons': np.zeros([episode.num_steps, 0])})
    with h5py.File(self._path) as file:
      self.assertEqual(file['infos/buttons'].shape[1:], (0,))

  def test_a_recorder_that_is_killed_while_it_writes_loses_nothing(self):
    command = [sys.executable, '-c', _RECORDER, self._path]
    with subprocess.Popen(
        command, cwd=build_files.ROOT, stdout=subprocess.PIPE, text=True
    ) as recorder:
      for number in range(20):
        self.assertEqual(recorder.stdout.readline(), f'{number}\n')
      recorder.kill()
    with d4rl_writer.EpisodeFile(self._path, keeps_unfinished=True):
      pass
    kept = self._path.replace('.hdf5', '.unfinished-1.hdf5')
    self.assertGreaterEqual(len(list(reading.read_episodes(kept))), 20)

  def test_a_kill_loses_no_complete_episode(self):
    killed = os.path.join(self.create_tempdir().full_path, 'data.hdf5')
    with d4rl_writer.EpisodeFile(self._path, keeps_unfinished=True) as file:
      for length in 3, 5:
        file.append(_episode(range(length), True))
      # What a kill while the next episode is written would leave.
      shutil.copytree(f'{self._path}.episodes', f'{killed}.episodes')
      for torn in f'{killed}.partial', f'{killed}.episodes/000002.hdf5.partial':
        with open(torn, 'wb') as damaged:
          damaged.write(b'HDF')
    with d4rl_writer.EpisodeFile(killed, keeps_unfinished=True) as file:
      file.append(_episode(range(7), True))
    kept = killed.replace('.hdf5', '.unfinished-1.hdf5')
    lengths = {
        path: [x.num_steps for x in reading.read_episodes(path)]
        for path in (kept, killed)
    }
    self.assertEqual(lengths, {kept: [2, 4], killed: [6]})
    self.assertLen(os.listdir(os.path.dirname(killed)), 2)

  def test_numbers_that_the_first_episodes_dtype_cannot_hold(self):
    whole = np.zeros([1], np.int64)
    with self.assertRaisesRegex(
        ValueError, '`infos/x` must have dtype int64.*got float32'
    ):
      with d4rl_writer.EpisodeFile(self._path) as file:
        file.append(_episode([0, 1], True), {'x': whole})
        file.append(_episode([0, 1], True, 1), {'x': whole.astype(np.float32)})

  def test_discounts_that_d4rl_cannot_express(self):
    episode = _episode([0, 1, 2], True)._replace(
        discount=np.array([0.0, 1.0], np.float32)
    )
    with self.assertRaisesRegex(ValueError, '`discount` must be 1, except'):
      d4rl_columns.write_episodes(self._path, [episode])

  def test_an_interrupted_write_is_repeated(self):
    self._write_while(failing_writes={3}, error=KeyboardInterrupt())
    self.assertEqual(self._kept_lengths(), [4])

  def test_a_full_disk_keeps_what_was_written(self):
    # The second episode fails, and so does the attempt to write it at the end.
    failing = set(range(_NUM_COLUMNS + 3, 3 * _NUM_COLUMNS))
    self._write_while(failing_writes=failing, error=OSError(28, 'full'))
    self.assertEqual(self._kept_lengths(), [4])

  def test_a_write_that_does_not_fit_is_not_begun(self):
    usage = shutil.disk_usage(os.path.dirname(self._path))
    with self.assertRaisesRegex(OSError, 'No space left.*data.hdf5'):
      with d4rl_writer.EpisodeFile(self._path, keeps_unfinished=True) as file:
        for num_rows in 8_193, 5:  # The first is written at once.
          file.append(_episode(range(num_rows), True))
        self.enter_context(mock.patch.object(
            shutil, 'disk_usage', return_value=usage._replace(free=1000)
        ))
    self.assertEqual(self._kept_lengths(), [8_192])
    # The other episode is not lost.
    self.assertLen(os.listdir(f'{self._path}.episodes'), 2)

  def _write_while(self, failing_writes, error):
    """Writes episodes of 4 and 6 steps; writes of columns fail by number."""
    write, numbers = h5py.Dataset.__setitem__, itertools.count(1)

    def write_or_fail(*args):
      if next(numbers) in failing_writes:
        raise error
      write(*args)

    # Writes each episode at once.
    self.enter_context(mock.patch.object(d4rl_writer, '_CHUNK_ROWS', 1))
    self.enter_context(
        mock.patch.object(h5py.Dataset, '__setitem__', write_or_fail)
    )
    with self.assertRaises(type(error)):
      with d4rl_writer.EpisodeFile(self._path, keeps_unfinished=True) as file:
        file.append(_episode(range(5), True))
        file.append(_episode(range(7), True))

  def _kept_lengths(self):
    folder = os.path.dirname(self._path)
    self.assertIn('data.unfinished-1.hdf5', os.listdir(folder))
    path = os.path.join(folder, 'data.unfinished-1.hdf5')
    return [x.num_steps for x in reading.read_episodes(path)]

  def test_a_file_without_an_episode_is_not_kept(self):
    with self.assertRaisesRegex(RuntimeError, 'stop'):
      with d4rl_writer.EpisodeFile(self._path, keeps_unfinished=True):
        raise RuntimeError('stop')
    self.assertEmpty(os.listdir(os.path.dirname(self._path)))

  def test_action_bounds_do_not_scale_what_the_library_wrote(self):
    episode = _episode(range(4), True)
    d4rl_columns.write_episodes(self._path, [episode])
    (found,) = reading.read_episodes(self._path, action_bounds=(-0.5, 0.5))
    np.testing.assert_array_equal(found.action, episode.action)

  def test_bounds_that_have_changed_since_the_recording_are_a_fault(self):
    bounds = np.float32([[-0.25], [0.25]])
    d4rl_columns.write_episodes(
        self._path, [_episode(range(4), True)],
        metadata={d4rl.BOUNDS: bounds},
    )
    reading.read_episodes(self._path, raw_action_bounds=bounds)
    with self.assertRaisesRegex(ValueError, r'meant \[-0.25\] and .*\[1.0\]'):
      reading.read_episodes(self._path, raw_action_bounds=4.0 * bounds)

  def test_files_of_earlier_versions_are_recognized_by_their_metadata(self):
    episode = _episode(range(4), True)
    d4rl_columns.write_episodes(
        self._path, [episode], metadata={'gin_config': ''}
    )
    with h5py.File(self._path, 'a') as file:
      for name in file.attrs:
        del file.attrs[name]
    (found,) = reading.read_episodes(self._path, action_bounds=(-0.5, 0.5))
    np.testing.assert_array_equal(found.action, episode.action)

  def test_chunks_of_images_have_at_most_a_mebibyte(self):
    images = np.zeros([3, 64, 64, 3], np.uint8)
    episode = _episode([0, 1, 2], True)._replace(observation=images)
    d4rl_columns.write_episodes(self._path, [episode])
    with h5py.File(self._path, 'r') as file:
      self.assertEqual(file['observations'].chunks, (85, 64, 64, 3))
      self.assertEqual(file['actions'].chunks[0], 8_192)

  def test_an_existing_file_survives_an_error(self):
    d4rl_columns.write_episodes(self._path, [_episode([0, 1], True)])
    with self.assertRaises(ValueError):
      d4rl_columns.write_episodes(
          self._path, [_episode([0, 1], False, has_last_transition=False)]
      )
    self.assertLen(list(reading.read_episodes(self._path)), 1)


if __name__ == '__main__':
  absltest.main()
