"""Tests of the one-step policy; comments derive the golden numbers."""

import functools

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.networks import flow_network
from parl_tf.policies import one_step_flow
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED


def _make(hidden_sizes=(32, 32), **kwargs):
  return policy_conformance.make(
      one_step_flow.OneStepFlowPolicy,
      network_ctor=functools.partial(
          flow_network.FlowNetwork, hidden_sizes=hidden_sizes
      ),
      **kwargs,
  )


def make_linear(policy, bias, flow_action):
  """Makes a policy act by mu = z / 2 + bias, and its flow end in one action.

  Args:
    policy: `OneStepFlowPolicy` without hidden layers, with one Euler step.
    bias: `[A]`.
    flow_action: `[A]`, the end of every path of the flow.

  Returns:
    The one-step policy's bias, a variable.
  """
  kernel, own_bias, flow_kernel, flow_bias = policy.trainable_variables
  size = len(bias)
  num_features = kernel.shape[0] - size
  identity = np.zeros(kernel.shape, np.float32)
  identity[num_features:] = np.eye(size)
  kernel.assign(0.5 * identity)
  own_bias.assign(bias)
  # One step from x with velocity flow_action - x ends in flow_action. The last
  # input is the time.
  flow_kernel.assign(-np.pad(identity, [(0, 1), (0, 0)]))
  flow_bias.assign(flow_action)
  return own_bias


class OneStepFlowConformanceTest(policy_conformance.PolicyConformance):

  def make_policy(self, **kwargs):
    return _make(**kwargs)

  def make_policy_of_two_modes(self):
    return _make((128, 128, 128), num_steps=5), 300, 5e-3


class OneStepFlowTest(parameterized.TestCase):

  def _loss(self, mask=None, **kwargs):
    policy = _make((), num_steps=1, **kwargs)
    make_linear(policy, [0.5, 0.0], [0.2, -0.3])
    return policy.distillation_loss(
        policy_conformance.make_observation(4_000),
        policy_conformance.make_actions(4_000),
        _SEED,
        mask,
    )

  def test_weight_multiplies_the_distance_from_the_flow(self):
    three, one = (self._loss(distillation_weight=x) for x in (3.0, 1.0))
    # The distance in each dimension is z / 2 + 0.3, with z ~ N(0, 1), whose
    # square has mean 1/4 + 0.09 = 0.34 and variance 2/16 + 0.09 = 0.215. The
    # standard error of the mean of 8,000 numbers is 0.005.
    self.assertAlmostEqual(np.mean(three - one) / 2.0, 0.34, delta=0.02)

  def test_flow_restrains_elements_past_the_end(self):
    mask = tf.constant([[1.0, 0.0]])
    three, one = (self._loss(mask, distillation_weight=x) for x in (3.0, 1.0))
    self.assertAlmostEqual(np.mean(three - one) / 2.0, 0.34, delta=0.02)

  def test_distance_does_not_move_the_flow(self):
    gradients = []
    for weight in (1.0, 3.0):
      policy = _make((), num_steps=1, distillation_weight=weight)
      *_, flow_kernel, flow_bias = policy.trainable_variables
      with tf.GradientTape() as tape:
        loss = policy.distillation_loss(
            policy_conformance.make_observation(8),
            policy_conformance.make_actions(8),
            _SEED,
        )
      gradients += tape.gradient(loss, [flow_kernel, flow_bias])
    np.testing.assert_array_equal(gradients[0], gradients[2])
    np.testing.assert_array_equal(gradients[1], gradients[3])

  def test_samples_are_one_pass_and_clipped(self):
    policy, observation = _make((), num_steps=1), (
        policy_conformance.make_observation(50)
    )
    # At temperature 0, mu = 0 + bias.
    make_linear(policy, [0.5, -1.5], [0.0, 0.0])
    np.testing.assert_allclose(
        policy.sample(observation, 2, _SEED, temperature=0.0),
        np.tile([0.5, -1.0], [50, 2, 1]),
    )
    # Samples have standard deviation 1/2: z / 2 is below 1 in 95 % of 200.
    make_linear(policy, [0.0, 0.0], [0.0, 0.0])
    actions = policy.sample(observation, 2, _SEED).numpy()
    self.assertAlmostEqual(np.mean(np.abs(actions) < 1.0), 0.954, delta=0.05)
    self.assertAlmostEqual(np.std(actions), 0.48, delta=0.08)

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`distillation_weight`.*0.0'):
      _make(distillation_weight=0.0)
    with self.assertRaisesRegex(ValueError, '`num_steps`.*0'):
      _make(num_steps=0)
