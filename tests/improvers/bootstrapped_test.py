"""Tests of IBRL's policy improvement."""

import functools

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import td
from parl_tf.improvers import bootstrapped as bootstrapped_improver
from parl_tf.policies import bootstrapped
from parl_tf.policies import gaussian
from parl_tf.search import action_source
from parl_tf.search import ranking
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

  def test_loss_is_minus_the_mean_value_of_the_actor(self):
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
    # The actor returns (0.5, -0.2); the members' mean is twice the sum 0.3.
    self.assertAllClose(loss.per_example, np.full(8, -0.6), rtol=1e-5)

  def test_a_step_trains_actor_and_critic_and_no_imitation(self):
    agent = small_agent.make_agent(
        td.TDCritic,
        _make_policy,
        improver=bootstrapped_improver.BootstrappedImprover(),
        search=action_source.Search(
            2, ranking.Ranking(2, temperature=0.1), 'sample', ranking='target'
        ),
    )
    policy = agent.generative_policy
    changing = [*policy.improver_variables, *agent.critic.trainable_variables]
    constant = policy.base.trainable_variables
    before = [v.numpy() for v in (*changing, *constant)]
    rows = small_agent.make_rows()
    agent.train(types.Experience(critic=rows, policy=rows))
    for variable, value in zip(changing, before):
      self.assertFalse(np.array_equal(variable, value), variable.name)
    for variable, value in zip(constant, before[len(changing):]):
      self.assertAllEqual(variable, value)

  def test_needs_a_bootstrapped_policy(self):
    with self.assertRaisesRegex(TypeError, '`BootstrappedPolicy`, got Diff'):
      bootstrapped_improver.BootstrappedImprover().loss(
          small_agent.make_transition(), small_agent.make_policy(), None, None,
          _SEED,
      )


if __name__ == '__main__':
  absltest.main()
