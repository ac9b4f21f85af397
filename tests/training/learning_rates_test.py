"""Tests of the warning of a learning rate that has fallen to 0."""

from absl import logging
from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.agents import trained_part
from parl_tf.critics import iql
from parl_tf.policies import gaussian
from parl_tf.training import learning_rates
from parl_tf.training import schedules
from tests.agents import small_agent


class ZeroRatesTest(absltest.TestCase):

  def _part(self, name, num_decay_steps):
    """Returns a part whose rate is 0 after this number of updates."""
    variable = tf.Variable(1.0)

    def loss(rows, seed, tape):
      del rows, seed, tape
      return types.ImproverLoss(variable[tf.newaxis] ** 2, {})

    rate = schedules.WarmUpCosineDecay(
        0.1, num_warm_up_steps=0, num_decay_steps=num_decay_steps
    )
    return trained_part.TrainedPart(
        name,
        loss,
        [variable],
        tf.keras.optimizers.Adam(rate),
        purposes=[(name,)],
        finish=lambda metrics: None,
    )

  def _update(self, part, times=1):
    for _ in range(times):
      part.update(tf.zeros([1]), tf.constant([0, 1]), None)

  def test_a_part_that_goes_on_at_a_rate_of_0_is_named_once_per_phase(self):
    critic, policy = self._part('critic', 4), self._part('policy', None)
    zero_rates = learning_rates.ZeroRates()

    def look(phase, step):
      self._update(critic)
      self._update(policy)
      zero_rates.look([critic, policy], phase, step)

    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      for step in range(5):  # The last update is the first at a rate of 0.
        look('offline', step)
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      look('offline', 5)
      look('offline', 6)
      look('online', 7)
    self.assertLen(logs.output, 2)
    for message, step in zip(logs.output, (5, 7)):
      self.assertRegex(
          message,
          rf'The critic no longer learns: by training step {step} .*'
          r'`critic/WarmUpCosineDecay.num_decay_steps`',
      )

  def test_a_part_of_an_earlier_phase_is_not_named(self):
    cloning, critic = self._part('cloning', 2), self._part('critic', None)
    zero_rates = learning_rates.ZeroRates()
    self._update(cloning, 5)
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      for step in range(3):
        self._update(critic)
        zero_rates.look([cloning, critic], 'offline', step)

  def test_rates_count_training_steps(self):
    agent = small_agent.make_agent(
        iql.IQLCritic,
        gaussian.GaussianPolicy,
        search=small_agent.make_search(num_samples=2, num_gradient_steps=0),
        critic_utd=3,
        optimizer_ctor=lambda: tf.keras.optimizers.Adam(
            schedules.WarmUpCosineDecay(
                0.8, num_warm_up_steps=0, num_decay_steps=2
            )
        ),
    )
    rows = small_agent.make_rows(12)
    rates = []
    for _ in range(3):
      agent.train(types.Experience(critic=rows, policy=rows))
      rates.append([part.learning_rate for part in agent.trained_parts[:2]])

    # Updates 2, 5 and 8 of the critic, 0, 1 and 2 of the policy.
    np.testing.assert_allclose(
        rates, [[0.6, 0.8], [0.0536, 0.4], [0, 0]], atol=1e-4
    )

  def test_a_constant_rate_is_known(self):
    part = trained_part.TrainedPart(
        'policy',
        lambda rows, seed, tape: None,
        [tf.Variable(1.0)],
        tf.keras.optimizers.Adam(0.25),
        purposes=[('policy',)],
        finish=lambda metrics: None,
    )
    self.assertEqual((part.learning_rate, part.num_updates), (0.25, 0))


if __name__ == '__main__':
  absltest.main()
