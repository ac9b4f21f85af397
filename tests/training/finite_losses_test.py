"""Tests of what is said of a loss that is not finite."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.training import finite_losses
from tests.agents import small_agent


class FiniteLossesTest(absltest.TestCase):

  def test_names_the_class_and_the_training_step(self):
    agent = small_agent.make_agent()
    experience = types.Experience(critic=small_agent.make_rows())
    agent.train(experience)
    variable = agent.critic.trainable_variables[0]
    variable.assign(np.nan * variable)
    with self.assertRaisesRegex(
        ValueError,
        r'critic loss \(CalQLCritic.loss\) is not finite after 1 training',
    ):
      with finite_losses.explained_errors(agent):
        agent.train(experience)

  def test_other_errors_are_left_alone(self):
    agent = small_agent.make_agent()
    with self.assertRaises(tf.errors.InvalidArgumentError):
      with finite_losses.explained_errors(agent):
        tf.debugging.check_numerics(np.nan, 'Something else.')


if __name__ == '__main__':
  absltest.main()
