"""Tests of recording episodes and datasets with a noisy controller."""

import contextlib
import os
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import dm_env
from dm_env import specs
import gin
import h5py
import numpy as np

from parl_tf.datasets import d4rl_writer
from parl_tf.datasets import generate
from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from tests.datasets import d4rl_columns
from tests.datasets import episode_check

_OBSERVATION_SPEC = specs.Array((1,), np.float32)
_ACTION_SPEC = specs.BoundedArray((1,), np.float32, -1.0, 1.0)


class _Line:
  """Adds up actions; the goal is 5, and the timeout is ten steps."""

  lowest = -np.inf  # Episodes that end below it are unfit.

  def seed(self, seed):
    self._random = np.random.default_rng(seed)

  def reset(self):
    self._place = np.float32(self._random.uniform(-1, 1))
    self._num_steps = 0
    return dm_env.restart(self._observation())

  def step(self, action):
    self._place += np.float32(action[0])
    self._num_steps += 1
    if self.is_success():
      return dm_env.termination(np.float32(1), self._observation())
    if self._num_steps == 10:
      return dm_env.truncation(np.float32(0), self._observation(), 1.0)
    return dm_env.transition(np.float32(0), self._observation(), 1.0)

  def is_success(self):
    return bool(self._place >= 5)

  def info(self):
    return {'place': np.array([self._place])}

  def step_info(self):
    return {'moved_to': np.array([self._place])}

  def abandon(self):
    pass

  def may_be_recorded(self):
    return self._place >= self.lowest

  def _observation(self):
    return np.array([self._place], np.float32)


class _Pusher:
  """Pushes in one of two directions, depending on the seed."""

  def reset(self, seed):
    self._push = np.random.default_rng(seed).choice([-0.5, 0.9])

  def action(self, time_step, environment):
    return np.array([self._push], np.float32)

  def info(self):
    return {'push': np.float32(self._push)}


def _generate(num_steps=60, seed=0, line=None, **kwargs):
  return list(
      generate.generate(
          line or _Line(), _Pusher(), num_steps=num_steps, seed=seed, **kwargs
      )
  )


class GenerateTest(parameterized.TestCase):

  def test_episodes_are_valid_and_have_the_requested_number_of_steps(self):
    recordings = _generate(55)
    for number, recording in enumerate(recordings):
      episode_check.check(recording.episode, _OBSERVATION_SPEC, _ACTION_SPEC)
      self.assertEqual(recording.episode.episode_id, number)
    self.assertEqual(sum(r.episode.num_steps for r in recordings), 55)

  def test_terminal_and_timeout_are_distinguished(self):
    found = [recording.episode for recording in _generate(200)]
    solved = [e for e in found if e.success[-1]]
    self.assertNotEmpty(solved)
    for episode in solved:
      self.assertEqual((episode.discount[-1], episode.reward[-1]), (0, 1))
    timed_out = [e for e in found if not e.success[-1]]
    self.assertNotEmpty(timed_out)
    for episode in timed_out:
      self.assertEqual((episode.discount[-1], episode.reward[-1]), (1, 0))

  def test_the_last_episode_ends_with_a_timeout(self):
    line = _Line()
    with mock.patch.object(line, 'abandon') as abandon:
      last = _generate(3, line=line)[-1].episode
    self.assertEqual(last.num_steps, 3)
    self.assertEqual(last.discount[-1], 1)
    abandon.assert_called_once_with()  # A robot must not keep moving.
    self.assertTrue(last.has_last_transition)

  def test_recorded_actions_are_the_executed_ones(self):
    for recording in _generate(max_noise=2.0):
      episode = recording.episode
      np.testing.assert_allclose(
          np.diff(episode.observation, axis=0), episode.action, atol=1e-6
      )

  def test_infos_describe_the_state_before_the_action_and_the_step(self):
    for recording in _generate():
      np.testing.assert_array_equal(
          recording.infos['place'], recording.episode.observation[:-1]
      )
      np.testing.assert_array_equal(
          recording.infos['moved_to'], recording.episode.observation[1:]
      )
      self.assertLen(recording.infos['push'], recording.episode.num_steps)

  def test_equal_seeds_repeat_and_other_seeds_differ(self):
    first, again, other = (_generate(seed=seed) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
      np.testing.assert_array_equal(
          a.episode.observation, b.episode.observation
      )
    self.assertFalse(
        np.array_equal(
            first[0].episode.observation[0], other[0].episode.observation[0]
        )
    )

  def test_episodes_do_not_depend_on_the_number_of_steps(self):
    short, long = _generate(30), _generate(60)
    np.testing.assert_array_equal(
        short[0].episode.action, long[0].episode.action
    )

  def test_without_noise_the_controller_actions_are_recorded(self):
    for recording in _generate(min_noise=0.0, max_noise=0.0):
      np.testing.assert_allclose(
          recording.episode.action[:, 0], recording.infos['push']
      )

  def test_noise_is_announced(self):
    with mock.patch.object(logging, 'info') as info:
      _generate(min_noise=0.2, max_noise=0.3)
      self.assertEqual(info.call_args.args[1:], (0.2, 0.3))
      info.reset_mock()
      _generate(min_noise=0.0, max_noise=0.0)
      info.assert_not_called()

  def test_noise_differs_between_episodes(self):
    spreads = [
        np.std(recording.episode.action)
        for recording in _generate(200, max_noise=0.3)
        if recording.infos['push'][0] < 0
    ]
    self.assertGreater(max(spreads), 1.5 * min(spreads))

  def test_noise_factors_scale_each_dimension(self):
    for recording in _generate(max_noise=2.0, noise_factors=[0.0]):
      np.testing.assert_allclose(
          recording.episode.action[:, 0], recording.infos['push']
      )

  def test_unfit_episodes_are_dropped(self):
    # Without noise, ten pushes of -0.5 end below -5 if the start is below 0.
    line = _Line()
    line.lowest = -5.0
    recordings = _generate(200, line=line, min_noise=0.0, max_noise=0.0)
    self.assertEqual(sum(r.episode.num_steps for r in recordings), 200)
    numbers = [r.episode.episode_id for r in recordings]
    self.assertLess(len(numbers), numbers[-1] + 1)
    for recording in recordings:
      self.assertGreaterEqual(recording.episode.observation[-1], -5)

  def test_episodes_with_numbers_that_are_not_finite_are_dropped(self):
    class Diverging(_Line):
      share = 0.2

      def reset(self):
        self.diverges = self._random.random() < self.share
        return super().reset()

      def _observation(self):
        is_nan = self.diverges and self._num_steps == 4
        return np.array([np.nan if is_nan else self._place], np.float32)

    line = Diverging()
    with self.assertLogs(level='WARNING') as logs:
      recordings = _generate(200, line=line)
    self.assertIn('is not finite', logs.output[0])
    self.assertEqual(sum(r.episode.num_steps for r in recordings), 200)
    for recording in recordings:
      self.assertTrue(np.isfinite(recording.episode.observation).all())
    line.share = 1.0
    with self.assertRaisesRegex(ValueError, '10 episodes in a row'):
      _generate(200, line=line)

  def test_progress_counts_steps(self):
    seen = []
    recordings = _generate(progress=seen.append)
    self.assertEqual(
        seen, np.cumsum([r.episode.num_steps for r in recordings]).tolist()
    )

  @parameterized.parameters(
      (dict(num_steps=0), 'num_steps.*0'),
      (dict(seed=-1), 'seed.*-1'),
      (dict(min_noise=0.4, max_noise=0.3), 'min_noise.*0.4 and 0.3'),
      (dict(min_noise=-0.1), 'min_noise.*-0.1'),
      (dict(noise_factors=(1.0, -2.0)), 'noise_factors.*-2.0'),
  )
  def test_values_out_of_range_raise_immediately(self, arguments, message):
    arguments = {'num_steps': 1, 'seed': 0, **arguments}
    with self.assertRaisesRegex(ValueError, message):
      generate.generate(None, None, **arguments)

  def test_gin_binds_the_noise(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config('generate.min_noise = 3.0')
    with self.assertRaisesRegex(ValueError, 'got 3.0 and 0.5'):
      generate.generate(None, None, num_steps=1, seed=0)


class RecordDatasetTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._directory = self.create_tempdir().full_path
    self._path = os.path.join(self._directory, 'data.hdf5')

  def _record(self, path, seed, **kwargs):
    generate.record_dataset(
        path, _Line(), _Pusher(), num_steps=42, seed=seed, **kwargs
    )
    return list(reading.read_episodes(path))

  def test_the_file_is_valid_and_has_the_requested_number_of_steps(self):
    steps = []

    found = self._record(self._path, 0, progress=steps.append)

    self.assertEmpty(inspection.inspect(self._path).faults)
    self.assertEqual(sum(e.num_steps for e in found), 42)
    self.assertEqual(steps, np.cumsum([e.num_steps for e in found]).tolist())

  def test_file_is_a_function_of_the_seed(self):
    first, again, other = (
        self._record(os.path.join(self._directory, name), seed)
        for name, seed in (('a', 3), ('b', 3), ('c', 4))
    )

    for one, same in zip(first, again, strict=True):
      np.testing.assert_array_equal(one.observation, same.observation)
      np.testing.assert_array_equal(one.action, same.action)
    self.assertFalse(np.array_equal(first[0].action, other[0].action))

  def test_an_info_cannot_replace_the_success(self):
    for name in ('info', 'step_info'):
      with mock.patch.object(_Line, name, lambda _: {'success': np.zeros([1])}):
        with self.assertRaisesRegex(ValueError, 'infos/success.*not be among'):
          self._record(self._path, 0)

  def test_the_file_stores_its_gin_configuration(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config('generate.max_noise = 0.2')

    self._record(self._path, 3, metadata={'domain': 'line'})

    with h5py.File(self._path, 'r') as file:
      attributes = dict(file['metadata'].attrs)
    self.assertEqual(attributes['num_steps'], 42)
    self.assertEqual(attributes['seed'], 3)
    self.assertEqual(attributes['domain'], 'line')
    self.assertIn('generate.max_noise = 0.2', attributes['gin_config'])

  def test_a_lost_episode_is_recorded_again(self):
    class Unreliable(_Line):
      """Loses the second episode in its second step, once."""

      num_resets = 0

      def reset(self):
        self.num_resets += 1
        return super().reset()

      def step(self, action):
        if self.num_resets == 2 and self._num_steps == 1:
          raise ConnectionError('lost')
        return super().step(action)

    def repeat(record):
      try:
        return record()
      except ConnectionError:
        return record()

    expected = self._record(self._path, 3)
    environment = Unreliable()
    generate.record_dataset(
        self._path, environment, _Pusher(), num_steps=42, seed=3, repeat=repeat
    )
    found = list(reading.read_episodes(self._path))

    self.assertEqual(environment.num_resets, len(expected) + 1)
    for one, same in zip(expected, found, strict=True):
      np.testing.assert_array_equal(one.observation, same.observation)

  def test_ctrl_c_keeps_the_episodes_of_a_robot_only(self):
    class Interrupted(_Line, contextlib.ExitStack):
      """Ctrl-C arrives in the third episode."""

      num_resets = 0

      def reset(self):
        self.num_resets += 1
        if self.num_resets == 3:
          raise KeyboardInterrupt
        return super().reset()

    for max_environments, left in (None, []), (1, ['data.unfinished-1.hdf5']):
      domain = mock.Mock(
          max_environments=max_environments, raw_action_bounds=([-1.0], [1.0])
      )
      domain.make_recorder.return_value = (Interrupted(), _Pusher())
      with self.assertRaises(KeyboardInterrupt):
        generate.record_task(
            self._path,
            domain,
            num_steps=42,
            seed=3,
            make_progress=lambda *_: contextlib.nullcontext(mock.Mock()),
            repeat=lambda record: record(),
        )
      self.assertEqual(os.listdir(self._directory), left)

  def test_a_dataset_is_synced_before_and_after_it_gets_its_name(self):
    synced = []
    with mock.patch.object(
        d4rl_writer.synced_file,
        'sync',
        lambda path: synced.append((path, os.path.exists(self._path))),
    ):
      d4rl_columns.write_episodes(
          self._path, [d4rl_columns.make_episode([1, 2], True)]
      )
    self.assertEqual(
        synced,
        [(self._path + '.partial', False), (self._directory, True)],
    )

  def test_a_write_that_fails_half_way_keeps_the_episodes_before(self):
    first = d4rl_columns.make_episode([1, 3, 4], True)
    write, num_writes = h5py.Dataset.__setitem__, 0

    def write_or_fail(*arguments):
      nonlocal num_writes
      num_writes += 1
      if num_writes > 8:  # After all seven columns, and one of them again.
        raise OSError('the disk is full')
      write(*arguments)

    with self.assertRaisesRegex(OSError, 'the disk is full'):
      with mock.patch.object(h5py.Dataset, '__setitem__', write_or_fail):
        with d4rl_writer.EpisodeFile(self._path, keeps_unfinished=True) as file:
          file.append(first)
          file._flush()
          file.append(d4rl_columns.make_episode([5, 6], True, 1))
          file._flush()

    (name,) = set(os.listdir(self._directory)) - {'data.hdf5.episodes'}
    (found,) = reading.read_episodes(os.path.join(self._directory, name))
    np.testing.assert_array_equal(found.observation, first.observation)

  def test_a_value_out_of_range_leaves_no_file(self):
    with self.assertRaisesRegex(ValueError, 'seed.*-1'):
      self._record(self._path, -1)

    self.assertEmpty(os.listdir(self._directory))


if __name__ == '__main__':
  absltest.main()
