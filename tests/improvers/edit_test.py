"""Tests of EXPO's policy improvement."""

import functools
import math

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import td
from parl_tf.improvers import edit
from parl_tf.improvers import self_distillation
from parl_tf.policies import edited
from parl_tf.policies import gaussian
from tests import tensor_case
from tests.agents import small_agent

_SEED = tf.constant([3, 5])


_make_policy = functools.partial(
    edited.EditedPolicy,
    base_ctor=functools.partial(gaussian.GaussianPolicy, hidden_sizes=(16,)),
    scale=0.1,
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


class EditImproverTest(tensor_case.TensorCase):

  def test_loss_is_imitation_plus_that_of_sac_on_edits(self):
    policy = small_agent.make_policy(_make_policy)
    transition = small_agent.make_transition()
    loss, other_target = (
        edit.EditImprover(initial_temperature=0.5, target_entropy=target).loss(
            transition, policy, _TwoMembers(), None, _SEED
        )
        for target in (None, 3.0)
    )
    observation = transition.time_step.observation
    action = transition.action_step.action
    changed, log_prob = policy.edit(
        observation, action[:, tf.newaxis], randomness.fold_in(_SEED, 'edit')
    )
    imitation = policy.base.distillation_loss(
        observation, action, randomness.fold_in(_SEED, 'imitation')
    )
    # The mean of the members is twice the sum. The target entropy is
    # 2 log 0.1 - 1; the temperature's own loss -log(1/2) (log pi + target).
    expected = imitation.numpy() + 0.5 * log_prob.numpy()[:, 0]
    expected -= 2.0 * changed.numpy()[:, 0].sum(axis=-1)
    target = 2.0 * math.log(0.1) - 1.0
    expected += math.log(2.0) * (log_prob.numpy()[:, 0] + target)
    self.assertAllClose(loss.per_example, expected, rtol=1e-5)
    expected += math.log(2.0) * (3.0 - target)
    self.assertAllClose(other_target.per_example, expected, rtol=1e-5)

  def test_a_step_trains_base_edits_and_temperature(self):
    improver = edit.EditImprover()
    agent = small_agent.make_agent(
        td.TDCritic, _make_policy, improver=improver
    )
    policy = agent.generative_policy
    changing = [
        *policy.base.trainable_variables,
        *policy.improver_variables,
        *improver.trainable_variables,
    ]
    constant = agent.critic.variables
    before = [v.numpy() for v in (*changing, *constant)]
    agent.train(types.Experience(policy=small_agent.make_rows()))
    for variable, value in zip(changing, before):
      self.assertFalse(np.array_equal(variable, value), variable.name)
    for variable, value in zip(constant, before[len(changing):]):
      self.assertAllEqual(variable, value)

  def test_the_critic_must_read_edits_too(self):
    search = small_agent.make_search()
    search.optimize_targets = False
    make = functools.partial(
        small_agent.make_agent,
        td.TDCritic,
        _make_policy,
        improver=edit.EditImprover(),
        search=search,
    )
    make(critic_kwargs=dict(num_backup_actions=None))
    with self.assertRaisesRegex(ValueError, 'EditedPolicy, whose.*, got 1'):
      make()

  def test_needs_an_edited_policy(self):
    with self.assertRaisesRegex(TypeError, '`EditedPolicy`, got Diffusion'):
      small_agent.make_agent(improver=edit.EditImprover())

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`initial_temperature`.*0.0'):
      edit.EditImprover(initial_temperature=0.0)


class OtherImproverTest(absltest.TestCase):

  def test_an_improver_that_trains_no_edits_is_an_error(self):
    with self.assertRaisesRegex(
        ValueError, 'EditedPolicy.*DistillationImprover'
    ):
      small_agent.make_agent(policy_ctor=_make_policy)

  def test_its_control_imitates_the_base(self):
    policy = small_agent.make_policy(_make_policy)
    self_distillation.SelfDistillationImprover().check_policy(policy)
    edit.EditImprover().check_policy(policy)


if __name__ == '__main__':
  absltest.main()
