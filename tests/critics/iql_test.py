"""Tests of IQL's two networks."""

from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf.critics import iql
from tests.critics import critic_conformance


def _make(**kwargs):
  return critic_conformance.make(iql.IQLCritic, **kwargs)


def _heads(variables):
  return [v for v in variables if v.name.startswith('head')]


class IQLConformanceTest(critic_conformance.CriticConformance):

  def make_critic(self, **kwargs):
    return _make(**kwargs)


class IQLTest(parameterized.TestCase):

  def test_value_is_one_number_per_state(self):
    value = _make().value(critic_conformance.make_observation(4))
    self.assertEqual(value.shape, [4])
    self.assertGreater(np.ptp(value), 0)

  def test_the_online_phase_may_have_its_own_expectile(self):
    transition = critic_conformance.make_transition(4)

    def value_loss(critic):
      update = tf.function(
          lambda: critic.loss(transition, None, critic_conformance.SEED)
      )
      before = update().metrics['losses/value'].numpy()
      critic.begin_online()
      return before, update().metrics['losses/value'].numpy()

    low, high = (value_loss(_make(expectile=x))[0] for x in (0.6, 0.8))
    self.assertNotAlmostEqual(low, high)
    np.testing.assert_allclose(
        value_loss(_make(expectile=0.8, online_expectile=0.6)), [high, low]
    )
    np.testing.assert_allclose(value_loss(_make(expectile=0.8)), [high, high])

  def test_the_online_phase_may_have_its_own_step_of_the_target(self):
    critic = _make(tau=0.1, online_tau=0.5)
    update = tf.function(critic.update_targets)
    [source], [target] = (
        [x for x in network.variables if x.shape[-1] == 1][:1]
        for network in (critic._network, critic._target_network)
    )
    source.assign(tf.ones_like(source))
    target.assign(tf.zeros_like(target))
    update()
    np.testing.assert_allclose(target, np.full(target.shape, 0.1), rtol=1e-6)
    critic.begin_online()
    update()
    np.testing.assert_allclose(target, np.full(target.shape, 0.55), rtol=1e-6)
    with self.assertRaisesRegex(ValueError, '`online_tau`.*got 0'):
      _make(online_tau=0)

  @parameterized.parameters(0.7, 0.9)
  def test_losses_by_hand(self, expectile):
    # Heads without weights: the members return -1, -2, -3, the target members
    # -4, -5, -6 and V -5.5. Then u = -6 - (-5.5) = -0.5 <= 0 with a loss of
    # (1 - expectile) * 0.25, and the TD target is r + 0.99 * discount * -5.5.
    critic = _make(expectile=expectile)
    members, value = [], []
    for variable in _heads(critic.variables):
      variable.assign(tf.zeros_like(variable))
      if variable.shape == [3, 1, 1]:
        members.append(variable)
      elif variable.shape == [1, 1, 1]:
        value.append(variable)
    own = {id(v) for v in critic.trainable_variables}
    for variable in members:
      first = -1.0 if id(variable) in own else -4.0
      variable.assign(np.reshape([first, first - 1, first - 2], [3, 1, 1]))
    value[0].assign([[[-5.5]]])
    transition = critic_conformance.make_transition(4)
    loss = critic.loss(transition, None, critic_conformance.SEED)
    # r = -1, -2/3, -1/3, 0; discount = 1, 1, 1, 0.
    target = np.array([-1 - 5.445, -2 / 3 - 5.445, -1 / 3 - 5.445, 0.0])
    errors = np.array([[-1.0], [-2.0], [-3.0]]) - target
    expected = np.mean(errors**2, axis=0) + (1 - expectile) * 0.25
    np.testing.assert_allclose(loss.per_example, expected, rtol=1e-4)
    # The members are -1, -2 and -3.
    np.testing.assert_allclose(
        loss.metrics['values/disagreement'], np.sqrt(2 / 3), rtol=1e-5
    )
    np.testing.assert_allclose(
        critic.advantage(
            transition.time_step.observation,
            transition.action_step.action,
            None,
            critic_conformance.SEED,
        ),
        np.full([4], -0.5),
        rtol=1e-5,
    )

  def test_value_loss_is_in_units_of_the_histogram(self):
    # On [-10, 0], V is -5 + 5 * head, and its loss is divided by 5^2.
    critic = _make(
        distribution_ctor=critic_conformance.histogram_ctor(-10.0, 0.0, 11),
        expectile=0.5,
    )
    for variable in _heads(critic.trainable_variables):
      if variable.shape[-1] == 1:
        variable.assign(tf.zeros_like(variable))
        if variable.shape == [1, 1, 1]:
          variable.assign([[[0.4]]])
    transition = critic_conformance.make_transition(4)
    observation = transition.time_step.observation
    np.testing.assert_allclose(
        critic.value(observation), np.full([4], -3.0), rtol=1e-5
    )
    loss = critic.loss(transition, None, critic_conformance.SEED)
    difference = critic.advantage(
        observation,
        transition.action_step.action,
        None,
        critic_conformance.SEED,
    )
    np.testing.assert_allclose(
        loss.metrics['losses/value'],
        np.mean(0.5 * difference**2) / 25.0,
        rtol=1e-4,
    )

  @parameterized.parameters(
      (None, -2.0), (critic_conformance.histogram_ctor(-10.0, 0.0, 11), -7.0)
  )
  def test_both_networks_start_at_the_initial_value(
      self, distribution_ctor, value
  ):
    critic = _make(distribution_ctor=distribution_ctor, initial_value=value)
    np.testing.assert_allclose(
        critic.value(critic_conformance.make_observation(4)),
        np.full([4], value),
        atol=0.15,
    )

  def test_state_values_have_their_own_network(self):
    critic = _make()
    shapes = {tuple(v.shape) for v in critic.trainable_variables}
    self.assertIn((3, 5, 8), shapes)  # Three members, features and action.
    self.assertIn((1, 3, 8), shapes)  # One member, only features.

  def test_gin_sets_the_constructor_of_both_networks(self):
    with gin.unlock_config():
      gin.parse_config("""
        Critic.network_ctor = @narrow/CriticEnsemble
        narrow/CriticEnsemble.num_members = 2
        narrow/CriticEnsemble.hidden_sizes = (7,)
      """)
      try:
        made = iql.IQLCritic(
            critic_conformance.SPEC._replace(normalization=None)
        )
      finally:
        gin.clear_config()
    shapes = {tuple(v.shape) for v in made.trainable_variables}
    self.assertIn((2, 5, 7), shapes)
    self.assertIn((1, 3, 7), shapes)

  @parameterized.parameters(0.0, 1.0)
  def test_expectile_out_of_range_is_an_error(self, expectile):
    with self.assertRaisesRegex(ValueError, f'`expectile`.*{expectile}'):
      _make(expectile=expectile)
