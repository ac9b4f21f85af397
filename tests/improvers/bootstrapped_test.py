"""Tests of IBRL's policy improvement."""

import functools

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.improvers import bootstrapped as bootstrapped_improver
from parl_tf.policies import bootstrapped
from parl_tf.policies import gaussian
from tests import tensor_case
from tests.agents import small_agent

_SEED = tf.constant([3, 5])
_make_policy = functools.partial(
    bootstrapped.BootstrappedPolicy,
    base_ctor=functools.partial(gaussian.GaussianPolicy, hidden_sizes=(16,)),
    hidden_sizes=(16,),
)


class _TwoMembers:
  """Two members, Q(s, a) = sum of a and three times that."""

  def bind(self, observation):
    del observation
    return self

  def members(self, actions):
    total = tf.reduce_sum(actions, axis=-1)
    return tf.stack([total, 3.0 * total])


class BootstrappedImproverTest(tensor_case.TensorCase):

  def test_loss_is_minus_the_least_value_of_the_actor(self):
    policy = small_agent.make_policy(
        functools.partial(_make_policy, noise_std=0.0, dropout_rate=0.0)
    )
    kernels = [v for v in policy.improver_variables if 'kernel' in v.name]
    kernels[-1].assign(tf.zeros_like(kernels[-1]))
    bias = policy.improver_variables[-1]
    bias.assign(np.arctanh([0.5, -0.2]))
    loss = bootstrapped_improver.BootstrappedImprover().loss(
        small_agent.make_transition(), policy, _TwoMembers(), None, _SEED
    )
    # The actor returns (0.5, -0.2), the members its sum and three times that.
    self.assertAllClose(loss.per_example, np.full(8, -0.3), rtol=1e-5)

  def test_the_gradient_reaches_the_actor_and_no_imitation(self):
    policy = small_agent.make_policy(_make_policy)
    improver = bootstrapped_improver.BootstrappedImprover()
    trained = improver.trained_variables(policy)
    with tf.GradientTape() as tape:
      loss = improver.loss(
          small_agent.make_transition(), policy, small_agent.make_critic(),
          None, _SEED,
      ).per_example
    *own, other = tape.gradient(
        loss, [*trained, policy.base.trainable_variables]
    )
    for variable, gradient in zip(trained, own):
      self.assertTrue(np.any(gradient), variable.name)
    self.assertEqual(set(other), {None})
    self.assertEqual(
        {id(v) for v in trained}, {id(v) for v in policy.improver_variables}
    )

  def test_needs_a_bootstrapped_policy(self):
    with self.assertRaisesRegex(TypeError, '`BootstrappedPolicy`, got Diff'):
      small_agent.make_agent(
          improver=bootstrapped_improver.BootstrappedImprover()
      )


if __name__ == '__main__':
  absltest.main()
