"""Tests of the comparison of a policy with recorded actions."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.binaries import policy_data_check


def _episode(number, num_steps=12):
  """Returns an episode whose observation has the action and the next one."""
  random = np.random.default_rng(number)
  actions = random.uniform(-1, 1, [num_steps + 1, 2]).astype(np.float32)
  observation = np.concatenate([actions, np.roll(actions, -1, axis=0)], axis=1)
  return types.Episode(
      observation=observation,
      action=actions[:-1],
      reward=np.zeros(num_steps, np.float32),
      discount=np.ones(num_steps, np.float32),
      success=np.zeros(num_steps, bool),
      episode_id=number,
      policy_version=0,
      has_last_transition=True,
  )


class _Policy:
  """Draws noisy chunks of two actions, the first of which `act` makes."""

  def __init__(self, act):
    self._act = act

  def sample(self, observation, num_samples, seed):
    mean = self._act(observation)[:, np.newaxis]
    noise = np.random.default_rng(seed).normal(
        scale=0.1, size=(len(mean), num_samples, 2)
    )
    return tf.constant(np.concatenate([mean + noise, 9.0 + noise], axis=2))


class PolicyDataCheckTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('sound', lambda x: x[:, :2], 'OK', 'is 0.1'),
      ('other_sign', lambda x: x[:, :2] * [1, -1], 'NOTE', r'dimensions \[1\]'),
      ('other_order', lambda x: x[:, 1::-1], 'NOTE', r'dimensions \[0, 1\]'),
      ('blind', lambda x: 0 * x[:, :2], 'NOTE', r'dimensions \[0, 1\]'),
      ('late', lambda x: x[:, 2:], 'NOTE', 'the action 1 steps later'),
  )
  def test_finding(self, act, status, text):
    episodes = [_episode(i) for i in range(30)]
    found = policy_data_check.examine(_Policy(act), episodes, 4, 1)
    self.assertEqual(found.status, status, found)
    self.assertRegex(found.found, text)

  def test_a_constant_dimension_tells_nothing(self):
    episodes = [_episode(i) for i in range(30)]
    for episode in episodes:
      episode.action[:, 1] = 0.5
    policy = _Policy(lambda x: x[:, :2] * [1, 0])
    found = policy_data_check.examine(policy, episodes, 4, 1)
    self.assertEqual(found.status, 'OK', found)

  @parameterized.parameters(1, 2, 3)
  def test_few_states_do(self, num_steps):
    policy = _Policy(lambda x: x[:, :2])
    found = policy_data_check.examine(policy, [_episode(0, num_steps)], 4, 1)
    self.assertIn(f'at {num_steps} recorded states', found.found)


if __name__ == '__main__':
  absltest.main()
