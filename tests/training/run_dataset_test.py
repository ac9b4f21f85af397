"""Tests what a run reads off its dataset."""

from unittest import mock

from absl import logging
from absl.testing import absltest
import numpy as np

from parl_tf import types
from parl_tf.domains import pointmaze
from parl_tf.training import run_dataset


def _episode(num_steps, action=0.0):
  return types.Episode(
      observation=np.zeros([num_steps + 1, 2], np.float32),
      action=np.full([num_steps, 1], action, np.float32),
      reward=np.zeros(num_steps, np.float32),
      discount=np.ones(num_steps, np.float32),
      success=np.zeros(num_steps, bool),
      episode_id=0,
  )


class DigestTest(absltest.TestCase):

  def test_tells_recordings_apart(self):
    recordings = (
        [_episode(3), _episode(2)],
        [_episode(2), _episode(3)],
        [_episode(5)],
        [_episode(3), _episode(2, action=0.5)],
        [],
    )
    digests = [run_dataset.digest(episodes) for episodes in recordings]
    self.assertLen(set(digests), len(recordings))
    self.assertEqual(digests[0], run_dataset.digest(recordings[0]))
    self.assertLess(max(digests), 2**63)
    self.assertGreaterEqual(min(digests), 0)


class StartCriticTest(absltest.TestCase):

  def test_scales_rewards_and_reads_who_ends_the_task(self):
    episode = _episode(2)._replace(reward=np.array([-3.0, 1.0], np.float32))
    domain = mock.Mock(reward_scale=2.0, reward_bias=1.0)
    # Scaled rewards: -5 and 3. The time limit ends the episode, or its reward.
    for from_reward, expected in ((False, -0.4), (True, -0.25)):
      critic = mock.Mock(
          gamma=0.5,
          starts_from_data=True,
          terminals_from_reward=from_reward,
          value_range=None,
      )
      run_dataset.start_critic(mock.Mock(critic=critic), domain, [episode])
      (value,) = critic.start_at.call_args.args
      self.assertAlmostEqual(value, expected)

  def test_leaves_other_critics_alone(self):
    critic = mock.Mock(starts_from_data=False, value_range=None)
    run_dataset.start_critic(mock.Mock(critic=critic), None, [])
    run_dataset.start_critic(mock.Mock(critic=None), None, [])
    critic.start_at.assert_not_called()

  def test_returns_outside_the_critics_range_are_warned_of(self):
    critic = mock.Mock(
        starts_from_data=False,
        gamma=0.5,
        value_range=(-2.0, 0.0),
        terminals_from_reward=False,
    )
    agent = mock.Mock(critic=critic)
    domain = pointmaze.PointMaze(reward_scale=1.0, reward_bias=-1.0)
    ended = _episode(3)  # Three times -1.
    ended = ended._replace(discount=np.array([1, 1, 0], np.float32))
    wrong = ended._replace(
        reward=np.array([0, 3, 0], np.float32), episode_id=7
    )
    open_ended = wrong._replace(discount=np.ones(3, np.float32))
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      run_dataset.start_critic(agent, domain, [ended, open_ended])
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      run_dataset.start_critic(agent, domain, [ended, wrong, wrong])
    self.assertLen(logs.output, 1)
    # 2 and half of -1.
    self.assertRegex(
        logs.output[0],
        r'Episode 7 has a return of 1\.5 from step 1 on, .* from -2 to 0 '
        r'\(`PointMaze\.value_range`',
    )
    critic.value_range = None  # Scalar outputs.
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      run_dataset.start_critic(agent, domain, [wrong])


if __name__ == '__main__':
  absltest.main()
