"""Tests of the TD critic."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import randomness
from parl_tf.critics import cal_ql
from parl_tf.critics import td
from parl_tf.policies import flow
from parl_tf.replay import chunks
from parl_tf.replay import episode_writer
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import ranking
from parl_tf.search import state_actions
from tests.agents import small_agent
from tests.critics import critic_conformance


def _make(**kwargs):
  return critic_conformance.make(td.TDCritic, **kwargs)


def _make_varied(**kwargs):
  """Returns a critic whose values differ between actions."""
  critic = _make(**kwargs)
  for i, variable in enumerate(critic.variables):
    if 'kernel' in variable.name:
      variable.assign_add(
          0.3 * tf.random.stateless_normal(variable.shape, [1, i])
      )
  return critic


class TDConformanceTest(critic_conformance.CriticConformance):

  def make_critic(self, **kwargs):
    return _make(**kwargs)


class TDTest(parameterized.TestCase):

  def _loss(self, critic, num_samples=4, optimizer=None):
    transition = critic_conformance.make_transition(4)
    source = critic_conformance.make_source(
        critic,
        critic_conformance.make_policy(),
        transition,
        search=action_source.Search(num_samples, optimizer),
    )
    return critic.loss(transition, source, critic_conformance.SEED), source

  @parameterized.parameters(
      None, critic_conformance.histogram_ctor(-5.0, 0.0, 11)
  )
  def test_td_equals_cal_ql_without_its_penalty(self, distribution_ctor):
    optimizer = action_optimizer.ActionOptimizer(2, 1, 0.1)
    critic = _make(distribution_ctor=distribution_ctor)
    loss, _ = self._loss(critic, 4, optimizer)
    without = critic_conformance.make(
        cal_ql.CalQLCritic,
        conservative_weight=0.0,
        distribution_ctor=distribution_ctor,
    )
    expected, _ = self._loss(without, 4, optimizer)
    np.testing.assert_array_equal(loss.per_example, expected.per_example)
    self.assertNotIn('losses/conservative', loss.metrics)

  @parameterized.parameters(('min', np.min), ('mean', np.mean))
  def test_without_a_number_all_members_and_actions_make_the_target(
      self, aggregation, aggregate
  ):
    critic = _make_varied(
        num_target_members=None,
        num_backup_actions=None,
        target_aggregation=aggregation,
    )
    loss, source = self._loss(critic)
    transition = critic_conformance.make_transition(4)
    next_ = transition.next_time_step
    actions = source.next.base()
    values = critic.bind(next_.observation, target=True).members(actions)
    # First over members, then the maximum over actions.
    next_value = aggregate(values.numpy(), axis=0).max(axis=-1)
    target = next_.reward + 0.99 * next_.discount * next_value
    np.testing.assert_allclose(
        loss.metrics['values/target'], np.mean(target), rtol=1e-5
    )

  @parameterized.parameters(
      (None, [0.5, 0.5]), ([0.9, 0.0], [0.5, 0.0]), ([0.2, 0.7], [0.2, 0.5])
  )
  def test_noise_on_the_next_actions_by_hand(self, of_data, limited):
    # The data's actions limit it, here to `limited`.
    statistics = critic_conformance.NORMALIZATION._replace(
        action_deviation=of_data and np.float32(of_data)
    )
    critic = _make_varied(
        num_target_members=None, target_noise=0.5, normalization=statistics
    )
    loss, source = self._loss(critic)
    transition = critic_conformance.make_transition(4)
    next_ = transition.next_time_step
    actions = source.next.base()[:, :1].numpy()
    noise = randomness.normal(
        randomness.fold_in(critic_conformance.SEED, 'target noise'),
        actions.shape,
    )
    noisy = np.clip(
        actions + np.float32(limited) * noise.numpy(), -1.0, 1.0
    )
    self.assertGreater(np.std(noisy - actions), 0.1)
    values = critic.bind(next_.observation, target=True).members(noisy)
    target = next_.reward + 0.99 * next_.discount * values.numpy().min(0)[:, 0]
    np.testing.assert_allclose(
        loss.metrics['values/target'], np.mean(target), rtol=1e-5
    )

  def test_targets_are_at_least_the_return_of_the_data(self):
    returns = np.float32([-9.0, 5.0, -9.0, 5.0])
    transition = critic_conformance.make_transition(4)
    transition = transition._replace(
        action_step=transition.action_step._replace(
            info={'monte_carlo_return': tf.constant(returns)}
        )
    )
    critic = _make_varied(num_target_members=None)
    source = critic_conformance.make_source(
        critic,
        critic_conformance.make_policy(),
        transition,
        search=action_source.Search(4),
    )
    next_ = transition.next_time_step
    actions = source.next.base()[:, :1]
    values = critic.bind(next_.observation, target=True).members(actions)
    target = next_.reward + 0.99 * next_.discount * values.numpy().min(0)[:, 0]
    raised = np.where(returns == 5.0, 5.0, target)
    for floor, expected in ((False, target), (True, raised)):
      critic = _make_varied(num_target_members=None, return_floor=floor)
      loss = critic.loss(transition, source, critic_conformance.SEED)
      np.testing.assert_allclose(
          loss.metrics['values/target'], np.mean(expected), rtol=1e-5
      )

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`num_backup_actions`.*0'):
      _make(num_backup_actions=0)
    with self.assertRaisesRegex(ValueError, "`target_aggregation`.*'max'"):
      _make(target_aggregation='max')
    with self.assertRaisesRegex(ValueError, '`target_noise`.*-0.5'):
      _make(target_noise=-0.5)


class QChunkingTest(parameterized.TestCase):

  def test_loss_of_a_chunk_by_hand(self):
    critic = small_agent.make_critic(
        td.TDCritic,
        chunk_length=5,
        gamma=0.5,
        num_target_members=None,
        target_aggregation='mean',
    )
    for variable in critic.variables:
      if variable.name.startswith('head'):
        variable.assign(tf.zeros_like(variable))
        if 'bias' in variable.name:  # The values of both members.
          variable.assign([[[-4.0]], [[-2.0]]])
    steps = episode_writer.stored_steps(
        small_agent.make_episode(9), gamma=0.5, reward_scale=1.0,
        reward_bias=-1.0,
    )
    windows = tf.nest.map_structure(
        lambda x: tf.constant(x[np.newaxis, :6]),
        steps._replace(reward=steps.reward - 1.0),
    )
    transition = tf.nest.map_structure(
        lambda x: tf.squeeze(x, axis=1),
        trajectory.to_transition(chunks.join(windows, 0.5, 5)),
    )
    source = state_actions.make_source(
        action_source.Search(4, ranking.Ranking()),
        small_agent.make_policy(flow.FlowPolicy, chunk_length=5),
        critic,
        transition,
        critic_conformance.SEED,
    )
    loss = critic.loss(transition, source, critic_conformance.SEED)
    # Five rewards of -1 and the mean of -4 and -2:
    # -(1 + 1/2 + 1/4 + 1/8 + 1/16) - 3/32 = -65/32.
    np.testing.assert_allclose(loss.metrics['values/target'], -65.0 / 32.0)
    # The members' errors are 63/32 and 1/32.
    np.testing.assert_allclose(
        loss.per_example, [(63.0**2 + 1.0) / 2.0 / 32.0**2], rtol=1e-6
    )
