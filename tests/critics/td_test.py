"""Tests of the TD critic."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.critics import cal_ql
from parl_tf.critics import td
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from tests.critics import critic_conformance


def _make(**kwargs):
  return critic_conformance.make(td.TDCritic, **kwargs)


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
    critic = _make(
        num_target_members=None,
        num_backup_actions=None,
        target_aggregation=aggregation,
    )
    for i, variable in enumerate(critic.variables):
      if 'kernel' in variable.name:
        variable.assign_add(
            0.3 * tf.random.stateless_normal(variable.shape, [1, i])
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

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`num_backup_actions`.*0'):
      _make(num_backup_actions=0)
    with self.assertRaisesRegex(ValueError, "`target_aggregation`.*'max'"):
      _make(target_aggregation='max')
