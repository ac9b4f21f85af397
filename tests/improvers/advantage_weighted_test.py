"""Tests of advantage-weighted imitation."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.improvers import advantage_weighted
from parl_tf.policies import gaussian
from tests import tensor_case
from tests.agents import small_agent

_SEED = tf.constant([3, 5])


class _KnownAdvantage:
  """Returns a given advantage, times a weight that must get no gradient."""

  def __init__(self, advantage):
    self.weight = tf.Variable(1.0)
    self._advantage = tf.constant(advantage)

  def advantage(self, observation, action, source, seed):
    del observation, action, source, seed
    return self.weight * self._advantage


class AdvantageWeightedTest(tensor_case.TensorCase):

  def test_weights_are_exponential_and_bounded(self):
    policy = small_agent.make_policy(gaussian.GaussianPolicy)
    transition = small_agent.make_transition()
    critic = _KnownAdvantage([-1.0, 0.0, 0.5, 1.0, 2.0, 50.0, 1e4, -1e4])
    improver = advantage_weighted.AdvantageWeightedImprover(2, 20)
    with tf.GradientTape() as tape:
      loss = improver.loss(transition, policy, critic, None, _SEED)
    expected = policy.distillation_loss(
        transition.time_step.observation, transition.action_step.action, _SEED
    )
    # exp(2 * advantage), at most 20.
    weights = [0.135335, 1.0, 2.718282, 7.389056, 20.0, 20.0, 20.0, 0.0]
    self.assertAllClose(
        loss.per_example, np.array(weights) * expected, rtol=1e-4
    )
    self.assertIsNone(tape.gradient(loss.per_example, critic.weight))

  @parameterized.parameters(
      dict(beta=0.0, max_weight=1.0), dict(beta=1.0, max_weight=0.0)
  )
  def test_bad_arguments_are_an_error(self, **arguments):
    with self.assertRaisesRegex(ValueError, '`beta` and `max_weight`'):
      advantage_weighted.AdvantageWeightedImprover(**arguments)


if __name__ == '__main__':
  absltest.main()
