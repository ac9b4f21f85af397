"""Tests of DSRL's policy improvement."""

import functools
import math

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.critics import noise_aliased
from parl_tf.improvers import steering
from parl_tf.networks import flow_network
from parl_tf.policies import flow
from parl_tf.policies import steered
from tests import tensor_case
from tests.agents import small_agent

_SEED = tf.constant([3, 5])
_make_policy = functools.partial(
    steered.SteeredPolicy,
    base_ctor=functools.partial(
        flow.FlowPolicy,
        num_steps=2,
        network_ctor=functools.partial(
            flow_network.FlowNetwork, hidden_sizes=(8,)
        ),
    ),
    hidden_sizes=(16,),
)


class _SumOfNoise:
  """Q_w(s, w) = sum of w."""

  def noise_value(self, observation, noise):
    del observation
    return tf.reduce_sum(noise, axis=-1)


class SteeringImproverTest(tensor_case.TensorCase):

  def test_loss_is_that_of_sac_on_the_noise(self):
    policy = small_agent.make_policy(_make_policy)
    transition = small_agent.make_transition()
    loss, other_target = (
        steering.SteeringImprover(
            initial_temperature=0.5, target_entropy=target
        ).loss(transition, policy, _SumOfNoise(), None, _SEED)
        for target in (None, 3.0)
    )
    noise, log_prob = policy.choose_noise(
        transition.time_step.observation, 1, _SEED
    )
    log_prob = log_prob.numpy()[:, 0]
    # The temperature's own loss is -log(1/2) (log pi - A), with A = 2.
    expected = 0.5 * log_prob - noise.numpy()[:, 0].sum(axis=-1)
    expected += math.log(2.0) * (log_prob - 2.0)
    self.assertAllClose(loss.per_example, expected, rtol=1e-5)
    expected += math.log(2.0) * 5.0
    self.assertAllClose(other_target.per_example, expected, rtol=1e-5)

  def test_the_gradient_reaches_the_actor_and_no_flow(self):
    policy = small_agent.make_policy(_make_policy)
    improver = steering.SteeringImprover()
    trained = improver.trained_variables(policy)
    with tf.GradientTape() as tape:
      loss = improver.loss(
          small_agent.make_transition(),
          policy,
          small_agent.make_critic(noise_aliased.NoiseAliasedCritic),
          None,
          _SEED,
      ).per_example
    *own, other = tape.gradient(
        loss, [*trained, policy.base.trainable_variables]
    )
    for variable, gradient in zip(trained, own):
      self.assertTrue(np.any(gradient), variable.name)
    self.assertEqual(set(other), {None})

  def test_the_first_update_begins_to_steer(self):
    policy = small_agent.make_policy(_make_policy)
    before = policy.sample(tf.zeros([2, 3]), 1, _SEED)
    steering.SteeringImprover().update_average(policy)
    self.assertNotAllEqual(policy.sample(tf.zeros([2, 3]), 1, _SEED), before)

  def test_needs_a_steered_policy(self):
    improver = steering.SteeringImprover()
    with self.assertRaisesRegex(TypeError, '`SteeredPolicy`, got Diffusion'):
      small_agent.make_agent(
          noise_aliased.NoiseAliasedCritic, improver=improver
      )

  def test_needs_the_values_of_noise(self):
    improver = steering.SteeringImprover()
    with self.assertRaisesRegex(TypeError, 'AliasedCritic`, got CalQLCritic'):
      small_agent.make_agent(policy_ctor=_make_policy, improver=improver)

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`initial_temperature`.*0.0'):
      steering.SteeringImprover(initial_temperature=0.0)


if __name__ == '__main__':
  absltest.main()
