"""The tests that every policy must pass; subclasses make the policy.

  class GaussianConformanceTest(policy_conformance.PolicyConformance):

    def make_policy(self, **kwargs):
      return policy_conformance.make(gaussian.GaussianPolicy, **kwargs)
"""

import functools

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.utils import common

from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import denoising_network
from parl_tf.networks import observation_encoder
from parl_tf.policies import vla

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
SEED = tf.constant([5, 6], tf.int32)
OTHER_SEED = tf.constant([6, 5], tf.int32)


def make(policy_ctor, seed=0, **kwargs):
  return policy_ctor(SPEC._replace(seed=seed), **kwargs)


def make_denoising(policy_ctor, network=None, **kwargs):
  """Returns a diffusion or flow policy; `network` replaces its small sizes."""
  sizes = dict(time_size=16, hidden_size=32, num_blocks=1)
  network_ctor = functools.partial(
      denoising_network.DenoisingNetwork, **{**sizes, **(network or {})}
  )
  return make(policy_ctor, network_ctor=network_ctor, **kwargs)


def make_observation(batch_size, seed=0):
  return {
      name: tf.random.stateless_normal([batch_size, *spec.shape], [seed, i])
      for i, (name, spec) in enumerate(OBSERVATION_SPEC.items())
  }


def make_actions(batch_size):
  return tf.random.stateless_uniform([batch_size, 2], [0, 9], -1.0, 1.0)


def averaged_variables(policy):
  """Returns the averaged variables, without statistics of the data."""
  trained = (*policy.trainable_variables, *policy.improver_variables)
  others = {id(v) for v in trained}
  statistics = (observation_encoder.ObservationEncoder, vla.RangeTokenizer)
  for module in policy.submodules:
    if isinstance(module, statistics):
      others.update(id(v) for v in module.variables)
  # A scalar is a setting, not a weight.
  return [v for v in policy.variables if id(v) not in others and v.shape.rank]


def distill(policy, actions, num_steps, learning_rate, batch_size=128):
  """Fits the policy to actions `[n]`, equal in all dimensions, at one state."""
  optimizer = tf.keras.optimizers.Adam(learning_rate)
  variables = policy.trainable_variables
  optimizer.build(variables)
  rows = tf.tile(tf.constant(actions), [batch_size // len(actions)])
  action = tf.tile(rows[:, tf.newaxis], [1, 2])
  observation = tf.nest.map_structure(
      lambda spec: tf.zeros([len(action), *spec.shape]), OBSERVATION_SPEC
  )

  @common.function
  def update(i):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(
          policy.distillation_loss(observation, action, tf.stack([i, 7]))
      )
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    policy.update_average()

  for i in range(num_steps):
    update(tf.constant(i))


def draw(policy, num_samples):
  """Draws `[num_samples, A]` actions at the state of `distill`."""
  observation = tf.nest.map_structure(
      lambda spec: tf.zeros([1, *spec.shape]), OBSERVATION_SPEC
  )
  return policy.sample(observation, num_samples, SEED).numpy()[0]


class PolicyConformance(parameterized.TestCase):
  """Tests samples, losses, gradients, seeds, averages, export and two modes."""

  is_multimodal = True
  """Whether the policy can represent two modes at one state."""

  def make_policy(self, **kwargs):
    """Returns the policy under test: `make` with these arguments."""
    raise NotImplementedError

  def make_policy_of_two_modes(self):
    """Returns a policy, with the steps and learning rate to fit two modes."""
    raise NotImplementedError

  def test_samples_are_valid_actions(self):
    actions = self.make_policy().sample(make_observation(4), 5, SEED)
    self.assertEqual(actions.shape, [4, 5, 2])
    self.assertEqual(actions.dtype, tf.float32)
    self.assertTrue(np.all(np.isfinite(actions)))
    self.assertLessEqual(np.max(np.abs(actions)), 1.0)

  def test_samples_stay_in_bounds_for_large_inputs(self):
    policy = self.make_policy()

    def sample(scale):
      observation = tf.nest.map_structure(
          lambda x: scale * x, make_observation(16)
      )
      return policy.sample(observation, 500, SEED, temperature=10.0)

    # XLA may round differently.
    compiled = tf.function(sample, autograph=False, jit_compile=True)
    for scale in (1.0, 1e3):
      for actions in (f(tf.constant(scale)) for f in (sample, compiled)):
        self.assertTrue(np.all(np.isfinite(actions)))
        self.assertLessEqual(np.max(np.abs(actions)), 1.0)

  def test_actions_are_a_function_of_the_seed(self):
    policy, observation = self.make_policy(), make_observation(4)
    actions = policy.sample(observation, 5, SEED).numpy()
    np.testing.assert_array_equal(
        policy.sample(observation, 5, SEED), actions
    )
    others = policy.sample(observation, 5, OTHER_SEED).numpy()
    # In every row. Single samples may both lie on a bound.
    self.assertGreater(np.abs(others - actions).max(axis=(1, 2)).min(), 0)

  def test_every_row_and_sample_has_its_own_noise(self):
    observation = tf.nest.map_structure(
        lambda x: tf.repeat(x[:1], 4, axis=0), make_observation(1)
    )
    actions = self.make_policy().sample(observation, 5, SEED).numpy()
    self.assertLen({row.tobytes() for row in actions}, 4)
    # Some samples may lie on the same bounds.
    self.assertGreater(len({x.tobytes() for x in actions.reshape([-1, 2])}), 10)

  def test_actions_depend_on_the_observation(self):
    policy = self.make_policy()
    first, second = (
        policy.sample(make_observation(4, seed), 5, SEED) for seed in (0, 1)
    )
    self.assertGreater(np.abs(first - second).max(), 0)

  def test_loss_is_one_finite_number_per_row(self):
    loss = self.make_policy().distillation_loss(
        make_observation(4), make_actions(4), SEED
    )
    self.assertEqual(loss.shape, [4])
    self.assertTrue(np.all(np.isfinite(loss)))

  def test_masked_elements_have_no_loss(self):
    policy = self.make_policy()
    masks = tf.constant([[[1.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    whole, all_, first, none = (
        policy.distillation_loss(
            make_observation(4), make_actions(4), SEED, mask
        )
        for mask in (None, *tf.unstack(masks))
    )
    np.testing.assert_allclose(all_, whole, rtol=1e-6)
    np.testing.assert_allclose(none, np.zeros(4), atol=1e-6)
    self.assertEqual(first.shape, [4])
    self.assertGreater(np.abs(first).min(), 0)
    self.assertGreater(np.abs(first - whole).min(), 0)

  def test_gradients_reach_only_its_own_variables(self):
    policy = self.make_policy()
    own = policy.trainable_variables
    others = [*averaged_variables(policy), *policy.improver_variables]
    self.assertNotEmpty(own)
    with tf.GradientTape() as tape:
      tape.watch([*own, *others])
      loss = policy.distillation_loss(
          make_observation(64), make_actions(64), SEED
      )
    gradients = tape.gradient(loss, [*own, *others])
    for variable, gradient in zip(own, gradients):
      self.assertIsNotNone(gradient, variable.name)
      self.assertTrue(np.any(gradient), variable.name)
    for variable, gradient in zip(others, gradients[len(own):]):
      self.assertIsNone(gradient, variable.name)

  def test_actions_at_the_bounds_have_finite_loss_and_gradients(self):
    policy = self.make_policy()
    actions = tf.constant([[1.0, -1.0], [-1.0, -1.0], [1.0, 1.0], [0.0, 1.0]])
    with tf.GradientTape() as tape:
      loss = policy.distillation_loss(make_observation(4), actions, SEED)
    self.assertTrue(np.all(np.isfinite(loss)))
    for gradient in tape.gradient(loss, policy.trainable_variables):
      self.assertTrue(np.all(np.isfinite(gradient)))

  def test_sampling_and_loss_change_no_state(self):
    policy = self.make_policy()
    before = [v.numpy() for v in policy.variables]
    policy.sample(make_observation(4), 5, SEED)
    policy.distillation_loss(make_observation(4), make_actions(4), SEED)
    for variable, value in zip(policy.variables, before):
      np.testing.assert_array_equal(variable, value)

  def test_same_seed_same_policy(self):
    actions = [
        self.make_policy(seed=seed).sample(make_observation(4), 5, SEED).numpy()
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(actions[0], actions[1])
    self.assertFalse(np.array_equal(actions[0], actions[2]))

  def test_observations_are_normalized(self):
    policy, observation = self.make_policy(), make_observation(4)
    plain = self.make_policy()
    for module in plain.submodules:
      if isinstance(module, observation_encoder.ObservationEncoder):
        mean, deviation = module.variables
        mean.assign(tf.zeros_like(mean))
        deviation.assign(tf.ones_like(deviation))
    normalized = {
        'position': (observation['position'] - 1.0) / 2.0,
        'velocity': observation['velocity'],
    }
    np.testing.assert_allclose(
        policy.sample(observation, 5, SEED),
        plain.sample(normalized, 5, SEED),
        atol=1e-5,
    )

  def test_one_graph_accepts_every_batch_size_and_can_be_saved(self):
    policy = self.make_policy()
    spec = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, *x.shape], x.dtype), OBSERVATION_SPEC
    )

    def run(observation, action, seed):
      return (
          policy.sample(observation, 3, seed),
          policy.distillation_loss(observation, action, seed),
      )

    module = tf.Module()
    # As `export` does: Keras would trace each layer of the policy again.
    module.kept = policy.variables
    module.run = common.function(run).get_concrete_function(
        spec, tf.TensorSpec([None, 2]), tf.TensorSpec([2], tf.int32)
    )
    directory = self.create_tempdir().full_path
    # Without signatures, each of which would be another graph.
    tf.saved_model.save(module, directory, signatures={})
    loaded = tf.saved_model.load(directory)
    for batch_size in (4, 1):
      arguments = make_observation(batch_size), make_actions(batch_size), SEED
      in_graph = module.run(*arguments)
      for seen, expected in zip(in_graph, run(*arguments), strict=True):
        self.assertEqual(seen.shape, expected.shape)
        np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-4)
      for seen, expected in zip(loaded.run(*arguments), in_graph, strict=True):
        np.testing.assert_array_equal(seen, expected)

  def test_parts_of_a_batch_draw_what_the_whole_batch_draws(self):
    policy, observation = self.make_policy(), make_observation(4)
    parts = []
    for i in (0, 2):
      part = {name: x[i : i + 2] for name, x in observation.items()}
      with randomness.part_of_batch(tf.constant(i), 2, 4):
        parts.append(policy.sample(part, 3, SEED))
    np.testing.assert_allclose(
        np.concatenate(parts), policy.sample(observation, 3, SEED), atol=1e-5
    )

  def test_graphs_accept_a_static_batch_size(self):
    policy = self.make_policy()
    sizes = [(1, 1), (1, 3), (3, 1)]

    def sample():
      return [
          policy.sample(make_observation(batch_size), num_samples, SEED)
          for batch_size, num_samples in sizes
      ]

    for seen, expected in zip(common.function(sample)(), sample(), strict=True):
      np.testing.assert_allclose(seen, expected, atol=1e-5)

  def test_averages_start_equal_to_the_weights_and_follow_them(self):
    policy, observation = self.make_policy(), make_observation(4)
    actions = policy.sample(observation, 5, SEED, averaged=True)
    np.testing.assert_array_equal(
        policy.sample(observation, 5, SEED, averaged=False), actions
    )
    before = [v.numpy() for v in averaged_variables(policy)]
    if not before:
      return  # The policy has no average.
    for variable in policy.trainable_variables:
      variable.assign_add(tf.ones_like(variable))
    np.testing.assert_array_equal(
        policy.sample(observation, 5, SEED, averaged=True), actions
    )
    self.assertGreater(
        np.abs(
            policy.sample(observation, 5, SEED, averaged=False) - actions
        ).max(),
        0,
    )
    policy.update_average()
    after = averaged_variables(policy)
    self.assertLen(after, len(policy.trainable_variables))
    gains = [np.unique(v.numpy() - x) for v, x in zip(after, before)]
    gains = np.concatenate(gains)
    # All averages move at one rate, below 1.
    np.testing.assert_allclose(gains, np.full(gains.shape, gains[0]), atol=1e-5)
    self.assertBetween(gains[0], 1e-4, 0.999)

  def test_samples_have_densities_if_has_density_is_set(self):
    policy, observation = self.make_policy(), make_observation(4)
    if not policy.has_density:
      with self.assertRaisesRegex(ValueError, 'has no density'):
        policy.sample_with_log_prob(observation, 5, SEED)
      return
    actions, log_probs = policy.sample_with_log_prob(observation, 5, SEED)
    self.assertEqual(log_probs.shape, [4, 5])
    np.testing.assert_array_equal(
        actions, policy.sample(observation, 5, SEED)
    )

  def test_an_observation_with_another_structure_is_an_error(self):
    with self.assertRaises(ValueError):
      self.make_policy().sample({'position': tf.zeros([4, 2])}, 5, SEED)

  def test_two_modes_are_learned(self):
    if not self.is_multimodal:
      return  # A separate test covers unimodal policies.
    policy, num_steps, learning_rate = self.make_policy_of_two_modes()
    distill(policy, [-0.7, 0.7], num_steps, learning_rate)
    actions = draw(policy, 1000)
    self.assertBetween(np.mean(actions[:, 0] > 0), 0.3, 0.7)
    # A third of the samples of a single Gaussian would lie between the modes.
    self.assertLess(np.mean(np.abs(actions) < 0.35), 0.15)
    np.testing.assert_allclose(np.median(np.abs(actions)), 0.7, atol=0.1)
    # Both dimensions are equal in the data.
    self.assertGreater(np.mean(actions[:, 0] * actions[:, 1] > 0), 0.95)
