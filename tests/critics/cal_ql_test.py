"""Tests of Cal-QL's target and penalty."""

import functools
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import losses
from parl_tf import value_distribution
from parl_tf.critics import cal_ql
from parl_tf.critics import critic as critic_lib
from parl_tf.networks import ensemble
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from tests.critics import critic_conformance


def _make(**kwargs):
  return critic_conformance.make(cal_ql.CalQLCritic, **kwargs)


class CalQLConformanceTest(critic_conformance.CriticConformance):

  def make_critic(self, **kwargs):
    return _make(**kwargs)

  def test_loss_follows_the_seed(self):
    critic, policy = _make(), critic_conformance.make_policy()
    transition = critic_conformance.make_transition(4)
    first = self.loss(critic, transition, policy=policy)
    second = self.loss(
        critic, transition, tf.constant([6, 5], tf.int32), policy=policy
    )
    self.assertGreater(
        np.abs(first.per_example - second.per_example).max(), 0
    )


def _plain(num_samples):
  """Returns a search for the policy's own actions."""
  return action_source.Search(num_samples)


def _argmax():
  return action_source.Search(4, action_optimizer.ActionOptimizer(2, 1, 0.1))


class OnlinePhaseTest(parameterized.TestCase):

  @parameterized.parameters(0.5, 0.0)
  def test_the_online_phase_may_have_its_own_weight(self, online):
    critic = _make(
        conservative_weight=5.0, online_conservative_weight=online
    )
    transition = critic_conformance.make_transition(4)
    policy = critic_conformance.make_policy()

    def penalty():
      """Returns the loss without its TD part, the metric and gradients."""
      with tf.GradientTape() as tape:
        source = critic_conformance.make_source(
            critic, policy, transition, search=_plain(10)
        )
        loss = critic.loss(transition, source, critic_conformance.SEED)
        total = tf.reduce_mean(loss.per_example)
      gradients = tape.gradient(total, critic.trainable_variables)
      for gradient in gradients:
        self.assertTrue(np.all(np.isfinite(gradient)))
      metrics = loss.metrics
      return total - metrics['losses/td'], metrics['losses/conservative']

    total, offline = penalty()
    np.testing.assert_allclose(total, 5.0 * offline, rtol=1e-4)
    critic.begin_online()
    total, metric = penalty()
    np.testing.assert_allclose(total, online * offline, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metric, offline if online else 0.0, rtol=1e-4)

  def test_the_penalty_ends_in_a_compiled_update(self):
    critic = _make(conservative_weight=5.0, online_conservative_weight=0.0)
    transition = critic_conformance.make_transition(4)
    policy = critic_conformance.make_policy()

    @tf.function(autograph=False)
    def metric():
      source = critic_conformance.make_source(
          critic, policy, transition, search=_plain(10)
      )
      loss = critic.loss(transition, source, critic_conformance.SEED)
      return loss.metrics['losses/conservative']

    self.assertGreater(metric(), 0.0)
    critic.begin_online()
    self.assertEqual(metric(), 0.0)


class CalQLTest(parameterized.TestCase):

  def _loss(self, critic, search, transition=None):
    """Returns the loss of four rows, with their transition and source."""
    if transition is None:
      transition = critic_conformance.make_transition(4)
    policy = critic_conformance.make_policy()
    source = critic_conformance.make_source(
        critic, policy, transition, search=search
    )
    loss = critic.loss(transition, source, critic_conformance.SEED)
    return loss, transition, source

  @parameterized.parameters((1.0,), (0.5,))
  def test_td_loss_is_the_mean_squared_error_of_all_members(self, factor):
    # All target members agree, so any two give the same minimum.
    critic = _make(conservative_weight=0.0, squared_error_factor=factor)
    for variable in critic.variables:
      if variable.name.startswith('head_kernel'):
        variable.assign(tf.zeros_like(variable))
      if variable.name.startswith('head_bias'):
        variable.assign(tf.fill(variable.shape, -4.0))
    bias = [
        v for v in critic.trainable_variables if v.name.startswith('head_bias')
    ][0]
    bias.assign([[[-1.0]], [[-2.0]], [[-3.0]]])
    loss, transition, _ = self._loss(critic, _argmax())
    # r = -1, -2/3, -1/3, 0; discount = 1, 1, 1, 0; gamma = 0.99.
    target = np.array([-1 - 3.96, -2 / 3 - 3.96, -1 / 3 - 3.96, 0.0])
    np.testing.assert_allclose(
        transition.next_time_step.discount, [1, 1, 1, 0]
    )
    errors = np.array([[-1.0], [-2.0], [-3.0]]) - target
    np.testing.assert_allclose(
        loss.per_example, factor * np.mean(errors**2, axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(
        loss.metrics['values/target'], np.mean(target), rtol=1e-5
    )

  def test_a_histogram_is_trained_by_cross_entropy(self):
    histogram = value_distribution.HLGauss(-5.0, 0.0, 11)
    critic = _make(
        conservative_weight=0.0,
        distribution_ctor=lambda _: histogram,
        gamma=0.0,
    )
    loss, transition, _ = self._loss(critic, _argmax())
    outputs = critic.bind(transition.time_step.observation).outputs(
        transition.action_step.action[:, tf.newaxis]
    )[:, :, 0]
    reward = transition.next_time_step.reward  # The target, as gamma is 0.
    expected = histogram.cross_entropy(outputs, reward[tf.newaxis])
    np.testing.assert_allclose(
        loss.per_example, np.mean(expected, axis=0), rtol=1e-5
    )

  def test_terminals_can_come_from_the_reward(self):
    # As in the released code, a step is terminal if its reward is not negative,
    # whatever its discount. The rewards are -1, -2/3, -1/3, 0.
    transition = critic_conformance.make_transition(4)
    never_ends = transition._replace(
        next_time_step=transition.next_time_step._replace(
            discount=tf.ones([4])
        )
    )
    seen = {}
    for name, rows, option in [
        ('data', transition, False),
        ('reward', never_ends, True),
        ('neither', never_ends, False),
    ]:
      critic = _make(terminals_from_reward=option, initial_value=-3.0)
      seen[name] = self._loss(critic, _argmax(), rows)[0].per_example.numpy()
    np.testing.assert_array_equal(seen['reward'], seen['data'])
    self.assertGreater(abs(seen['neither'][3] - seen['data'][3]), 0.1)

  def test_target_and_penalty_draw_their_own_members(self):
    critic = _make()
    with mock.patch.object(
        critic, '_draw_members', wraps=critic._draw_members
    ) as draw:
      self._loss(critic, _argmax())
    target, penalty = (call.args[0].numpy() for call in draw.call_args_list)
    self.assertFalse(np.array_equal(target, penalty))

  def test_penalty_is_weighted(self):
    totals = [
        self._loss(_make(conservative_weight=weight), _argmax())[0]
        for weight in (0.0, 0.5, 1.0)
    ]
    penalty = totals[2].per_example - totals[0].per_example
    np.testing.assert_allclose(
        totals[1].per_example, totals[0].per_example + 0.5 * penalty, rtol=1e-4
    )
    np.testing.assert_allclose(
        np.mean(penalty), totals[2].metrics['losses/conservative'], rtol=1e-4
    )

  def test_every_column_is_evaluated_at_s(self):
    # There is one member, and Q does not depend on the action. Every column is
    # Q(s), and the policy's columns are at least the return G. With n = 10 the
    # penalty is log((11 exp(Q) + 20 exp(max(Q, G))) / 31) - Q.
    critics = [
        _make(
            conservative_weight=weight,
            network_ctor=functools.partial(
                ensemble.CriticEnsemble, num_members=1, hidden_sizes=(8,)
            ),
        )
        for weight in (0.0, 1.0)
    ]
    totals = []
    for critic in critics:
      for variable in critic.trainable_variables:
        weights = tf.random.stateless_normal(variable.shape, [2, 4]).numpy()
        if variable.name.startswith('kernel_0'):
          weights[:, 3:] = 0.0  # The action follows three features.
        if variable.name.startswith('head_bias'):
          weights[:] = -1.5  # The returns range from -3 to 0.
        variable.assign(weights)
      loss, transition, _ = self._loss(critic, _argmax())
      totals.append(loss.per_example)
    q = critic.bind(transition.time_step.observation)(tf.zeros([4, 1, 2]))
    q = q.numpy()[:, 0]
    self.assertGreater(np.ptp(q), 0.5)
    bound = transition.action_step.info['monte_carlo_return']
    lifted = np.maximum(q, bound)
    self.assertLen(set(lifted > q), 2)
    np.testing.assert_allclose(
        totals[1] - totals[0],
        np.log((11 * np.exp(q) + 20 * np.exp(lifted)) / 31) - q,
        rtol=1e-3,
        atol=1e-4,
    )

  def test_the_printed_form_evaluates_only_the_columns_that_it_reads(self):
    critic = _make(conservative_form='expectation')
    numbers = []
    members = critic_lib.ValueFunction.members
    with mock.patch.object(
        critic_lib.ValueFunction,
        'members',
        lambda self, actions: numbers.append(actions.shape[1]) or members(
            self, actions
        ),
    ):
      loss, *_ = self._loss(critic, _plain(10))
    self.assertIn(11, numbers)  # Ten of the policy, and the data's.
    self.assertLessEqual(max(numbers), 11)
    self.assertNotIn('values/random', loss.metrics)

  def test_calibration_changes_policy_columns_but_not_uniform_ones(self):
    # Q = 0 everywhere, and all returns are log 4. With n = 10 the exponentials
    # are 10 times 1 (uniform), 20 times 4 (policy) and 1 (dataset):
    # log((10 + 80 + 1) / 31).
    transition = critic_conformance.make_transition(4)
    step = transition.action_step
    transition = transition._replace(
        action_step=step._replace(
            info={'monte_carlo_return': tf.fill([4], np.float32(np.log(4.0)))}
        )
    )
    expected = (
        (dict(), np.log(91 / 31)),
        (dict(calibrate=False), 0.0),
        (dict(conservative_form='expectation'), np.log(4.0)),
        (dict(conservative_form='expectation', calibrate=False), 0.0),
        (dict(calibrate_random_actions=True), np.log(121 / 31)),
        # The roots of 4 are 2: 2 log((10 + 40 + 1) / 31).
        (dict(conservative_temperature=2.0), 2.0 * np.log(51 / 31)),
    )
    for options, value in expected:
      critic = _make(**options)
      for variable in critic.trainable_variables:
        if variable.name.startswith('head'):
          variable.assign(tf.zeros_like(variable))
      loss, _, _ = self._loss(critic, _argmax(), transition)
      np.testing.assert_allclose(
          loss.metrics['losses/conservative'], value, atol=1e-5
      )

  def test_columns_with_densities_are_importance_weighted(self):
    # With Q = 0 the penalty is the log of the sum of 1 / density over columns.
    critic = _make(calibrate=False, num_conservative_actions=6)
    for variable in critic.trainable_variables:
      if variable.name.startswith('head'):
        variable.assign(tf.zeros_like(variable))
    loss, _, source = self._loss(critic, _plain(6))
    columns = [np.full([4, 6], 2 * np.log(2.0))]
    for actions in (source.next, source.here):
      drawn = actions.optimized(6, 'penalty')
      self.assertEqual(drawn.log_probs.shape, [4, 6])
      columns.append(-drawn.log_probs)
    expected = np.log(np.sum(np.exp(np.concatenate(columns, axis=1)), axis=1))
    np.testing.assert_allclose(
        loss.metrics['losses/conservative'], np.mean(expected), rtol=1e-5
    )

  def test_each_column_has_its_own_density(self):
    critic = _make(calibrate=False, num_conservative_actions=6)
    with mock.patch.object(
        losses, 'conservative_penalty', wraps=losses.conservative_penalty
    ) as penalty:
      _, _, source = self._loss(critic, _plain(6))
    _, next_, here = penalty.call_args.args[-1]
    for seen, actions in ((next_, source.next), (here, source.here)):
      np.testing.assert_array_equal(
          seen, actions.optimized(6, 'penalty').log_probs
      )
    self.assertTrue(np.any(next_ != here))

  def test_target_takes_the_best_of_several_actions(self):
    # Sixty draws include every member, so the subset does not matter.
    critic = _make(
        conservative_weight=0.0, num_backup_actions=3, num_target_members=60,
        calibrate=False, num_conservative_actions=3,
    )
    loss, transition, source = self._loss(critic, _plain(3))
    next_ = transition.next_time_step
    values = critic.bind(next_.observation, target=True).members(
        source.next.optimized(3).actions
    ).numpy()
    target = losses.td_target(
        next_.reward,
        next_.discount,
        tf.constant(values.min(axis=0).max(axis=-1)),
        0.99,
    )
    np.testing.assert_allclose(
        loss.metrics['values/target'], np.mean(target), rtol=1e-5
    )

  def test_search_uses_the_critic_and_the_target_evaluates(self):
    critic = _make(conservative_weight=0.0, num_target_members=60)
    for variable in critic.trainable_variables:
      variable.assign_add(
          0.3 * tf.random.stateless_normal(variable.shape, [1, 2])
      )
    loss, transition, source = self._loss(critic, _argmax())
    next_ = transition.next_time_step
    best = source.next.candidates().actions[:, :1]
    value_fn = critic.bind(next_.observation, target=True)
    next_value = value_fn.members(best).numpy().min(axis=0)[:, 0]
    target = next_.reward + 0.99 * next_.discount * next_value
    np.testing.assert_allclose(
        loss.metrics['values/target'], np.mean(target), rtol=1e-5
    )

  def test_advantage_is_relative_to_one_policy_sample(self):
    critic = _make(num_conservative_actions=5)
    _, transition, source = self._loss(critic, _plain(5))
    observation = transition.time_step.observation
    action = transition.action_step.action
    value_fn = critic.bind(observation)
    sample = source.here.base()[:, :1]
    expected = value_fn(action[:, tf.newaxis]) - value_fn(sample)
    np.testing.assert_allclose(
        critic.advantage(observation, action, source, critic_conformance.SEED),
        expected[:, 0],
        atol=1e-6,
    )

  @parameterized.parameters(
      (dict(conservative_form='max'), "`conservative_form`.*'max'"),
      (dict(conservative_weight=-1.0), '`conservative_weight`.*-1.0'),
      (dict(conservative_temperature=0.0), '`conservative_temperature`.*0.0'),
      (dict(num_conservative_actions=0), '`num_conservative_actions`.*0'),
      (dict(num_backup_actions=0), '`num_backup_actions`.*0'),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _make(**arguments)
