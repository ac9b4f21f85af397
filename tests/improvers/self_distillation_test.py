"""Tests of imitation of the policy's own samples."""

from absl.testing import absltest
import tensorflow as tf

from parl_tf.improvers import distillation
from parl_tf.improvers import self_distillation
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import state_actions
from tests import tensor_case
from tests.agents import small_agent


class SelfDistillationTest(tensor_case.TensorCase):

  def test_loss_is_that_of_distillation_of_one_sample(self):
    policy = small_agent.make_policy()
    critic = small_agent.make_critic()
    transition = small_agent.make_transition()
    seed = tf.constant([3, 5])

    def loss(improver, optimizer, critic):
      search = action_source.Search(
          num_samples=1, optimizer=optimizer, temperature=0.5
      )
      source = state_actions.make_source(
          search, policy, critic, transition, seed
      )
      return improver.loss(transition, policy, critic, source, seed)

    own = loss(self_distillation.SelfDistillationImprover(), None, None)
    searched = loss(
        distillation.DistillationImprover(),
        action_optimizer.ActionOptimizer(
            num_candidates=1, num_gradient_steps=0
        ),
        critic,
    )

    self.assertAllClose(own.per_example, searched.per_example)
    self.assertAllClose(
        own.metrics['losses/distillation'], tf.reduce_mean(own.per_example)
    )


if __name__ == '__main__':
  absltest.main()
