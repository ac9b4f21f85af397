"""Tests of improvement by the gradient through policy samples."""

import functools
import math

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from parl_tf import randomness
from parl_tf import types
from parl_tf.improvers import reparameterized
from parl_tf.networks import flow_network
from parl_tf.policies import diffusion
from parl_tf.policies import gaussian
from parl_tf.policies import one_step_flow
from parl_tf.search import state_actions
from tests import tensor_case
from tests.agents import small_agent

_SEED = tf.constant([3, 5])


class _SumCritic:
  """Q(s, a) = scale times the sum of the action's elements."""

  def __init__(self, scale=1.0):
    self._scale = scale

  def bind(self, observation, target=False, selection=None):
    del observation, target, selection
    return lambda actions: self._scale * tf.reduce_sum(actions, axis=-1)


class _GivenActions:
  """Returns zero actions with given log densities."""

  def __init__(self, log_probs):
    self._log_probs = log_probs

  def optimized(self, n, with_densities):
    assert with_densities
    assert n == 1
    return types.ActionSamples(tf.zeros([3, 1, 2]), self._log_probs)


def _loss(improver, policy, critic=None):
  """Returns the loss of eight rows, its gradients and the transition."""
  transition = small_agent.make_transition()
  variables = (*policy.trainable_variables, *improver.trainable_variables)
  with tf.GradientTape() as tape:
    loss = improver.loss(
        transition, policy, critic or _SumCritic(), None, _SEED
    )
    total = tf.reduce_mean(loss.per_example)
  return loss, tape.gradient(total, variables), transition


class EntropyTest(tensor_case.TensorCase):

  def test_loss_is_that_of_sac(self):
    policy = small_agent.make_policy(gaussian.GaussianPolicy)
    improver = reparameterized.ReparameterizedImprover(initial_temperature=0.5)
    loss, _, transition = _loss(improver, policy)

    actions, log_prob = policy.sample_with_log_prob(
        transition.time_step.observation,
        1,
        randomness.fold_in(_SEED, 'action'),
    )
    values = tf.reduce_sum(actions[:, 0], axis=-1)
    # The temperature's own loss is -log(1/2) (log pi - A), with A = 2.
    own = -math.log(0.5) * (log_prob[:, 0] - 2.0)
    self.assertAllClose(
        loss.per_example, 0.5 * log_prob[:, 0] - values + own, rtol=1e-5
    )

  @parameterized.parameters((0.0, True), (-30.0, False))
  def test_temperature_rises_below_the_target_entropy(self, target, is_to_rise):
    policy = small_agent.make_policy(gaussian.GaussianPolicy)
    *_, bias = policy.trainable_variables
    bias.assign([0.0, 0.0, -2.0, -2.0])  # The entropy is about -1.2 nats.
    improver = reparameterized.ReparameterizedImprover(target_entropy=target)
    _, gradients, _ = _loss(improver, policy)
    self.assertEqual(bool(gradients[-1] < 0.0), is_to_rise)

  def test_needs_a_density(self):
    improver = reparameterized.ReparameterizedImprover()
    with self.assertRaisesRegex(ValueError, '`learn_temperature`.*Diffusion'):
      _loss(improver, small_agent.make_policy(diffusion.DiffusionPolicy))


class EntropyBackupTest(tensor_case.TensorCase):

  def _rewards(self, improver, log_probs=None, **kwargs):
    """Augments rewards [1, 1, 2] with discounts [1, 0, 0.5], gamma 0.9."""
    time_step = ts.TimeStep(
        step_type=tf.constant([1, 2, 1]),
        reward=tf.constant([1.0, 1.0, 2.0]),
        discount=tf.constant([1.0, 0.0, 0.5]),
        observation=tf.zeros([3, 1]),
    )
    critic = small_agent.make_critic(gamma=0.9, **kwargs)
    augmented = improver.augment_reward(
        trajectory.Transition(time_step, (), time_step),
        critic,
        state_actions.ActionSource(here=None, next=_GivenActions(log_probs)),
    )
    return augmented.next_time_step.reward

  def test_reward_has_the_entropy_of_the_next_state(self):
    improver = reparameterized.ReparameterizedImprover(
        entropy_backup=True, initial_temperature=0.5
    )
    rewards = self._rewards(improver, tf.constant([[2.0], [3.0], [-4.0]]))
    # 1 - 0.9 * 1 * 0.5 * 2; 1 (terminal); 2 + 0.9 * 0.5 * 0.5 * 4.
    self.assertAllClose(rewards, [0.1, 1.0, 2.9])

  def test_without_entropy_backup_the_reward_does_not_change(self):
    improver = reparameterized.ReparameterizedImprover()
    rewards = self._rewards(improver, tf.constant([[2.0], [3.0], [-4.0]]))
    self.assertAllEqual(rewards, [1.0, 1.0, 2.0])

  def test_errors_name_what_entropy_backup_needs(self):
    improver = reparameterized.ReparameterizedImprover(entropy_backup=True)
    with self.assertRaisesRegex(ValueError, 'a `Search` without optimizer'):
      self._rewards(improver)
    with self.assertRaisesRegex(ValueError, '`Critic.terminals_from_reward`'):
      self._rewards(improver, tf.zeros([3, 1]), terminals_from_reward=True)
    with self.assertRaisesRegex(ValueError, '`TDCritic.num_backup_actions`'):
      self._rewards(improver, tf.zeros([3, 1]), num_backup_actions=10)
    with self.assertRaisesRegex(ValueError, '`entropy_backup` needs'):
      reparameterized.ReparameterizedImprover(
          entropy_backup=True, learn_temperature=False
      )


class DiffusionTest(tensor_case.TensorCase):

  def _make(self, **kwargs):
    return reparameterized.ReparameterizedImprover(
        learn_temperature=False, **kwargs
    )

  def test_gradient_passes_the_whole_chain(self):
    policy = small_agent.make_policy(diffusion.DiffusionPolicy)
    _, gradients, transition = _loss(self._make(), policy)
    for variable, gradient in zip(policy.trainable_variables, gradients):
      self.assertIsNotNone(gradient, variable.name)
    # A gradient step raises the values of these samples.
    observation = transition.time_step.observation

    def value():
      seed = randomness.fold_in(_SEED, 'action')
      return tf.reduce_mean(
          policy.sample(observation, 1, seed, averaged=False)
      ).numpy()

    before = value()
    for variable, gradient in zip(policy.trainable_variables, gradients):
      variable.assign_sub(1e-2 * gradient)
    self.assertGreater(value(), before)

  def test_normalized_values_do_not_depend_on_scale(self):
    policy = small_agent.make_policy(diffusion.DiffusionPolicy)
    improver = self._make(normalize_values=True, imitation_weight=2.0)
    one, _, _ = _loss(improver, policy)
    ten, _, _ = _loss(improver, policy, _SumCritic(10.0))
    self.assertAllClose(one.per_example, ten.per_example, rtol=1e-4, atol=1e-4)

  def test_values_are_weighted_and_divided_by_their_mean_size(self):
    values = np.array([1.0, -3.0, 2.0, 4.0, -1.0, 0.5, -2.5, 6.0], np.float32)

    class RowCritic:

      def bind(self, unused_observation):
        return lambda actions: (
            values[:, np.newaxis] + 0.0 * tf.reduce_sum(actions, axis=-1)
        )

    loss, _, _ = _loss(
        self._make(normalize_values=True, value_weight=2.0),
        small_agent.make_policy(diffusion.DiffusionPolicy),
        RowCritic(),
    )
    self.assertAllClose(
        loss.per_example, -2.0 * values / np.mean(np.abs(values)), rtol=1e-5
    )

  def test_imitation_is_the_policys_loss_on_the_dataset_actions(self):
    policy = small_agent.make_policy(diffusion.DiffusionPolicy)
    with_, without = (
        _loss(self._make(imitation_weight=weight), policy)
        for weight in (2.0, 0.0)
    )
    transition = with_[2]
    expected = policy.distillation_loss(
        transition.time_step.observation,
        transition.action_step.action,
        randomness.fold_in(_SEED, 'imitation'),
    )
    self.assertAllClose(
        with_[0].per_example - without[0].per_example,
        2.0 * expected,
        rtol=1e-4,
        atol=1e-5,
    )


class FlowQLearningTest(tensor_case.TensorCase):
  """The loss of FQL: alpha |mu - flow|^2 - Q(s, mu), plus the flow's own."""

  def _gradients(self, values_scale=1.0, **kwargs):
    """Returns the gradients of the one-step policy's bias and of the flow."""
    policy = small_agent.make_policy(
        one_step_flow.OneStepFlowPolicy,
        num_steps=1,
        distillation_weight=300.0,
        network_ctor=functools.partial(
            flow_network.FlowNetwork, hidden_sizes=()
        ),
    )
    kernel, bias, flow_kernel, flow_bias = policy.trainable_variables
    # mu = (0.5, -0.25) for all noise; the flow ends in (0.25, 0) in one step.
    kernel.assign(tf.zeros_like(kernel))
    bias.assign([0.5, -0.25])
    # Inputs: three of the state, two of the noise, the time.
    flow_kernel.assign(
        [[0, 0], [0, 0], [0, 0], [-1, 0], [0, -1], [0, 0]]
    )
    flow_bias.assign([0.25, 0.0])
    improver = reparameterized.ReparameterizedImprover(
        learn_temperature=False, imitation_weight=1.0, **kwargs
    )
    _, gradients, _ = _loss(improver, policy, _SumCritic(values_scale))
    return gradients[1], gradients[2:]

  def test_gradient_of_the_one_step_policy_by_hand(self):
    gradient, _ = self._gradients()
    # 300 * 2 / A * (0.5 - 0.25, -0.25 - 0) = (75, -75), minus dQ / da = 1.
    self.assertAllClose(gradient, [74.0, -76.0], rtol=1e-4)

  def test_gradient_with_normalized_values_by_hand(self):
    # |Q| = |0.5 - 0.25| = 0.25, so dQ / da is 4.
    gradient, _ = self._gradients(normalize_values=True)
    self.assertAllClose(gradient, [71.0, -79.0], rtol=1e-4)

  def test_values_do_not_move_the_flow(self):
    (_, one), (_, ten) = self._gradients(1.0), self._gradients(10.0)
    for first, second in zip(one, ten):
      self.assertAllEqual(first, second)


class ArgumentsTest(parameterized.TestCase):

  @parameterized.parameters(
      (dict(value_weight=0.0), '`value_weight`.*0.0'),
      (dict(imitation_weight=-1.0), '`imitation_weight`.*-1.0'),
      (dict(initial_temperature=0.0), '`initial_temperature`.*0.0'),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      reparameterized.ReparameterizedImprover(**arguments)

  def test_initial_temperature_is_set(self):
    improver = reparameterized.ReparameterizedImprover(initial_temperature=0.1)
    (variable,) = improver.trainable_variables
    np.testing.assert_allclose(np.exp(variable.numpy()), 0.1, rtol=1e-6)
    fixed = reparameterized.ReparameterizedImprover(learn_temperature=False)
    self.assertEmpty(fixed.trainable_variables)


if __name__ == '__main__':
  absltest.main()
