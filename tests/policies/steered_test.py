"""Tests of the flow policy whose noise an actor chooses."""

import functools

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.networks import flow_network
from parl_tf.policies import flow
from parl_tf.policies import gaussian
from parl_tf.policies import steered
from tests import tensor_case
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED
_BASE = functools.partial(
    flow.FlowPolicy,
    num_steps=2,
    averaging_rate=None,
    network_ctor=functools.partial(
        flow_network.FlowNetwork, hidden_sizes=(8,)
    ),
)


def _make(is_steered=True, **kwargs):
  kwargs = {**dict(base_ctor=_BASE, hidden_sizes=(16,)), **kwargs}
  policy = policy_conformance.make(steered.SteeredPolicy, **kwargs)
  if is_steered:
    policy.begin_steering()
  return policy


class SteeredConformanceTest(policy_conformance.PolicyConformance):

  is_multimodal = False  # The actor is Gaussian.

  def make_policy(self, **kwargs):
    return _make(**kwargs)


class SteeredTest(tensor_case.TensorCase):

  def test_the_flow_transports_the_actors_bounded_noise(self):
    policy = _make(max_noise=0.5)
    observation = policy_conformance.make_observation(4)
    noise, log_prob = policy.choose_noise(observation, 200, _SEED)
    self.assertEqual(log_prob.shape, [4, 200])
    self.assertBetween(np.abs(noise).max(), 0.3, 0.5)
    self.assertAllClose(
        policy.sample(observation, 200, _SEED),
        policy.base.transport(observation, noise),
    )

  def test_before_the_first_update_the_cloned_policy_acts(self):
    policy = _make(is_steered=False)
    observation = policy_conformance.make_observation(4)
    noise = randomness.normal(
        randomness.fold_in(_SEED, 'own'), tf.constant([4, 5, 2])
    )
    before = policy.sample(observation, 5, _SEED)
    self.assertAllClose(before, policy.base.transport(observation, noise))
    policy.begin_steering()
    self.assertNotAllEqual(policy.sample(observation, 5, _SEED), before)

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`max_noise`.*0.0'):
      _make(max_noise=0.0)


class BaseTest(absltest.TestCase):

  def test_a_base_that_is_no_flow_is_an_error(self):
    with self.assertRaisesRegex(TypeError, '`base_ctor`.*GaussianPolicy'):
      _make(base_ctor=gaussian.GaussianPolicy)


if __name__ == '__main__':
  absltest.main()
