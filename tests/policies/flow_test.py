"""Tests of the flow policy; comments derive the golden numbers."""

from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.utils import common

from parl_tf.policies import flow
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED
_MODES = parameterized.named_parameters(
    ('eagerly', lambda fn: fn), ('in_a_graph', common.function)
)


def _make(network=None, **kwargs):
  kwargs.setdefault('num_steps', 2)  # Each step is a pass of the network.
  return policy_conformance.make_denoising(
      flow.FlowPolicy, network, **kwargs
  )


def _make_constant(velocity, **kwargs):
  """Returns a policy with a constant velocity `[A]`."""
  policy = _make(averaging_rate=None, **kwargs)
  for variable in policy.trainable_variables:
    variable.assign(tf.zeros_like(variable))
  bias = policy.trainable_variables[-1]
  bias.assign(velocity)
  return policy


class FlowConformanceTest(policy_conformance.PolicyConformance):

  def make_policy(self, **kwargs):
    return _make(**kwargs)

  def make_policy_of_two_modes(self):
    policy = _make(
        dict(hidden_size=64, dropout_rate=0.0),
        averaging_rate=0.05,
        num_steps=10,
    )
    return policy, 200, 1e-2


class InterpolateTest(parameterized.TestCase):

  @_MODES
  def test_points_of_straight_paths_by_hand(self, mode):
    # At t = 1/4: 0.75 * -1 + 0.25 * 0.6 = -0.6, 0.75 * 2 + 0.25 * -0.8 = 1.3.
    # At t = 0 the point is the noise, at t = 1 the action.
    action = tf.tile([[0.6, -0.8]], [3, 1])
    noise = tf.tile([[-1.0, 2.0]], [3, 1])
    np.testing.assert_allclose(
        mode(flow.interpolate)(action, noise, tf.constant([0.25, 0.0, 1.0])),
        [[-0.6, 1.3], [-1.0, 2.0], [0.6, -0.8]],
        atol=1e-6,
    )

  def test_arguments_with_wrong_shapes_are_an_error(self):
    with self.assertRaises(ValueError):
      flow.interpolate(tf.zeros([3, 2]), tf.zeros([3, 2]), tf.zeros([2]))


class FlowTest(parameterized.TestCase):

  def test_loss_of_a_zero_network_is_the_squared_distance(self):
    # For actions (0.5, -1), |a - noise|^2 has mean 0.25 + 1 + 2 = 3.25 and
    # variance 2 * 2 + 4 * 1.25 = 9. The standard error of the mean of 4,000
    # rows is 0.05.
    policy = _make_constant([0.0, 0.0])
    loss = policy.distillation_loss(
        policy_conformance.make_observation(4000),
        tf.tile([[0.5, -1.0]], [4000, 1]),
        _SEED,
    )
    self.assertAlmostEqual(np.mean(loss), 3.25, delta=0.2)
    self.assertAlmostEqual(np.var(loss), 9.0, delta=1.5)

  @parameterized.parameters(1, 3, 10)
  def test_samples_follow_a_constant_velocity_for_one_unit_of_time(self, steps):
    observation = policy_conformance.make_observation(4)
    policy = _make_constant([0.3, -0.4], num_steps=steps)
    np.testing.assert_allclose(
        policy.sample(observation, 5, _SEED, temperature=0.0),
        np.tile([0.3, -0.4], [4, 5, 1]),
        atol=1e-6,
    )
    # Half the noise moves the samples half as far.
    whole, half = (
        policy.sample(observation, 5, _SEED, temperature=t) - [0.3, -0.4]
        for t in (0.1, 0.05)
    )
    np.testing.assert_allclose(whole, 2.0 * half, atol=1e-6)
    self.assertGreater(np.std(whole), 0.05)

  def test_each_step_takes_the_velocity_at_its_beginning(self):
    # With velocity t, four steps move by (0 + 1/4 + 2/4 + 3/4) / 4 = 0.375.
    policy = _make(averaging_rate=None, num_steps=4)
    with mock.patch.object(
        policy._networks,
        'select',
        lambda averaged: lambda features, x, t: tf.zeros_like(x) + t,
    ):
      actions = policy.sample(
          policy_conformance.make_observation(3), 2, _SEED, temperature=0.0
      )
    np.testing.assert_allclose(actions, np.full([3, 2, 2], 0.375), atol=1e-6)

  def test_only_the_end_of_a_path_is_clipped(self):
    observation = policy_conformance.make_observation(50)
    # With velocity 0 the samples are the noise. At temperature 0.1, none of
    # them is clipped.
    noise = _make_constant([0.0, 0.0]).sample(
        observation, 5, _SEED, temperature=0.1
    ) / 0.1
    self.assertGreater(np.mean(np.abs(noise) > 1.0), 0.2)
    np.testing.assert_allclose(
        _make_constant([1.5, -1.5]).sample(observation, 5, _SEED),
        np.clip(noise + [1.5, -1.5], -1.0, 1.0),
        atol=1e-5,
    )

  def test_dropout_is_on_in_training_and_off_in_sampling(self):
    observation = policy_conformance.make_observation(4)
    actions = policy_conformance.make_actions(4)
    losses, samples = [], []
    for rate in (0.0, 0.5):
      policy = _make(dict(dropout_rate=rate))
      losses.append(policy.distillation_loss(observation, actions, _SEED))
      samples.append(policy.sample(observation, 5, _SEED))
    # Both losses use the same times and noise.
    self.assertGreater(np.abs(losses[0] - losses[1]).min(), 1e-4)
    np.testing.assert_array_equal(samples[0], samples[1])

  def test_loss_depends_on_the_seed(self):
    policy = _make()
    observation = policy_conformance.make_observation(4)
    actions = policy_conformance.make_actions(4)
    first, again, other = (
        policy.distillation_loss(observation, actions, seed)
        for seed in (_SEED, _SEED, policy_conformance.OTHER_SEED)
    )
    np.testing.assert_array_equal(first, again)
    self.assertGreater(np.abs(first - other).min(), 0)

  def test_compiled_samples_equal_eager_ones(self):
    policy, observation = _make(), policy_conformance.make_observation(4)
    compiled = common.function(policy.sample, jit_compile=True)
    np.testing.assert_allclose(
        compiled(observation, 5, _SEED),
        policy.sample(observation, 5, _SEED),
        atol=1e-4,
    )

  @parameterized.parameters(
      (dict(averaging_rate=0.0), '`averaging_rate`.*0.0'),
      (dict(num_steps=0), '`num_steps`.*0'),
      (dict(network=dict(dropout_rate=1.0)), '`rate`.*1.0'),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _make(**arguments)
