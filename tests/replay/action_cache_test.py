"""Tests the cache of a policy's samples, and how it is filled."""

import dataclasses
import errno
import os
import threading
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tree

from parl_tf import types
from parl_tf.replay import action_cache
from parl_tf.replay import cache_filling
from parl_tf.replay import stored_states

_HEADER = action_cache.Header('v1', num_samples=2, action_size=3)


def _episodes():
  """Returns two episodes of 1499 and 999 steps: 2500 states, 3 shards."""
  return [
      types.Episode(
          observation=np.random.default_rng(num_steps)
          .normal(size=(num_steps + 1, 4))
          .astype(np.float32),
          action=np.zeros([num_steps, 2], np.float32),
          reward=np.zeros([num_steps], np.float32),
          discount=np.ones([num_steps], np.float32),
          success=np.zeros([num_steps], bool),
          episode_id=number,
      )
      for number, num_steps in ((7, 1499), (-3, 999))
  ]


def _sample(observation, num_samples, seed):
  """Returns the tanh of the observations, and a number of the seed."""
  mean = np.tanh(observation)[:, np.newaxis, :3]
  actions = np.tile(mean, (1, num_samples, 1))
  actions[..., 2] = (seed[0] % 1000) / 1000.0
  return actions


class ActionCacheTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.directory = os.path.join(self.create_tempdir().full_path, 'cache')
    self.states = stored_states.episode_states(_episodes())

  def _states(self, observation):
    """Returns the states with another observation."""
    return dataclasses.replace(
        self.states,
        rows=lambda places: tree.map_structure(
            lambda x: x[places], observation
        ),
    )

  def _open(self, header=_HEADER, states=None):
    return action_cache.ActionCache.open_or_create(
        self.directory, header, states or self.states
    )

  def _filled(self, header=_HEADER):
    cache = self._open(header)
    cache_filling.fill(cache, self.states, [_sample])
    return cache

  @parameterized.parameters(('float32', 1e-7), ('float16', 1e-3))
  def test_states_find_their_samples(self, dtype, tolerance):
    self._filled(action_cache.Header('v1', 2, 3, dtype=dtype))
    cache = action_cache.ActionCache(self.directory)
    cache.verify()
    order = np.random.default_rng(0).permutation(2500)[:50]
    states = stored_states.StoredStates(
        self.states.observation[order].__getitem__,
        self.states.episode_id[order],
        self.states.step_index[order],
    )

    rows = cache.find(states)

    np.testing.assert_array_equal(rows, order)
    self.assertEqual(cache.samples.dtype, dtype)
    np.testing.assert_allclose(
        cache.samples[rows][:, 1, :2],
        np.tanh(states.observation[:, :2]),
        atol=tolerance,
    )

  def test_shards_have_their_own_noise(self):
    seeds = []

    def sample(observation, num_samples, seed):
      seeds.append(tuple(seed))
      return _sample(observation, num_samples, seed)

    cache_filling.fill(self._open(), self.states, [sample])
    self.assertLen(set(seeds), 3)

  def test_a_shard_is_synced_before_it_counts(self):
    cache = self._open()
    synced, fsync = [], os.fsync

    def sync(descriptor):
      synced.append(os.readlink(f'/proc/self/fd/{descriptor}'))
      self.assertEqual(cache.complete_shards, [])
      fsync(descriptor)

    self.enter_context(
        mock.patch.object(
            np.memmap, 'flush', lambda _: synced.append('samples.npy')
        )
    )
    with mock.patch.object(os, 'fsync', sync):
      cache.write(0, np.zeros([1024, 2, 3], np.float32))

    self.assertEqual(cache.complete_shards, [0])
    self.assertEqual(
        [os.path.basename(x) for x in synced], ['samples.npy', 'shards.txt']
    )

  def test_stopped_drawing_ends_after_the_shard_at_hand(self):
    cache, is_stopped = self._open(), threading.Event()

    def sample(*arguments):
      is_stopped.set()
      return _sample(*arguments)

    cache_filling.fill(cache, self.states, [sample], is_stopped=is_stopped)

    self.assertLen(cache.complete_shards, 1)
    self.assertLen(cache.missing_shards, 2)

  def test_several_workers_draw_the_same_samples(self):
    one = self._filled().samples.copy()
    self.directory += '2'
    cache = self._open()
    both = threading.Barrier(2)

    def worker():
      is_first = True

      def sample(*arguments):
        nonlocal is_first
        if is_first:  # Each worker draws at least one shard.
          is_first = False
          both.wait(timeout=60.0)
        return _sample(*arguments)

      return sample

    seen = []
    cache_filling.fill(cache, self.states, [worker(), worker()], seen.append)

    np.testing.assert_array_equal(cache.samples, one)
    self.assertEqual(seen[-1], 3)

  def test_a_killed_program_resumes(self):
    cache = self._open()
    observation = self.states.rows(cache.places(1))
    seed = cache_filling.shard_seed(0, 1)
    cache.write(1, _sample(observation, 2, seed))
    with open(os.path.join(self.directory, 'shards.txt'), 'a') as file:
      file.write('2 12')  # Killed while it wrote.
    reader = action_cache.ActionCache(self.directory)
    self.assertEqual(reader.complete_shards, [1])
    del cache, reader

    cache = self._open()
    drawn = []

    def sample(observation, *arguments):
      drawn.append(len(observation))
      return _sample(observation, *arguments)

    self.assertEqual(cache.missing_shards, [0, 2])
    cache_filling.fill(cache, self.states, [sample])

    self.assertEqual(drawn, [1024, 452])
    resumed = cache.samples.copy()
    self.directory += '2'
    np.testing.assert_array_equal(resumed, self._filled().samples)
    action_cache.ActionCache(self.directory).verify()

  def test_shards_of_a_cache_without_its_header_do_not_count(self):
    self._filled()
    os.remove(os.path.join(self.directory, 'header.json'))

    self.assertEqual(self._open().missing_shards, [0, 1, 2])

  def test_shards_of_a_dead_server_are_drawn_by_another(self):
    def die(*unused):
      raise ConnectionError('the server is gone')

    cache = self._open()
    with self.assertLogs(level='WARNING') as logs:
      cache_filling.fill(cache, self.states, [die, _sample])

    self.assertEmpty(cache.missing_shards)
    self.assertIn('the server is gone', logs.output[0])
    self.directory += '2'
    with self.assertRaisesRegex(ConnectionError, 'the server is gone'):
      cache_filling.fill(self._open(), self.states, [die])

  @parameterized.parameters(
      (np.full([1024, 2, 3], np.nan), 'finite and in'),
      (np.full([1024, 2, 3], 1.5), 'finite and in'),
      (np.zeros([1024, 3, 3]), r'must have shape \[1024, 2, 3\]'),
  )
  def test_wrong_samples_are_refused(self, samples, fault):
    cache = self._open()

    with self.assertRaisesRegex(ValueError, f'shard 0 .*{fault}'):
      cache_filling.fill(cache, self.states, [lambda *unused: samples])
    self.assertEqual(cache.missing_shards, [0, 1, 2])

  def test_a_full_disk_is_no_failed_worker(self):
    cache = self._open()
    full = OSError(errno.ENOSPC, 'No space left on device')
    with (
        mock.patch.object(cache, 'write', side_effect=full),
        self.assertNoLogs(level='WARNING'),
        self.assertRaisesRegex(OSError, 'No space left'),
    ):
      cache_filling.fill(
          cache, self.states, [lambda *unused: np.zeros([1024, 2, 3])]
      )

  def test_a_cache_of_something_else_is_refused_by_name(self):
    self._open()
    other = self._states(self.states.observation + 1.0)

    with self.assertRaisesRegex(ValueError, "`version` 'v2', got 'v1'"):
      self._open(action_cache.Header('v2', 2, 3))
    with self.assertRaisesRegex(ValueError, '`num_samples` 4, got 2'):
      self._open(action_cache.Header('v1', 4, 3))
    with self.assertRaisesRegex(ValueError, f'{self.directory}.*`dataset`'):
      self._open(states=other)
    for temperature in (0, 0.0, 0.5):
      with self.assertRaisesRegex(ValueError, '`temperature` 0.*got 1.0'):
        self._open(action_cache.Header('v1', 2, 3, temperature=temperature))

  def test_a_cache_of_another_instruction_is_refused(self):
    self._open(dataclasses.replace(_HEADER, settings='push'))
    self._open(_HEADER)  # Unknown settings suit all.
    with self.assertRaisesRegex(ValueError, "`settings` 'pull', got 'push'"):
      self._open(dataclasses.replace(_HEADER, settings='pull'))

  def test_states_of_another_dataset_are_named(self):
    cache = self._filled()
    changed = self.states.observation.copy()
    changed[1600] += 1.0  # Step 100 of the second episode.

    with self.assertRaisesRegex(
        ValueError, r'step 100 of episode -3 has another observation \(1 of'
    ):
      cache.find(self._states(changed))
    with self.assertRaisesRegex(ValueError, 'step 0 of episode 8 is missing'):
      cache.find(
          dataclasses.replace(
              self.states,
              episode_id=np.where(self.states.episode_id == 7, 8, -3),
          )
      )

  def test_damage_is_named(self):
    cache = self._filled()
    cache.samples[1500] = 0.5
    with self.assertRaisesRegex(ValueError, 'shard 1 is damaged'):
      cache.verify()

    with open(os.path.join(self.directory, 'samples.npy'), 'rb+') as file:
      file.truncate(1000)
    with self.assertRaisesRegex(ValueError, 'samples.npy is damaged'):
      action_cache.ActionCache(self.directory)
    path = os.path.join(self.directory, 'states.npz')
    for size in (100, 0):  # As a power failure may leave it.
      os.truncate(path, size)
      with self.assertRaisesRegex(ValueError, 'states.npz is damaged'):
        action_cache.ActionCache(self.directory)
    with open(os.path.join(self.directory, 'header.json'), 'w') as file:
      file.write('{}')
    with self.assertRaisesRegex(ValueError, 'header.json is damaged'):
      action_cache.ActionCache(self.directory)

  def test_full_disk_is_named_before_samples_are_drawn(self):
    path = os.path.join(self.create_tempdir().full_path, 'cache')
    error = OSError(errno.ENOSPC, 'No space left on device')
    with mock.patch.object(os, 'posix_fallocate', side_effect=error):
      with self.assertRaisesRegex(OSError, 'No space.*samples.npy'):
        action_cache.ActionCache.open_or_create(path, _HEADER, self.states)
    with self.assertRaises(FileNotFoundError):
      action_cache.ActionCache(path)

  def test_part_of_stored_states_reads_no_other(self):
    read = []

    def rows(places):
      read.append((places.start, places.stop))
      return np.arange(10)[places]

    states = stored_states.StoredStates(rows, np.arange(10), np.zeros(10))
    part = states.part(2, 6)
    np.testing.assert_array_equal(part.rows(slice(1, 100)), [3, 4, 5])
    np.testing.assert_array_equal(part.episode_id, [2, 3, 4, 5])
    self.assertEqual(read, [(3, 6)])

  def test_an_incomplete_cache_is_refused(self):
    with self.assertRaisesRegex(ValueError, '3 of 3 shards are missing'):
      self._open().verify()

  def test_observations_may_be_dicts(self):
    states = self._states({
        'state': self.states.observation,
        'image': np.zeros([2500, 2, 2, 3], np.uint8),
    })
    cache = self._open(states=states)

    np.testing.assert_array_equal(cache.find(states), np.arange(2500))
    states.observation['image'][9, 0, 0, 0] = 1
    with self.assertRaisesRegex(ValueError, 'step 9 of episode 7 has another'):
      cache.find(states)


if __name__ == '__main__':
  absltest.main()
