"""Tests of the agent's updates and its TF-Agents interface."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.agents import test_util
from tf_agents.environments import random_py_environment
from tf_agents.policies import py_tf_eager_policy
from tf_agents.specs import array_spec
from tf_agents.specs import tensor_spec
from tf_agents.train import actor
from tf_agents.trajectories import time_step as ts

from parl_tf import types
from parl_tf.agents import following_policy
from parl_tf.critics import cal_ql
from parl_tf.critics import iql
from parl_tf.improvers import imitation
from parl_tf.policies import gaussian
from parl_tf.training import schedules
from tests import eager
from tests import tensor_case
from tests.agents import small_agent


def _groups(agent):
  """Returns the agent's variables, grouped by the update that changes them."""
  groups = {
      'critic': agent.critic.trainable_variables,
      'policy': agent.generative_policy.trainable_variables,
  }
  for name, part in (
      ('target', agent.critic), ('average', agent.generative_policy)
  ):
    own = {id(v) for v in part.trainable_variables}
    groups[name] = [v for v in part.variables if id(v) not in own]
  return groups


def _values(agent):
  """Returns the values of `_groups`, in one order."""
  return {
      name: [v.numpy() for v in group] for name, group in _groups(agent).items()
  }


def _all_values(agent):
  """Returns the values of all variables in a checkpoint, in one order."""
  return [
      v.numpy()
      for name, item in agent.checkpoint_items.items()
      for v in ([item] if name == 'train_step' else item.variables)
  ]


def _moved(before, after):
  """Returns the names of the groups with a changed value."""
  return {
      name
      for name in before
      if not all(map(np.array_equal, before[name], after[name]))
  }


def _experience(kind, num_rows=small_agent.BATCH_SIZE, seed=0):
  rows = small_agent.make_rows(num_rows, seed)
  return {
      'cloning': types.Experience(cloning=rows),
      'critic': types.Experience(critic=rows),
      'both': types.Experience(critic=rows, policy=rows),
  }[kind]


def _make_cheap_agent(**kwargs):
  """Returns an agent with small graphs, whose search only ranks."""
  kwargs.setdefault(
      'search', small_agent.make_search(num_samples=2, num_gradient_steps=0)
  )
  return small_agent.make_agent(
      iql.IQLCritic, gaussian.GaussianPolicy, **kwargs
  )


class LossTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)

  @parameterized.parameters(cal_ql.CalQLCritic, iql.IQLCritic)
  def test_loss_and_train_agree(self, critic_ctor):
    agent = small_agent.make_agent(
        critic_ctor,
        search=small_agent.make_search(num_samples=2, num_gradient_steps=1),
    )
    before = _all_values(agent)
    agent.loss(_experience('critic'))
    for value, expected in zip(_all_values(agent), before):
      self.assertAllEqual(value, expected)

    test_util.test_loss_and_train_output(
        test=self,
        expect_equal_loss_values=True,
        agent=agent,
        experience=_experience('critic'),
    )

  def test_loss_and_train_agree_on_weighted_rows(self):
    weights = tf.range(8.0) / 8.0
    test_util.test_loss_and_train_output(
        test=self,
        expect_equal_loss_values=True,
        agent=_make_cheap_agent(),
        experience=_experience('critic'),
        weights=weights,
    )

  def test_training_is_a_gradient_step_on_the_loss(self):
    agent = _make_cheap_agent(
        optimizer_ctor=functools.partial(tf.keras.optimizers.SGD, 0.1)
    )
    for kind, moving in (
        ('cloning', 'policy'), ('critic', 'critic'), ('both', 'critic')
    ):
      variables = _groups(agent)[moving]
      before = [v.numpy() for v in variables]
      experience = _experience(kind)._replace(policy=())
      with tf.GradientTape() as tape:
        loss = agent.loss(experience).loss
      gradients = tape.gradient(loss, variables)

      agent.train(_experience(kind))

      for variable, old, gradient in zip(variables, before, gradients):
        self.assertAllClose(variable, old - 0.1 * gradient, atol=1e-6)

  def test_the_loss_adds_up_all_parts(self):
    agent = _make_cheap_agent()
    rows = small_agent.make_rows()
    parts = [
        agent.loss(types.Experience(critic=rows)),
        agent.loss(types.Experience(policy=rows)),
        agent.loss(types.Experience(cloning=rows)),
    ]
    total = agent.loss(types.Experience(rows, rows, rows))

    self.assertAllClose(total.loss, sum(part.loss for part in parts))
    self.assertCountEqual(
        total.extra, [name for part in parts for name in part.extra]
    )


class UpdateTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)

  def test_a_step_changes_only_the_parts_that_have_rows(self):
    agent = small_agent.make_agent(iql.IQLCritic)
    for kind, expected in (
        ('cloning', {'policy', 'average'}),
        ('critic', {'critic', 'target'}),
        ('both', {'critic', 'target', 'policy', 'average'}),
    ):
      before = _values(agent)
      agent.train(_experience(kind))
      self.assertEqual(_moved(before, _values(agent)), expected, kind)

    items = agent.checkpoint_items
    self.assertEqual(items['pretrain_optimizer'].iterations, 1)
    self.assertEqual(items['critic_optimizer'].iterations, 2)
    self.assertEqual(items['policy_optimizer'].iterations, 1)
    self.assertEqual(agent.train_step_counter, 3)

  def test_several_updates_per_step_take_the_slices_in_turn(self):
    # Neither IQL nor the likelihood loss draws random numbers, so one step with
    # two slices equals two steps with one slice.
    agents = [
        _make_cheap_agent(
            improver=imitation.ImitationImprover(),
            critic_utd=utd,
            policy_utd=utd,
        )
        for utd in (2, 1)
    ]
    experience = _experience('both', num_rows=16)
    agents[0].train(experience)
    for rows in (slice(0, 8), slice(8, 16)):
      agents[1].train(tf.nest.map_structure(lambda x: x[rows], experience))

    self.assertEqual([int(a.train_step_counter) for a in agents], [1, 2])
    # Compare everything except the number of training steps.
    for one, two in zip(*(_all_values(agent)[:-1] for agent in agents)):
      if one.shape:
        self.assertAllClose(one, two, atol=1e-6)
    with self.assertRaisesRegex(ValueError, '2 updates.*multiple of 2.*15'):
      agents[0].train(_experience('both', num_rows=15))

  def test_the_same_seed_gives_the_same_numbers(self):
    agents = [
        small_agent.make_agent(policy_ctor=gaussian.GaussianPolicy, seed=seed)
        for seed in (5, 5, 6)
    ]
    losses = [agent.loss(_experience('both')).loss for agent in agents]
    for agent in agents[:2]:
      agent.train(types.Experience(policy=small_agent.make_rows()))

    self.assertAllEqual(losses[0], losses[1])
    self.assertNotAllEqual(losses[0], losses[2])
    for one, two in zip(_all_values(agents[0]), _all_values(agents[1])):
      self.assertAllEqual(one, two)

  def test_each_step_uses_new_random_numbers(self):
    agent = _make_cheap_agent()
    rows = types.Experience(policy=small_agent.make_rows())
    first, again = agent.loss(rows).loss, agent.loss(rows).loss
    agent.train_step_counter.assign_add(1)

    self.assertEqual(first, again)
    self.assertNotEqual(first, agent.loss(rows).loss)

  @parameterized.product(
      name=('target_policy', 'sampling_policy'), rate=(0.0, 0.25)
  )
  def test_following_policies_draw_and_move_at_their_rates(self, name, rate):
    policy = small_agent.make_policy(gaussian.GaussianPolicy)
    copy = small_agent.make_policy(gaussian.GaussianPolicy, seed=9)
    agent = small_agent.make_agent(
        cal_ql.CalQLCritic,
        lambda _: policy,
        search=small_agent.make_search(num_samples=2, num_gradient_steps=0),
        followers=following_policy.Followers(
            **{name: following_policy.FollowingPolicy(copy, policy, rate)}
        ),
    )
    rows = small_agent.make_rows()

    def value():
      if name == 'target_policy':
        return float(agent.loss(types.Experience(critic=rows)).loss)
      metrics = agent.loss(types.Experience(policy=rows)).extra
      return float(metrics['candidates/best_value'])

    first = value()
    agent.reset_following_policies()
    for target, variable in zip(copy.variables, policy.variables, strict=True):
      self.assertAllEqual(target, variable)
    second = value()
    self.assertNotEqual(first, second)

    for variable in policy.variables:
      variable.assign_add(tf.ones_like(variable))
    self.assertEqual(value(), second)
    before = [v.numpy() for v in copy.variables]
    agent.train(_experience('both'))
    for start, target, variable in zip(
        before, copy.variables, policy.variables, strict=True
    ):
      moved = start + rate * (variable - start)
      self.assertFalse(np.allclose(start, variable))
      self.assertAllClose(target, moved, atol=1e-6)

  def test_reset_optimizers_keep_only_their_learning_rates(self):
    warm_up = schedules.WarmUpCosineDecay(1e-2, num_warm_up_steps=4)
    rates = iter([1e-2, warm_up, warm_up])
    agent = _make_cheap_agent(
        optimizer_ctor=lambda: tf.keras.optimizers.Adam(next(rates))
    )
    agent.train(_experience('cloning'))
    agent.train(_experience('both'))
    items = agent.checkpoint_items
    pretrain = [v.numpy() for v in items['pretrain_optimizer'].variables]
    before = _values(agent)

    agent.reset_optimizers()

    for name in ('critic_optimizer', 'policy_optimizer'):
      moments = [v.numpy() for v in items[name].variables if v.shape.rank]
      self.assertNotEmpty(moments)
      self.assertFalse(any(np.any(x) for x in moments))
      self.assertEqual(items[name].iterations, 0)
    self.assertAllClose(items['critic_optimizer'].learning_rate, 1e-2)
    for variable, value in zip(items['pretrain_optimizer'].variables, pretrain):
      self.assertAllEqual(variable, value)
    self.assertEmpty(_moved(before, _values(agent)))

    # Adam's first step is at most as large as the learning rate. The warm-up
    # restarts at a quarter of 1e-2.
    agent.train(_experience('both'))
    step = max(
        np.max(np.abs(x - y))
        for x, y in zip(_values(agent)['policy'], before['policy'])
    )
    self.assertAllClose(step, 0.25e-2, rtol=1e-2)

  def test_a_nan_reward_stops_the_training(self):
    agent = _make_cheap_agent()
    rows = small_agent.make_rows()
    rows = rows._replace(reward=rows.reward * float('nan'))
    with self.assertRaisesRegex(
        tf.errors.InvalidArgumentError, 'critic loss is not finite'
    ):
      agent.train(types.Experience(critic=rows))

  def test_updates_per_step_must_be_positive(self):
    with self.assertRaisesRegex(ValueError, '`critic_utd`.*0 and 1'):
      _make_cheap_agent(critic_utd=0)

  def test_terminals_from_reward_with_chunks_is_an_error(self):
    with self.assertRaisesRegex(ValueError, '`Critic.terminals_from_reward`'):
      small_agent.make_agent(
          critic_kwargs=dict(terminals_from_reward=True), chunk_length=2
      )

  def test_chunks_are_trained(self):
    agent = small_agent.make_agent(
        policy_ctor=gaussian.GaussianPolicy, chunk_length=3
    )
    rows = small_agent.make_rows()
    chunk = tf.tile(rows.action, [1, 1, 3])
    info = dict(rows.policy_info, action_mask=tf.ones_like(chunk))
    rows = rows._replace(action=chunk, policy_info=info)
    before = [v.numpy() for v in agent.generative_policy.trainable_variables]
    loss = agent.train(types.Experience(critic=rows, policy=rows, cloning=()))
    self.assertTrue(np.isfinite(loss.loss))
    self.assertFalse(
        np.array_equal(
            agent.generative_policy.trainable_variables[0], before[0]
        )
    )
    policy = agent.collect_policy
    step = policy.action(
        ts.restart(tf.zeros([2, 3]), 2), policy.get_initial_state(2)
    )
    self.assertEqual(step.action.shape, [2, 2])
    self.assertEqual(step.state['chunk'].shape, [2, 3, 2])


class OrderTest(tensor_case.TensorCase):

  def test_no_operation_joins_unrelated_updates(self):
    # TensorFlow's graph optimizer treats each output of an IdentityN as
    # dependent on every input, drops the control edges that this makes
    # redundant, and then splits the IdentityN. A read of a target may then
    # follow its update. Each IdentityN must therefore have at most one used
    # output.
    rows = small_agent.make_rows()
    agent = _make_cheap_agent(
        search=small_agent.make_search(num_gradient_steps=2)
    )
    train = tf.function(agent.train, autograph=False)
    traced = train.get_concrete_function(types.Experience(rows, rows, rows))
    for function in traced.graph.as_graph_def().library.function:
      joins = {x.name for x in function.node_def if x.op == 'IdentityN'}
      used = {}
      for node in function.node_def:
        for name in [*node.input, *function.ret.values()]:
          source, _, output = name.partition(':')
          if source in joins:
            used.setdefault(source, set()).add(output)
      for source, outputs in used.items():
        self.assertLen(outputs, 1, source)


class ActorTest(tensor_case.TensorCase):

  def test_actions_in_an_environment_follow_the_seed(self):
    agent = _make_cheap_agent()
    seen = []
    for seed in ([3, 5], [3, 5], [3, 6]):
      agent.collect_policy.set_seed(seed)
      steps = []
      environment = random_py_environment.RandomPyEnvironment(
          array_spec.BoundedArraySpec([3], np.float32, -1.0, 1.0),
          tensor_spec.to_nest_array_spec(agent.action_spec),
          seed=7,
      )
      actor.Actor(
          environment,
          py_tf_eager_policy.PyTFEagerPolicy(
              agent.collect_policy, use_tf_function=True
          ),
          agent.train_step_counter,
          steps_per_run=6,
          observers=[steps.append],
      ).run()
      seen.append(np.stack([step.action for step in steps]))

    self.assertAllInRange(seen[0], -1.0, 1.0)
    self.assertAllEqual(seen[0], seen[1])
    self.assertNotAllEqual(seen[0][:4], seen[2][:4])


if __name__ == '__main__':
  absltest.main()
