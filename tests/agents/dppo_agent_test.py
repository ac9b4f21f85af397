"""Tests of the DPPO agent and its losses."""

import functools

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.utils import common

from parl_tf import losses
from parl_tf import types
from parl_tf.agents import clipped_surrogate
from parl_tf.agents import dppo_agent
from parl_tf.policies import denoising_chain
from parl_tf.training import schedules
from tests import eager
from tests import tensor_case
from tests.agents import small_agent
from tests.agents import small_dppo

_NUM_ENVIRONMENTS = 8


def _eagerly_and_compiled(function):
  return [function, common.function(function)]


def _make_rollout(agent, reward_fn, seed=0, observation=None):
  """Returns one decision per environment, each of which ends its task."""
  if observation is None:
    random = np.random.default_rng(seed)
    observation = tf.constant(
        random.normal(size=[_NUM_ENVIRONMENTS, 3]), tf.float32
    )
  num_environments = observation.shape[0]
  action, chain = agent.draw(observation, tf.constant([seed, 5], tf.int32))
  rollout = dppo_agent.Rollout(
      observation,
      observation,
      chain,
      reward_fn(action),
      tf.zeros([num_environments]),
      tf.ones([num_environments], tf.bool),
  )
  return tf.nest.map_structure(lambda x: x[tf.newaxis], rollout)


def _first_number(action):
  return action[:, 0]


def _log_probs(agent, rollout):
  """Returns the log density `[P]` of each chain under the current weights."""
  chain = denoising_chain.DenoisingChain(agent.generative_policy)
  total = 0.0
  for column in range(2):
    t = tf.fill([rollout.reward.shape[1]], 1 - column)
    total += chain.log_prob(
        rollout.observation[0],
        rollout.chain.inputs[0, :, column],
        rollout.chain.draws[0, :, column],
        t,
    )
  return total


def _play_bandit(num_turns, num_cloning_steps=200):
  """Returns the mean of each turn's reward, the action's first element.

  The bandit has one state. The policy is cloned first from actions within the
  bounds, because a policy that draws far outside them sees only a constant,
  clipped reward. A turn is one update on many draws, which keeps the steps
  small compared with the noise.
  """
  rates = iter([1e-3, 1e-3, 3e-3])  # Critic, policy, cloning.
  agent = small_dppo.make_agent(
      optimizer_ctor=lambda: tf.keras.optimizers.Adam(next(rates)),
      num_epochs=1,
      minibatch_size=10**6,  # One update.
  )
  rows = small_agent.make_rows(64)
  rows = rows._replace(
      observation=tf.zeros_like(rows.observation), action=0.5 * rows.action
  )
  for _ in range(num_cloning_steps):
    agent.train(types.Experience(cloning=rows))
  agent.start_fine_tuning()
  rewards = []
  for turn in range(num_turns):
    rollout = _make_rollout(
        agent, _first_number, turn, tf.zeros([512, 3])
    )
    rewards.append(float(tf.reduce_mean(rollout.reward)))
    agent.train(types.Experience(rollout=rollout))
  return rewards


class LossesTest(tensor_case.TensorCase):

  def test_advantages_with_a_terminal_step_and_with_a_time_out(self):
    # gamma = lambda = 1/2, V(s) = 1. First column, terminal at the end:
    #   delta = 1 + 1/2 * 1 - 1 = 1/2, 2 + 1/2 * 1 - 1 = 3/2, 3 + 0 - 1 = 2
    #   A_2 = 2, A_1 = 3/2 + 1/4 * 2 = 2, A_0 = 1/2 + 1/4 * 2 = 1.
    # Second column, time-out after the second decision, then the last row:
    #   delta = 1/2, 2 + 1/2 * 5 - 1 = 7/2, 3 + 1/2 * 4 - 1 = 4
    #   A_2 = 4, A_1 = 7/2 (without A_2), A_0 = 1/2 + 1/4 * 7/2 = 11/8.
    arrays = dict(
        reward=[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]],
        discount=[[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]],
        value=[[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]],
        next_value=[[1.0, 1.0], [1.0, 5.0], [9.0, 4.0]],
        is_last=[[False, False], [False, True], [True, True]],
    )
    tensors = {name: tf.constant(x) for name, x in arrays.items()}
    for function in _eagerly_and_compiled(losses.generalized_advantage):
      self.assertAllClose(
          function(**tensors, gamma=0.5, gae_lambda=0.5),
          [[1.0, 1.375], [2.0, 3.5], [2.0, 4.0]],
      )

  def test_surrogate_gains_nothing_beyond_the_clip(self):
    # epsilon = 0.2: min(3/2, 6/5), min(1/2, 4/5), min(-3/2, -6/5) and
    # min(-1/2, -4/5), negated.
    for function in _eagerly_and_compiled(losses.clipped_surrogate):
      self.assertAllClose(
          function(
              tf.math.log([1.5, 0.5, 1.5, 0.5]),
              tf.constant([1.0, 1.0, -1.0, -1.0]),
              tf.fill([4], 0.2),
          ),
          [-1.2, -0.5, 1.5, 0.8],
      )


class DPPOAgentTest(tensor_case.TensorCase):

  def test_first_update_is_the_policy_gradient(self):
    rate, denoising_gamma = 1e-3, 0.5
    agent = small_dppo.make_agent(
        optimizer_ctor=lambda: tf.keras.optimizers.SGD(rate),
        surrogate_ctor=functools.partial(
            clipped_surrogate.ClippedSurrogate, denoising_gamma=denoising_gamma
        ),
        num_epochs=1,
        minibatch_size=10**6,  # One update.
    )
    rollout = _make_rollout(agent, _first_number)
    # Every decision ends its task: the advantage is the reward minus the value.
    advantage = rollout.reward[0] - agent.value(rollout.observation[0])
    advantage -= tf.reduce_mean(advantage)
    advantage /= tf.math.reduce_std(advantage)
    policy = agent.generative_policy
    chain = denoising_chain.DenoisingChain(policy)
    with tf.GradientTape() as tape:
      objective = 0.0
      for column, t in ((0, 1), (1, 0)):
        log_prob = chain.log_prob(
            rollout.observation[0],
            rollout.chain.inputs[0, :, column],
            rollout.chain.draws[0, :, column],
            tf.fill([_NUM_ENVIRONMENTS], t),
        )
        objective += tf.reduce_mean(denoising_gamma**t * advantage * log_prob)
      objective /= 2.0  # The loss is a mean over both denoising steps.
    gradients = tape.gradient(objective, policy.trainable_variables)
    wanted = [
        v.numpy() + rate * g
        for v, g in zip(policy.trainable_variables, gradients)
    ]
    loss_info = agent.train(types.Experience(rollout=rollout))
    self.assertAllClose(loss_info.extra['policy/kl'], 0.0)
    self.assertEqual(loss_info.extra['policy/clipped'], 0.0)
    self.assertEqual(agent.train_step_counter.numpy(), 1)
    for variable, value in zip(policy.trainable_variables, wanted):
      self.assertAllClose(variable, value, rtol=1e-5, atol=1e-5)

  def test_chains_of_positive_advantage_become_more_likely(self):
    eager.run_eagerly(self)
    agent = small_dppo.make_agent(num_epochs=2, minibatch_size=8)
    rollout = _make_rollout(agent, _first_number)
    policy, seed = agent.generative_policy, tf.constant([1, 2], tf.int32)

    def sample(averaged):
      return policy.sample(rollout.observation[0], 1, seed, averaged=averaged)

    log_probs, actions = _log_probs(agent, rollout), sample(True)
    agent.train(types.Experience(rollout=rollout))
    change = _log_probs(agent, rollout) - log_probs
    advantage = rollout.reward[0] - tf.reduce_mean(rollout.reward)
    self.assertGreater(tf.reduce_mean(change * advantage), 0.0)
    # The average follows, and the next fine-tuning starts from it.
    self.assertNotAllEqual(sample(True), actions)
    self.assertNotAllEqual(sample(True), sample(False))
    agent.start_fine_tuning()
    self.assertAllEqual(sample(True), sample(False))

  def test_reward_of_a_bandit_rises(self):
    rewards = _play_bandit(16)
    # Seeds 0 to 7 gain at least 0.39, on TensorFlow 2.15 and 2.21.
    self.assertGreater(rewards[-1], rewards[0] + 0.2)

  def test_turns_repeat_with_the_same_seed(self):
    eager.run_eagerly(self)
    rewards = _play_bandit(4, num_cloning_steps=3)
    self.assertLen(set(rewards), 4)
    self.assertEqual(_play_bandit(3, num_cloning_steps=3), rewards[:3])

  def test_value_targets_are_bootstrapped_returns(self):
    eager.run_eagerly(self)
    agent = small_dppo.make_agent(
        num_epochs=1, minibatch_size=10**6, gae_lambda=0.5
    )
    agent.value.scale = 2.0
    random = np.random.default_rng(0)
    before, after = (
        tf.constant(random.normal(size=[2, 3, 3]), tf.float32) for _ in range(2)
    )
    chains = [agent.draw(x, tf.constant([7, 5]))[1] for x in tf.unstack(before)]
    rollout = dppo_agent.Rollout(
        before,
        after,
        tf.nest.map_structure(lambda *x: tf.stack(x), *chains),
        reward=tf.constant([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]]),
        discount=tf.constant([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]),
        is_last=tf.constant([[False, True, False], [True, True, True]]),
    )
    value, following = (
        np.stack([agent.value(x) for x in tf.unstack(y)])
        for y in (before, after)
    )
    error = rollout.reward + agent.gamma * rollout.discount * following - value
    factor = agent.gamma * 0.5 * rollout.discount[0]
    advantage = np.stack([
        error[0] + np.where(rollout.is_last[0], 0.0, factor * error[1]),
        error[1],
    ])

    found = agent.train(types.Experience(baseline_rollout=rollout)).extra

    self.assertAllClose(found['values/advantage'], np.mean(advantage))
    self.assertAllClose(found['values/target'], np.mean(advantage + value))
    # In units of the network's output, of which one is two of the return.
    self.assertAllClose(
        found['losses/value'], np.mean((advantage / 2.0) ** 2), rtol=1e-5
    )

  def test_a_baseline_rollout_trains_only_the_baseline(self):
    eager.run_eagerly(self)
    agent = small_dppo.make_agent(num_epochs=2)
    rollout = _make_rollout(agent, _first_number)
    policy_before = [v.numpy() for v in agent.generative_policy.variables]
    value_before = agent.value(rollout.observation[0])
    loss_info = agent.train(types.Experience(baseline_rollout=rollout))
    self.assertNotIn('policy/kl', loss_info.extra)
    for variable, wanted in zip(
        agent.generative_policy.variables, policy_before, strict=True
    ):
      self.assertAllEqual(variable, wanted)
    self.assertNotAllEqual(agent.value(rollout.observation[0]), value_before)

  def test_epochs_stop_above_the_target_kl(self):
    eager.run_eagerly(self)
    agent = small_dppo.make_agent(
        num_epochs=5,
        minibatch_size=8,
        target_kl=1e-6,
        optimizer_ctor=lambda: tf.keras.optimizers.Adam(1e-2),
    )
    agent.train(types.Experience(rollout=_make_rollout(agent, _first_number)))
    # One epoch: 8 decisions of 2 denoising steps make 2 minibatches.
    self.assertEqual(agent.train_step_counter.numpy(), 2)

  def test_learning_rates_of_the_online_phase_are_selected(self):
    agent = small_dppo.make_agent(
        optimizer_ctor=lambda: tf.keras.optimizers.Adam(
            schedules.RateByPhase(offline=0.0, online=0.1)
        ),
        num_epochs=1,
        minibatch_size=10**6,
    )
    variables = [
        *agent.value.trainable_variables,
        *agent.generative_policy.trainable_variables,
    ]
    moved = []
    for _ in range(2):
      before = [v.numpy() for v in variables]
      agent.train(types.Experience(rollout=_make_rollout(agent, _first_number)))
      moved.append([np.any(x != v) for x, v in zip(before, variables)])
      agent.begin_online()
    self.assertFalse(any(moved[0]))
    self.assertTrue(all(moved[1]))

  def test_cloning_lowers_the_imitation_loss(self):
    agent = small_dppo.make_agent()
    rows = small_agent.make_rows()
    seed = tf.constant([3, 4], tf.int32)
    before = agent.cloning_loss(rows, seed)
    for _ in range(20):
      loss_info = agent.train(types.Experience(cloning=rows))
    self.assertIn('losses/imitation', loss_info.extra)
    self.assertLess(agent.cloning_loss(rows, seed), before)
    self.assertEqual(agent.train_step_counter.numpy(), 20)

  @parameterized.named_parameters(
      ('gae_lambda', 'gae_lambda', 1.5),
      ('epochs', 'num_epochs', 0),
      ('target', 'target_kl', 0.0),
  )
  def test_value_out_of_range_is_named(self, name, value):
    with self.assertRaisesRegex(ValueError, f'{name}`.*{value}'):
      small_dppo.make_agent(**{name: value})


if __name__ == '__main__':
  tf.test.main()
