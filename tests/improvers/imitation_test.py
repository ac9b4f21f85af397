"""Tests of imitation of the dataset actions."""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow as tf

from parl_tf.improvers import imitation
from parl_tf.policies import diffusion
from parl_tf.policies import gaussian
from tests import tensor_case
from tests.agents import small_agent


class ImitationTest(tensor_case.TensorCase):

  @parameterized.parameters(diffusion.DiffusionPolicy, gaussian.GaussianPolicy)
  def test_loss_is_the_policys_loss_on_the_dataset_action(self, policy_ctor):
    policy = small_agent.make_policy(policy_ctor)
    transition = small_agent.make_transition()
    seed = tf.constant([3, 5])

    # Imitation needs neither a critic nor a search.
    loss = imitation.ImitationImprover().loss(
        transition, policy, critic=None, source=None, seed=seed
    )

    expected = policy.distillation_loss(
        transition.time_step.observation, transition.action_step.action, seed
    )
    self.assertAllEqual(loss.per_example, expected)
    self.assertAllEqual(
        loss.metrics['losses/imitation'], tf.reduce_mean(expected)
    )

  def test_steps_below_the_least_return_are_not_imitated(self):
    policy = small_agent.make_policy(diffusion.DiffusionPolicy)
    transition = small_agent.make_transition()
    step = transition.action_step
    seed = tf.constant([3, 5])
    returns = tf.constant([-5.0, -1.0, -4.0, -2.0] * 2)
    transition = transition._replace(
        action_step=step._replace(info={'monte_carlo_return': returns})
    )
    plain, filtered = (
        imitation.ImitationImprover(least).loss(
            transition, policy, critic=None, source=None, seed=seed
        )
        for least in (None, -4.0)
    )
    self.assertAllClose(
        filtered.per_example,
        plain.per_example * tf.constant([0.0, 1.0, 1.0, 1.0] * 2) / 0.75,
    )
    self.assertAllClose(filtered.metrics['policy/kept'], 0.75)

  def test_has_no_variables(self):
    self.assertEmpty(imitation.ImitationImprover().trainable_variables)


if __name__ == '__main__':
  absltest.main()
