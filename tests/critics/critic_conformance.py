"""The tests that every critic must pass; subclasses make the critic.

  class IQLConformanceTest(critic_conformance.CriticConformance):

    def make_critic(self, **kwargs):
      return critic_conformance.make(iql.IQLCritic, **kwargs)
"""

import functools

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.utils import common

from parl_tf import types
from parl_tf.critics import histogram
from parl_tf.networks import ensemble
from parl_tf.networks import observation_encoder
from parl_tf.policies import gaussian
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import state_actions

OBSERVATION_SPEC = {
    'position': tf.TensorSpec([2], tf.float32, 'position'),
    'velocity': tf.TensorSpec([1], tf.float32, 'velocity'),
}
ACTION_SPEC = tensor_spec.BoundedTensorSpec([2], tf.float32, -1.0, 1.0)
NORMALIZATION = types.Normalization(
    mean={'position': np.ones([2]), 'velocity': np.zeros([1])},
    standard_deviation={
        'position': np.full([2], 2.0), 'velocity': np.ones([1])
    },
)
SPEC = types.ModelSpec(OBSERVATION_SPEC, ACTION_SPEC, NORMALIZATION)
NUM_MEMBERS = 3
SEED = tf.constant([5, 6], tf.int32)


def make(critic_ctor, seed=0, normalization=NORMALIZATION, **kwargs):
  """Makes a small critic of E = 3 members."""
  network_ctor = functools.partial(
      ensemble.CriticEnsemble, num_members=NUM_MEMBERS, hidden_sizes=(8, 8)
  )
  return critic_ctor(
      SPEC._replace(seed=seed, normalization=normalization),
      **{'network_ctor': network_ctor, **kwargs},
  )


def histogram_ctor(min_value, max_value, num_bins):
  """Returns a constructor of critic histograms with these edges."""
  return functools.partial(
      histogram.make_histogram,
      min_value=min_value,
      max_value=max_value,
      num_bins=num_bins,
  )


def make_policy():
  return gaussian.GaussianPolicy(SPEC._replace(seed=1), hidden_sizes=(8,))


def make_observation(batch_size, seed=0):
  return {
      name: tf.random.stateless_normal([batch_size, *spec.shape], [seed, i])
      for i, (name, spec) in enumerate(OBSERVATION_SPEC.items())
  }


def make_actions(*shape, seed=0):
  return tf.random.stateless_uniform([*shape, 2], [seed, 9], -1.0, 1.0)


def make_transition(batch_size=4):
  """Makes a batch whose last row is terminal."""
  discount = tf.concat([tf.ones([batch_size - 1]), [0.0]], axis=0)
  rows = [batch_size]
  return trajectory.Transition(
      ts.TimeStep(
          tf.fill(rows, ts.StepType.MID),
          tf.zeros(rows),
          tf.ones(rows),
          make_observation(batch_size),
      ),
      policy_step.PolicyStep(
          make_actions(batch_size),
          (),
          {'monte_carlo_return': tf.linspace(-3.0, 0.0, batch_size)},
      ),
      ts.TimeStep(
          tf.where(discount > 0, ts.StepType.MID, ts.StepType.LAST),
          tf.linspace(-1.0, 0.0, batch_size),
          discount,
          make_observation(batch_size, seed=1),
      ),
  )


def _other_variables(critic):
  """Returns the target's variables, without observation statistics."""
  own = {id(v) for v in critic.trainable_variables}
  for module in critic.submodules:
    if isinstance(module, observation_encoder.ObservationEncoder):
      own.update(id(v) for v in module.variables)
  return [v for v in critic.variables if id(v) not in own]


def make_source(critic, policy, transition, seed=SEED, search=None, tape=None):
  """Makes the action source of one update, by default with a search."""
  if search is None:
    search = action_source.Search(
        4, action_optimizer.ActionOptimizer(2, 1, 0.1), 'argmax'
    )
  return state_actions.make_source(
      search, policy, critic, transition, seed, tape=tape
  )


_HEADS = parameterized.named_parameters(
    ('scalar', None),
    ('histogram', histogram_ctor(-5.0, 0.0, 11)),
)


class CriticConformance(parameterized.TestCase):
  """Tests values, aggregation, gradients, seeds and the target copy."""

  def make_critic(self, **kwargs):
    """Returns the critic under test: `make` with these arguments."""
    raise NotImplementedError

  def make_policy(self):
    """Returns a policy that the critic works with."""
    return make_policy()

  def loss(self, critic, transition, seed=SEED, policy=None):
    policy = self.make_policy() if policy is None else policy
    source = make_source(critic, policy, transition, seed)
    return critic.loss(transition, source, seed)

  @_HEADS
  def test_values_have_the_shape_of_their_actions(self, distribution_ctor):
    critic = self.make_critic(distribution_ctor=distribution_ctor)
    value_fn = critic.bind(make_observation(4))
    actions = make_actions(4, 5)
    self.assertEqual(critic.num_members, NUM_MEMBERS)
    self.assertEqual(value_fn(actions).shape, [4, 5])
    self.assertEqual(value_fn.members(actions).shape, [NUM_MEMBERS, 4, 5])
    num_bins = 1 if distribution_ctor is None else 11
    self.assertEqual(
        value_fn.outputs(actions).shape, [NUM_MEMBERS, 4, 5, num_bins]
    )

  @parameterized.parameters(('mean', np.mean), ('min', np.min))
  def test_values_aggregate_over_members(self, name, aggregate):
    critic = self.make_critic(value_aggregation=name)
    value_fn = critic.bind(make_observation(4))
    actions = make_actions(4, 5)
    members = value_fn.members(actions).numpy()
    self.assertGreater(np.ptp(members, axis=0).max(), 0)
    np.testing.assert_allclose(
        value_fn(actions), aggregate(members, axis=0), atol=1e-6
    )

  @_HEADS
  def test_each_action_is_evaluated_independently(self, distribution_ctor):
    critic = self.make_critic(distribution_ctor=distribution_ctor)
    value_fn = critic.bind(make_observation(4))
    actions = make_actions(4, 5)
    np.testing.assert_allclose(
        value_fn(actions)[:, 2:3], value_fn(actions[:, 2:3]), atol=1e-5
    )

  def test_values_depend_on_observation_and_action(self):
    critic = self.make_critic()
    actions = make_actions(4, 2)
    values = critic.bind(make_observation(4))(actions).numpy()
    others = critic.bind(make_observation(4, seed=1))(actions).numpy()
    self.assertGreater(np.abs(values - others).max(), 0)
    self.assertGreater(np.abs(values[:, 0] - values[:, 1]).max(), 0)

  @parameterized.parameters(False, True)
  def test_a_selection_evaluates_only_its_members(self, target):
    critic = self.make_critic()
    observation, actions = make_observation(4), make_actions(4, 5)
    members = critic.bind(observation, target=target).members(actions)
    selected = critic.bind(
        observation, target=target, selection=tf.one_hot([2, 0], NUM_MEMBERS)
    ).members(actions)
    np.testing.assert_allclose(
        selected, tf.gather(members, [2, 0]), atol=1e-6
    )

  def test_target_starts_equal_to_the_critic(self):
    critic = self.make_critic()
    observation, actions = make_observation(4), make_actions(4, 5)
    np.testing.assert_array_equal(
        critic.bind(observation, target=True).members(actions),
        critic.bind(observation).members(actions),
    )

  def test_target_moves_by_tau(self):
    # All variables of the critic increase by 1. The target increases by 0.25
    # after one update and by 0.25 + 0.25 * 0.75 = 0.4375 after two.
    critic = self.make_critic(tau=0.25)
    target = _other_variables(critic)
    self.assertNotEmpty(target)
    before = [v.numpy() for v in target]
    for variable in critic.trainable_variables:
      variable.assign_add(tf.ones_like(variable))
    critic.update_targets()
    critic.update_targets()
    for variable, value in zip(target, before):
      np.testing.assert_allclose(
          variable - value, np.full(value.shape, 0.4375), rtol=1e-4
      )

  def test_with_tau_1_the_target_is_the_critic(self):
    critic = self.make_critic(tau=1.0)
    observation, actions = make_observation(4), make_actions(4, 5)
    for variable in critic.trainable_variables:
      variable.assign_add(tf.ones_like(variable))
    value = critic.bind(observation)(actions)
    self.assertGreater(
        np.abs(value - critic.bind(observation, target=True)(actions)).max(), 0
    )
    critic.update_targets()
    np.testing.assert_allclose(
        critic.bind(observation, target=True)(actions), value, rtol=1e-5
    )

  @_HEADS
  def test_loss_is_one_finite_number_per_row(self, distribution_ctor):
    critic = self.make_critic(distribution_ctor=distribution_ctor)
    loss = self.loss(critic, make_transition(4))
    self.assertEqual(loss.per_example.shape, [4])
    self.assertTrue(np.all(np.isfinite(loss.per_example)))
    self.assertNotEmpty(loss.metrics)
    for name, metric in loss.metrics.items():
      # As a column of `metrics.csv`.
      self.assertRegex(name, r'^[^\s,"/]+(/[^\s,"/]+)+$')
      self.assertEqual(metric.shape, [])
      self.assertTrue(np.isfinite(metric))

  @_HEADS
  def test_gradients_reach_only_its_own_variables(
      self, distribution_ctor
  ):
    critic = self.make_critic(distribution_ctor=distribution_ctor)
    policy = self.make_policy()
    transition = make_transition(4)
    own = critic.trainable_variables
    others = [*_other_variables(critic), *policy.variables]
    with tf.GradientTape() as tape:
      tape.watch([*own, *others])
      loss = self.loss(critic, transition, policy=policy).per_example
    gradients = tape.gradient(loss, [*own, *others])
    for variable, gradient in zip(own, gradients):
      self.assertIsNotNone(gradient, variable.name)
      self.assertTrue(np.any(gradient), variable.name)
    for variable, gradient in zip(others, gradients[len(own):]):
      self.assertIsNone(gradient, variable.name)

  def test_loss_and_advantage_change_no_state(self):
    critic, transition = self.make_critic(), make_transition(4)
    before = [v.numpy() for v in critic.variables]
    self.loss(critic, transition)
    critic.advantage(
        transition.time_step.observation,
        transition.action_step.action,
        make_source(critic, self.make_policy(), transition),
        SEED,
    )
    for variable, value in zip(critic.variables, before):
      np.testing.assert_array_equal(variable, value)

  def test_only_a_critic_that_draws_actions_has_a_use_for_their_source(self):
    critic = self.make_critic()
    if critic.draws_actions:
      with self.assertRaises(AttributeError):
        critic.loss(make_transition(4), None, SEED)
    else:
      critic.loss(make_transition(4), None, SEED)

  def test_advantage_is_one_number_per_row(self):
    critic, transition = self.make_critic(), make_transition(4)
    advantage = critic.advantage(
        transition.time_step.observation,
        transition.action_step.action,
        make_source(critic, self.make_policy(), transition),
        SEED,
    )
    self.assertEqual(advantage.shape, [4])
    self.assertGreater(np.ptp(advantage), 0)

  def test_same_seed_same_loss(self):
    critic, policy = self.make_critic(), self.make_policy()
    first, second = (
        self.loss(critic, make_transition(4), policy=policy) for _ in range(2)
    )
    np.testing.assert_array_equal(first.per_example, second.per_example)

  def test_same_seed_same_critic(self):
    observation, actions = make_observation(4), make_actions(4, 5)
    values = [
        self.make_critic(seed=seed).bind(observation)(actions).numpy()
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(values[0], values[1])
    self.assertFalse(np.array_equal(values[0], values[2]))

  def test_one_graph_accepts_every_batch_size(self):
    critic, policy = self.make_critic(), self.make_policy()
    spec = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype),
        make_transition(4),
    )
    loss_fn = common.function(
        lambda transition: self.loss(critic, transition, policy=policy),
        input_signature=[spec],
    )
    for batch_size in (4, 2):
      transition = make_transition(batch_size)
      np.testing.assert_allclose(
          loss_fn(transition).per_example,
          self.loss(critic, transition, policy=policy).per_example,
          rtol=1e-4,
          atol=1e-5,
      )

  @_HEADS
  def test_values_start_at_the_initial_value(self, distribution_ctor):
    critic = self.make_critic(
        distribution_ctor=distribution_ctor, initial_value=-2.0
    )
    values = critic.bind(make_observation(4)).members(make_actions(4, 5))
    np.testing.assert_allclose(values, np.full(values.shape, -2.0), atol=0.1)

    later = self.make_critic(
        distribution_ctor=distribution_ctor, initial_value='data'
    )
    self.assertEqual((critic.starts_from_data, later.starts_from_data), (0, 1))
    later.start_at(-2.0)
    for variable, expected in zip(
        later.variables, critic.variables, strict=True
    ):
      np.testing.assert_array_equal(variable, expected, variable.name)

  @parameterized.parameters(
      (dict(value_aggregation='max'), "`value_aggregation`.*'max'"),
      (dict(gamma=1.1), '`gamma`.*1.1'),
      (dict(gamma=-0.1), '`gamma`.*-0.1'),
      (dict(tau=0.0), '`tau`.*0.0'),
      (dict(tau=1.5), '`tau`.*1.5'),
      (dict(num_target_members=0), '`num_target_members`.*0'),
      (dict(initial_value='mean'), "`initial_value`.*'data'.*'mean'"),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      self.make_critic(**arguments)
