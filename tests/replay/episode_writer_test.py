"""Tests of stored steps and the recorder of driver steps."""

import collections

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.drivers import py_driver
from tf_agents.environments import py_environment
from tf_agents.policies import random_py_policy
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

from parl_tf import types
from parl_tf.replay import episode_writer


def _episode(rewards, discounts, **kwargs):
  """Returns an episode whose observation at step t is (t, -t)."""
  num_steps = len(rewards)
  steps = np.arange(num_steps + 1, dtype=np.float32)
  return types.Episode(
      observation=np.stack([steps, -steps], axis=1),
      action=np.full((num_steps, 1), 0.5, np.float32),
      reward=np.asarray(rewards, np.float32),
      discount=np.asarray(discounts, np.float32),
      success=np.asarray(rewards) >= 0,
      **kwargs,
  )


class _CountingEnvironment(py_environment.PyEnvironment):
  """Observes the number of steps since the reset; ends at `length`."""

  def __init__(self, length, terminal):
    super().__init__()
    self._length = length
    self._terminal = terminal
    self._count = np.zeros([1], np.float32)

  def observation_spec(self):
    return array_spec.ArraySpec([1], np.float32)

  def action_spec(self):
    return array_spec.BoundedArraySpec([1], np.float32, -1.0, 1.0)

  def is_success(self):
    return bool(self._count[0] == self._length)

  def _reset(self):
    self._count = np.zeros([1], np.float32)
    return ts.restart(self._count)

  def _step(self, action):
    if self._current_time_step.is_last():
      return self.reset()
    self._count = self._count + 1
    reward = np.float32(10 * self._count[0])
    if self._count[0] < self._length:
      return ts.transition(self._count, reward)
    if self._terminal:
      return ts.termination(self._count, reward)
    return ts.truncation(self._count, reward)


class StoredStepsTest(parameterized.TestCase):

  def test_steps_by_hand(self):
    steps = episode_writer.stored_steps(
        _episode([0.0, 1.0], [1.0, 0.0], episode_id=7, policy_version=3),
        gamma=0.5,
        reward_scale=2.0,
        reward_bias=-1.0,
    )
    np.testing.assert_array_equal(steps.step_type, [0, 1, 2])
    np.testing.assert_array_equal(steps.next_step_type, [1, 2, 0])
    np.testing.assert_array_equal(steps.action, [[0.5], [0.5], [0.0]])
    # Raw in the table ...
    np.testing.assert_array_equal(steps.reward, [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(steps.discount, [1.0, 0.0, 1.0])
    info = steps.policy_info
    # ... scaled in the return: r = (-1, 1), G_1 = 1, G_0 = -1 + 0.5 * 1.
    np.testing.assert_array_equal(info['monte_carlo_return'], [-0.5, 1.0, 0.0])
    np.testing.assert_array_equal(info['episode_id'], [7, 7, 7])
    np.testing.assert_array_equal(info['step_index'], [0, 1, 2])
    np.testing.assert_array_equal(info['policy_version'], [3, 3, 3])
    self.assertEqual(steps.step_type.dtype, np.int32)
    self.assertEqual(steps.next_step_type.dtype, np.int32)
    self.assertEqual(info['monte_carlo_return'].dtype, np.float32)
    self.assertEqual(info['episode_id'].dtype, np.int64)
    self.assertEqual(info['step_index'].dtype, np.int32)
    self.assertEqual(info['policy_version'].dtype, np.int64)
    self.assertEqual(info['success'].dtype, np.bool_)

  def test_extrapolated_returns_by_hand(self):
    # r = (-1, 1), past the time limit 0 / (1 - 0.5); then r = (-1, -1), -2.
    for rewards, returns in (
        ([0.0, 1.0], [-0.5, 1.0, 0.0]),
        ([0.0, 0.0], [-2.0, -2.0, 0.0]),
    ):
      steps = episode_writer.stored_steps(
          _episode(rewards, [1.0, 1.0]),
          gamma=0.5,
          reward_scale=2.0,
          reward_bias=-1.0,
          extrapolate=True,
      )
      np.testing.assert_array_equal(
          steps.policy_info['monte_carlo_return'], returns
      )

  def test_mapping_of_any_type_is_stored_as_a_dict(self):
    episode = _episode([0.0, 1.0], [1.0, 1.0])
    observation = collections.OrderedDict(x=episode.observation)
    steps = episode_writer.stored_steps(
        episode._replace(observation=observation),
        gamma=0.5, reward_scale=1.0, reward_bias=0.0,
    )
    self.assertIs(type(steps.observation), dict)

  def test_terminal_and_time_out_differ_only_in_discount(self):
    terminal, time_out = (
        episode_writer.stored_steps(
            _episode([-1.0, -1.0], discounts),
            gamma=0.5, reward_scale=1.0, reward_bias=0.0,
        )
        for discounts in ([1.0, 0.0], [1.0, 1.0])
    )
    np.testing.assert_array_equal(terminal.discount, [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(time_out.discount, [1.0, 1.0, 1.0])
    for leaf, other in zip(
        tf.nest.flatten(terminal._replace(discount=())),
        tf.nest.flatten(time_out._replace(discount=())),
    ):
      np.testing.assert_array_equal(leaf, other)

  def test_time_out_that_fails_ends_with_the_worst_return(self):
    options = dict(
        gamma=0.5, reward_scale=2.0, reward_bias=-1.0,
        never_succeeds_value=-2.0, timeout_fails=True,
    )
    failed = _episode([0.0, 0.0], [1.0, 1.0])._replace(
        success=np.zeros(2, bool)
    )
    steps = episode_writer.stored_steps(failed, **options)
    # The last reward is -2 after scale and bias.
    np.testing.assert_array_equal(steps.reward, [0.0, -0.5, 0.0])
    np.testing.assert_array_equal(steps.discount, [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(
        steps.policy_info['monte_carlo_return'], [-2.0, -2.0, 0.0]
    )
    np.testing.assert_array_equal(failed.reward, [0.0, 0.0])
    # Neither success nor an end other than the time limit is changed.
    for discounts, success in (
        ([1.0, 1.0], [True, False]), ([1.0, 0.0], [False, False]),
    ):
      other = _episode([0.0, 0.0], discounts)._replace(
          success=np.array(success)
      )
      steps = episode_writer.stored_steps(other, **options)
      np.testing.assert_array_equal(steps.reward, [0.0, 0.0, 0.0])
      np.testing.assert_array_equal(steps.discount, [*discounts, 1.0])

  @parameterized.named_parameters(
      ('nan_reward', dict(reward=np.array([0, np.nan], np.float32)),
       r'episode 4: field `reward` must be finite, got nan at \[1\]'),
      ('dtype', dict(reward=np.zeros(2)), r'field `reward` must be float32 of '
       r'shape \[2\], got float64'),
      ('action_outside', dict(action=np.array([[0], [1.5]], np.float32)),
       r'field `action` must be in \[-1, 1\], got 1.5 at \[1, 0\]'),
      ('length', dict(action=np.zeros([3, 1], np.float32)),
       r'field `action` must have 2 steps, got shape \[3, 1\]'),
      ('observation_length', dict(observation={'x': np.zeros([2, 1], 'f4')}),
       r'field `observation/x` must have 3 steps, got shape \[2, 1\]'),
      ('observation_dtype', dict(observation=np.zeros([3, 1])),
       'field `observation` must be float32 or uint8, got float64'),
      ('discount', dict(discount=np.array([0.5, 1], np.float32)),
       '`discount` must be 1, except in the last step.*got 0.5 in step 0'),
      ('terminal_without_transition', dict(
          discount=np.array([1, 0], np.float32), has_last_transition=False),
       'has_last_transition'),
  )
  def test_fault_is_named(self, changes, message):
    episode = _episode([0.0, 1.0], [1.0, 1.0], episode_id=4)
    with self.assertRaisesRegex(ValueError, message):
      episode_writer.stored_steps(
          episode._replace(**changes),
          gamma=0.5, reward_scale=1.0, reward_bias=0.0,
      )


class _RecordingSink:
  """Records the steps that are added."""

  def __init__(self):
    self.added = []

  def add(self, table, steps, num_transitions):
    self.added.append((table, steps, num_transitions))


class EpisodeWriterTest(parameterized.TestCase):

  def _write(self, episode):
    sink = _RecordingSink()
    writer = episode_writer.EpisodeWriter(
        gamma=0.5, reward_scale=1.0, reward_bias=-1.0,
        never_succeeds_value=-2.0, sink=sink,
    )
    writer.write('online', episode)
    (added,) = sink.added
    return added

  def test_sink_gets_the_steps_with_returns(self):
    episode = _episode([0, 0], [1, 1])._replace(success=np.zeros(2, np.bool_))
    table, steps, num_transitions = self._write(episode)
    self.assertEqual(table, 'online')
    self.assertEqual(num_transitions, 2)
    # Both rewards are -1 after the bias, so the return is that of no success.
    np.testing.assert_array_equal(
        steps.policy_info['monte_carlo_return'], [-2.0, -2.0, 0.0]
    )

  def test_a_success_with_a_negative_reward_is_no_endless_episode(self):
    # The task is solved between the repetitions of the last action.
    episode = _episode([0.0, 0.5], [1.0, 0.0])
    success = np.array([False, True])
    _, steps, _ = self._write(episode._replace(success=success))
    # r = (-1, -0.5): G_0 = -1 + 0.5 * -0.5.
    np.testing.assert_array_equal(
        steps.policy_info['monte_carlo_return'], [-1.25, -0.5, 0.0]
    )

  def test_last_step_without_observation_counts_only_in_the_return(self):
    _, steps, num_transitions = self._write(
        _episode([0, 1], [1, 1], has_last_transition=False)
    )
    self.assertEqual(num_transitions, 1)
    # r = (-1, 0): G_0 = -1 + 0.5 * 0.
    np.testing.assert_array_equal(
        steps.policy_info['monte_carlo_return'], [-1.0, 0.0, 0.0]
    )


class EpisodeRecorderTest(parameterized.TestCase):

  def _record(self, terminal, num_episodes=1):
    environment = _CountingEnvironment(3, terminal)
    episodes = []
    recorder = episode_writer.EpisodeRecorder(
        episodes.append, environment.is_success
    )
    recorder.episode_id = 5
    recorder.policy_version = 11
    policy = random_py_policy.RandomPyPolicy(
        environment.time_step_spec(), environment.action_spec()
    )
    driver = py_driver.PyDriver(
        environment, policy, [recorder], max_episodes=num_episodes
    )
    driver.run(environment.reset())
    return episodes

  @parameterized.parameters((True, 0.0), (False, 1.0))
  def test_driver_steps_become_an_episode(self, terminal, last_discount):
    episode, = self._record(terminal)
    np.testing.assert_array_equal(
        episode.observation, [[0.0], [1.0], [2.0], [3.0]]
    )
    np.testing.assert_array_equal(episode.reward, [10.0, 20.0, 30.0])
    np.testing.assert_array_equal(episode.discount, [1.0, 1.0, last_discount])
    np.testing.assert_array_equal(episode.success, [False, False, True])
    self.assertEqual(episode.action.shape, (3, 1))
    self.assertEqual(episode.episode_id, 5)
    self.assertEqual(episode.policy_version, 11)
    self.assertTrue(episode.has_last_transition)

  def test_later_episodes_get_the_next_ids(self):
    episodes = self._record(True, num_episodes=2)
    self.assertEqual([episode.episode_id for episode in episodes], [5, 6])
    np.testing.assert_array_equal(
        episodes[0].observation, episodes[1].observation
    )

  def _steps(self):
    steps = episode_writer.stored_steps(
        _episode([0.0, 1.0], [1.0, 1.0]),
        gamma=0.5, reward_scale=1.0, reward_bias=0.0,
    )
    return [
        tf.nest.map_structure(lambda leaf: leaf[index], steps)
        for index in range(3)
    ]

  def test_batch_of_one_equals_no_batch(self):
    unbatched, batched = [], []
    first = episode_writer.EpisodeRecorder(unbatched.append, lambda: False)
    second = episode_writer.EpisodeRecorder(batched.append, lambda: False)
    for step in self._steps():
      first(step)
      second(tf.nest.map_structure(lambda leaf: np.asarray(leaf)[None], step))
    for leaf, other in zip(
        tf.nest.flatten(unbatched), tf.nest.flatten(batched)
    ):
      np.testing.assert_array_equal(leaf, other)

  def test_batch_of_two_is_an_error(self):
    recorder = episode_writer.EpisodeRecorder(print, lambda: False)
    step = tf.nest.map_structure(
        lambda leaf: np.stack([leaf, leaf]), self._steps()[0]
    )
    with self.assertRaisesRegex(ValueError, r'got \[2\]'):
      recorder(step)

  def test_reset_before_the_end_drops_the_steps(self):
    episodes = []
    recorder = episode_writer.EpisodeRecorder(episodes.append, lambda: False)
    steps = self._steps()
    with self.assertLogs(level='WARNING'):
      for step in steps[:1] + steps:
        recorder(step)
    self.assertLen(episodes, 1)
    self.assertEqual(episodes[0].num_steps, 2)

  def test_first_step_inside_an_episode_is_an_error(self):
    recorder = episode_writer.EpisodeRecorder(print, lambda: False)
    with self.assertRaisesRegex(ValueError, 'must be FIRST'):
      recorder(self._steps()[1])


if __name__ == '__main__':
  tf.test.main()
