"""Tests of the base class of critics."""

import functools

from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf.critics import critic
from parl_tf.critics import iql
from parl_tf.critics import td
from tests.critics import critic_conformance


class CriticTest(parameterized.TestCase):

  def test_an_observation_with_another_structure_is_an_error(self):
    bind = critic_conformance.make(iql.IQLCritic).bind
    with self.assertRaises(ValueError):
      bind({'position': tf.zeros([4, 2])})

  def test_gin_configures_network_and_histogram(self):
    with gin.unlock_config():
      gin.parse_config("""
        CriticEnsemble.num_members = 4
        CriticEnsemble.hidden_sizes = (8,)
        HLGauss.min_value = -2.0
        HLGauss.max_value = 0.0
        HLGauss.num_bins = 5
        Critic.distribution_ctor = @HLGauss
        Critic.tau = 0.5
        IQLCritic.tau = 0.25
      """)
      try:
        made = iql.IQLCritic(
            critic_conformance.SPEC._replace(normalization=None)
        )
      finally:
        gin.clear_config()
    self.assertEqual(made.num_members, 4)
    outputs = made.bind(critic_conformance.make_observation(2)).outputs(
        critic_conformance.make_actions(2, 3)
    )
    self.assertEqual(outputs.shape, [4, 2, 3, 5])

  @parameterized.parameters(-50.0, -48.3, -2.0, -99.0)
  def test_a_histogram_can_start_at_any_value_inside(self, value):
    # The last two are near an end of the range, which cuts off the Gaussian.
    made = critic_conformance.make(
        iql.IQLCritic,
        distribution_ctor=critic_conformance.histogram_ctor(-100.0, 0.0, 128),
        initial_value=value,
    )
    values = made.bind(critic_conformance.make_observation(2)).members(
        critic_conformance.make_actions(2, 3)
    )
    np.testing.assert_allclose(
        values, np.full(values.shape, value), atol=0.01
    )

  def test_the_members_of_a_target_may_be_distinct(self):
    made = critic_conformance.make(
        td.TDCritic,
        network_ctor=functools.partial(
            critic.CriticEnsemble, num_members=3, hidden_sizes=(4,)
        ),
        num_target_members=3,
        distinct_target_members=True,
    )
    for number in range(10):
      members = made._draw_members(tf.constant([number, 0])).numpy()
      self.assertEqual(members.sum(axis=0).tolist(), [1, 1, 1])

  def test_the_constructor_makes_the_members_of_the_ensemble(self):
    made = critic_conformance.make(
        iql.IQLCritic,
        network_ctor=functools.partial(
            critic.CriticEnsemble, num_members=5, hidden_sizes=(4,)
        ),
    )
    self.assertEqual(made.num_members, 5)
