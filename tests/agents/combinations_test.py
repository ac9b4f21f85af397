"""Tests that any critic, policy, search and improver work together."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import cal_ql
from parl_tf.critics import iql
from parl_tf.critics import td
from parl_tf.improvers import advantage_weighted
from parl_tf.improvers import distillation
from parl_tf.improvers import imitation
from parl_tf.improvers import reparameterized
from parl_tf.policies import diffusion
from parl_tf.policies import flow
from parl_tf.policies import gaussian
from parl_tf.policies import one_step_flow
from parl_tf.policies import transformer
from parl_tf.search import action_source
from parl_tf.search import cross_entropy_method
from parl_tf.training import metric_columns
from tests import eager
from tests import tensor_case
from tests.agents import small_agent

_DISTILLATION = distillation.DistillationImprover
_GRADIENT = reparameterized.ReparameterizedImprover
_WEIGHTED = advantage_weighted.AdvantageWeightedImprover


def _values(variables):
  return [v.numpy() for v in variables]


def _changed(before, variables):
  return [
      not np.array_equal(value, v.numpy())
      for value, v in zip(before, variables)
  ]


class CombinationsTest(tensor_case.TensorCase):
  """Takes one training step of agents with different parts."""

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)

  def _train(self, agent, policy_rows=True):
    rows = small_agent.make_rows()
    experience = types.Experience(
        critic=rows, policy=rows if policy_rows else (), cloning=()
    )
    info = agent.train(experience)
    self.assertTrue(np.isfinite(info.loss))
    for name, value in info.extra.items():
      self.assertTrue(np.isfinite(value), name)
      self.assertIn(name, metric_columns.COLUMNS)

  @parameterized.parameters(
      (cal_ql.CalQLCritic, transformer.TransformerPolicy, _DISTILLATION()),
      (iql.IQLCritic, flow.FlowPolicy, _DISTILLATION()),
      (td.TDCritic, transformer.TransformerPolicy, _DISTILLATION()),
      (
          td.TDCritic,
          one_step_flow.OneStepFlowPolicy,
          _GRADIENT(learn_temperature=False, imitation_weight=1.0),
      ),
      (td.TDCritic, diffusion.DiffusionPolicy, imitation.ImitationImprover()),
      (cal_ql.CalQLCritic, gaussian.GaussianPolicy, _GRADIENT()),
      (td.TDCritic, gaussian.GaussianPolicy, _GRADIENT(entropy_backup=True)),
      (iql.IQLCritic, gaussian.GaussianPolicy, _WEIGHTED()),
      (cal_ql.CalQLCritic, transformer.TransformerPolicy, _WEIGHTED()),
  )
  def test_a_step_changes_critic_and_policy(
      self, critic_ctor, policy_ctor, improver
  ):
    search = None
    if isinstance(improver, (_GRADIENT, _WEIGHTED)):
      search = action_source.Search(10)  # The policy's own actions.
    agent = small_agent.make_agent(
        critic_ctor, policy_ctor, improver=improver, search=search
    )
    parts = [agent.critic.trainable_variables]
    parts.append(agent.generative_policy.trainable_variables)
    parts.append(improver.trainable_variables)
    before = [_values(part) for part in parts]
    self._train(agent)
    for values, variables in zip(before, parts):
      self.assertAll(_changed(values, variables))

  @parameterized.parameters(
      (cal_ql.CalQLCritic, _DISTILLATION()),
      (td.TDCritic, _GRADIENT(entropy_backup=True)),
  )
  def test_densities_need_a_temperature_of_one(self, critic_ctor, improver):
    agent = small_agent.make_agent(
        critic_ctor,
        gaussian.GaussianPolicy,
        improver=improver,
        search=action_source.Search(10, temperature=0.5),
    )
    with self.assertRaisesRegex(ValueError, '`Search.temp.* got 0.5'):
      agent.check_densities()

  def test_losses_without_densities_take_any_temperature(self):
    agent = small_agent.make_agent(
        td.TDCritic,
        gaussian.GaussianPolicy,
        improver=_GRADIENT(learn_temperature=False),
        search=action_source.Search(10, temperature=0.5),
    )
    agent.check_densities()
    self._train(agent)

  def test_entropy_in_the_target_is_weighted_by_the_temperature(self):
    targets = []
    for arguments in (
        {},
        dict(entropy_backup=True, initial_temperature=1.0),
        dict(entropy_backup=True, initial_temperature=2.0),
    ):
      agent = small_agent.make_agent(
          td.TDCritic,
          gaussian.GaussianPolicy,
          improver=_GRADIENT(**arguments),
          search=action_source.Search(10),
      )
      loss = agent.loss(types.Experience(critic=small_agent.make_rows()))
      targets.append(float(loss.extra['values/target']))

    entropy = targets[1] - targets[0]
    self.assertNotAlmostEqual(entropy, 0.0, places=2)
    self.assertAlmostEqual(targets[2] - targets[0], 2.0 * entropy, places=4)

  def assertAll(self, changed):
    self.assertEqual(changed, [True] * len(changed))

  def test_the_cross_entropy_method_does_not_change_a_fixed_policy(self):
    search = action_source.Search(
        8,
        cross_entropy_method.CrossEntropyMethod(
            num_candidates=2, population_size=8, num_iterations=2
        ),
    )
    agent = small_agent.make_agent(search=search, is_policy_fixed=True)
    self.assertEqual(agent.policy_utd, 0)
    before = _values(agent.generative_policy.variables)
    critic_before = _values(agent.critic.trainable_variables)
    self._train(agent, policy_rows=False)
    self.assertNotIn(
        True, _changed(before, agent.generative_policy.variables)
    )
    self.assertAll(_changed(critic_before, agent.critic.trainable_variables))
    act = tf.function(agent.greedy_policy.act)
    action = act(tf.zeros([3, 3]), tf.constant([1, 2]))
    self.assertAllInRange(action, -1.0, 1.0)


if __name__ == '__main__':
  absltest.main()
