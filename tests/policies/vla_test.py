"""Tests of the vision-language-action policy and of its adapters."""

import functools
import os

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from parl_tf import types
from parl_tf.agents import parl_policy
from parl_tf.critics import iql
from parl_tf.networks import vision_language_transformer
from parl_tf.policies import vla
from parl_tf.search import acting_search
from parl_tf.search import action_source
from parl_tf.training import export
from tests import eager
from tests import tensor_case
from tests.agents import small_agent
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED
_NUM_BINS = 7
_OBSERVATION_SPEC = {
    'instruction': tf.TensorSpec([3], tf.float32, 'instruction'),
    'picture': tf.TensorSpec([8, 8, 6], tf.uint8, 'picture'),
    'robot': tf.TensorSpec([2], tf.float32, 'robot'),
    'wrist': tf.TensorSpec([4, 8, 3], tf.uint8, 'wrist'),
}
_PREFIX_LENGTH = 3 + 4 + 1 + 2
_NETWORK = functools.partial(
    vision_language_transformer.VisionLanguageTransformer,
    patch_size=4,
    width=16,
    num_blocks=2,
    num_heads=4,
    vocabulary_size=10,
)


def _make_spec(action_size=3, **kwargs):
  return types.ModelSpec(
      _OBSERVATION_SPEC,
      tf.TensorSpec([action_size], tf.float32, 'action'),
      **kwargs,
  )


def _make_network(action_size=3):
  """Makes a network with weights large enough for all tokens to matter."""
  network = _NETWORK(_make_spec(action_size), num_bins=_NUM_BINS)
  for i, variable in enumerate(network.trainable_variables):
    variable.assign_add(
        tf.random.stateless_normal(variable.shape, [i, 1], stddev=0.2)
    )
  return network


def _make_observation(batch_size, seed=0):
  random = np.random.default_rng(seed)
  return {
      'instruction': tf.constant(
          random.integers(0, 10, [batch_size, 3]), tf.float32
      ),
      'picture': tf.constant(
          random.integers(0, 256, [batch_size, 8, 8, 6]), tf.uint8
      ),
      'robot': tf.constant(random.normal(size=[batch_size, 2]), tf.float32),
      'wrist': tf.constant(
          random.integers(0, 256, [batch_size, 4, 8, 3]), tf.uint8
      ),
  }


def _make_tuned(spec=None, rank=2, alpha=4.0):
  """Makes a policy whose adapters are not zero."""
  policy = vla.LowRankPolicy(
      spec or _make_spec(),
      base_ctor=functools.partial(vla.VLAPolicy, network_ctor=_NETWORK),
      rank=rank,
      alpha=alpha,
  )
  for i, adapter in enumerate(policy.adapters.adapters):
    adapter.up.assign(
        tf.random.stateless_normal(adapter.up.shape, [i, 5], stddev=0.3)
    )
  return policy


class RangeTokenizerTest(parameterized.TestCase):

  def test_bins_differ_by_dimension(self):
    tokenizer = vla.RangeTokenizer(
        3, np.float32([-1.0, 0.0]), np.float32([1.0, 0.5])
    )
    # The bins are -1, 0, 1 and 0, 0.25, 0.5; the last row is out of range.
    actions = [[-0.6, 0.1], [0.4, 0.2], [0.6, 0.4], [-9.0, 9.0]]
    tokens = tokenizer.encode(tf.constant(actions))
    np.testing.assert_array_equal(tokens, [[0, 0], [1, 1], [2, 2], [0, 2]])
    np.testing.assert_allclose(
        tokenizer.decode(tokens), [[-1, 0], [0, 0.25], [1, 0.5], [-1, 0.5]]
    )

  @parameterized.parameters((2, -1.0, 1.0), (128, -1.0, 1.0), (255, -0.3, 0.7))
  def test_encode_inverts_decode(self, num_bins, low, high):
    tokenizer = vla.RangeTokenizer(
        num_bins, np.float32([low]), np.float32([high])
    )
    tokens = np.arange(num_bins)[:, np.newaxis]
    actions = tokenizer.decode(tf.constant(tokens)).numpy()
    np.testing.assert_array_equal(tokenizer.encode(actions), tokens)
    self.assertEqual(tuple(actions[[0, -1], 0]), tuple(np.float32([low, high])))

  @parameterized.parameters(
      (1, -1.0, 1.0, '`num_bins`.*1'), (8, 1.0, 1.0, r'`low`.*1.* and .*1')
  )
  def test_bad_arguments_are_an_error(self, num_bins, low, high, message):
    with self.assertRaisesRegex(ValueError, message):
      vla.RangeTokenizer(num_bins, np.float32([low]), np.float32([high]))


class RangeTest(tensor_case.TensorCase):

  def _samples(self, normalization, **kwargs):
    policy = self._make(normalization, **kwargs)
    observation = _make_observation(2)
    return policy.sample(observation, 64, _SEED).numpy().reshape([-1, 2, 3])

  def _make(self, normalization, **kwargs):
    spec = _make_spec(normalization=normalization, chunk_length=2)
    return vla.VLAPolicy(
        spec, num_bins=_NUM_BINS, network_ctor=_NETWORK, **kwargs
    )

  def _normalization(self):
    low, high = np.float32([-1, -0.5, 0]), np.float32([1, 0.25, 0.75])
    statistics = {'robot': np.zeros([2]), 'instruction': np.zeros([3])}
    deviations = {'robot': np.ones([2]), 'instruction': np.ones([3])}
    cameras = dict.fromkeys(('picture', 'wrist'))
    return types.Normalization(
        {**statistics, **cameras}, {**deviations, **cameras}, (low, high)
    )

  def test_bins_span_the_data_at_each_step_of_a_chunk(self):
    samples = self._samples(self._normalization())
    for step in range(2):
      self.assertAllClose(samples[:, step].min(axis=0), [-1, -0.5, 0])
      self.assertAllClose(samples[:, step].max(axis=0), [1, 0.25, 0.75])

  def test_bound_ends_and_unknown_data(self):
    bound = self._samples(self._normalization(), low=-0.25, high=0.5)
    self.assertAllClose([bound.min(), bound.max()], [-0.25, 0.5])
    unknown = self._samples(None)
    self.assertAllClose([unknown.min(), unknown.max()], [-1, 1])

  def test_ends_can_be_bound_in_some_dimensions(self):
    samples = self._samples(
        self._normalization(), low=(None, -1.0, None), high=[None, 1.0, 0.5]
    )
    self.assertAllClose(samples[:, 1].min(axis=0), [-1, -1, 0])
    self.assertAllClose(samples[:, 1].max(axis=0), [1, 1, 0.5])
    with self.assertRaisesRegex(ValueError, r'`low` must be in .-1, 1.*-2'):
      self._make(None, low=(None, -2.0, None))
    with self.assertRaisesRegex(ValueError, r'`high` must .* 3 action .*0.5'):
      self._make(None, high=(0.5, 1.0))

  def test_a_checkpoint_has_the_bins(self):
    path = os.path.join(self.create_tempdir().full_path, 'policy')
    path = tf.train.Checkpoint(
        policy=self._make(self._normalization())
    ).write(path)
    restored = self._make(None)
    tf.train.Checkpoint(policy=restored).read(path).assert_consumed()
    samples = restored.sample(_make_observation(2), 64, _SEED).numpy()
    self.assertAllClose(samples.reshape([-1, 3]).max(axis=0), [1, 0.25, 0.75])


class VLAConformanceTest(policy_conformance.PolicyConformance):

  def make_policy(self, seed=0):
    return policy_conformance.make(
        vla.VLAPolicy,
        seed,
        num_bins=32,
        network_ctor=functools.partial(_NETWORK, num_blocks=1),
    )

  def make_policy_of_two_modes(self):
    return self.make_policy(), 60, 1e-2


class NetworkTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 4)
  def test_samples_that_share_a_prefix_get_the_logits_of_call(self, size):
    network, observation = _make_network(size), _make_observation(3)
    self.assertEqual(network.prefix_length, _PREFIX_LENGTH)
    given = tf.random.stateless_uniform(
        [3, 5, size], [0, 3], 0, _NUM_BINS, tf.int32
    )
    seen = []

    def choose(dimension, logits):
      seen.append(tf.broadcast_to(logits, [3, 5, _NUM_BINS]))
      return given[..., dimension]

    np.testing.assert_array_equal(
        network.generate(observation, 5, choose), given
    )
    # Without sharing: each sample reads its own copy of the observation.
    repeated = tf.nest.map_structure(
        lambda x: tf.repeat(x, 5, axis=0), observation
    )
    logits = network(repeated, tf.reshape(given, [15, size])[:, :-1])
    np.testing.assert_allclose(
        tf.stack(seen, axis=2),
        tf.reshape(logits, [3, 5, size, _NUM_BINS]),
        atol=1e-4,
    )

  def test_the_number_of_samples_does_not_change_what_is_read(self):
    network, observation = _make_network(), _make_observation(3)

    def count(num_samples):
      generate = tf.function(
          lambda: network.generate(
              observation,
              num_samples,
              lambda i, x: tf.zeros([3, num_samples], tf.int32),
          ),
          autograph=False,
      )
      graph = generate.get_concrete_function().graph
      operations = [x.type for x in graph.get_operations()]
      attended = [
          x.outputs[0].shape.as_list()
          for x in graph.get_operations()
          if x.type == 'Softmax'
      ]
      # Attention of the prefix to itself, `[3, heads, T, P]`.
      return operations.count('Conv2D'), [
          attended.count([3, 4, num_outputs, _PREFIX_LENGTH])
          for num_outputs in (_PREFIX_LENGTH, 1)
      ]

    # One convolution per camera, and one attention per block, of which the last
    # computes only the last token.
    self.assertEqual(count(1), (2, [1, 1]))
    self.assertEqual(count(8), (2, [1, 1]))

  @parameterized.parameters(*_OBSERVATION_SPEC)
  def test_each_part_of_the_observation_matters(self, name):
    network = _make_network()
    tokens = tf.zeros([2, 2], tf.int32)
    first, second = _make_observation(2), _make_observation(2, seed=1)
    changed = {**first, name: second[name]}
    self.assertGreater(
        np.abs(network(first, tokens) - network(changed, tokens)).max(), 1e-3
    )

  @parameterized.parameters((10.0, '10'), (-1.0, '-1'), (0.5, '0.5'))
  def test_an_unknown_word_is_an_error(self, word, seen):
    network, tokens = _make_network(), tf.zeros([2, 2], tf.int32)
    for known in 9.0, np.nan:  # An exported policy acts on no NaN.
      words = tf.constant([[0.0, 1.0, 2.0], [3.0, 4.0, known]])
      network(dict(_make_observation(2), instruction=words), tokens)
    words = tf.constant([[0.0, 1.0, 2.0], [3.0, word, 4.0]])
    with self.assertRaises(tf.errors.InvalidArgumentError) as raised:
      network(dict(_make_observation(2), instruction=words), tokens)
    for text in '`instruction` must have tokens', '[0, 9]', seen:
      self.assertIn(text, str(raised.exception))

  def test_unfit_observations_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`patch_size`.*picture.*3 and 8'):
      _NETWORK(_make_spec(), num_bins=4, patch_size=3)
    with self.assertRaisesRegex(ValueError, '`instruction_key`.*2 frames'):
      _NETWORK(_make_spec(num_frames=2), num_bins=4, instruction_key='robot')


class AdapterTest(tensor_case.TensorCase):

  def test_a_new_adapter_changes_nothing(self):
    spec = _make_spec(seed=3)
    make = functools.partial(vla.VLAPolicy, network_ctor=_NETWORK)
    observation = _make_observation(2)
    self.assertAllEqual(
        vla.LowRankPolicy(spec, base_ctor=make).sample(observation, 4, _SEED),
        make(spec).sample(observation, 4, _SEED),
    )

  def test_every_linear_layer_has_an_adapter(self):
    policy = _make_tuned(rank=2)
    # Two blocks of four layers, proprioception and the head.
    shapes = [(16, 48), (16, 16), (16, 64), (64, 16)] * 2
    shapes += [(2, 16), (16, 256)]
    self.assertCountEqual(
        [(x.down.shape[0], x.up.shape[1]) for x in policy.adapters.adapters],
        shapes,
    )
    self.assertEqual(
        policy.adapters.num_bytes, 4 * 2 * sum(sum(x) for x in shapes)
    )

  def test_fine_tuning_leaves_every_byte_of_the_base(self):
    policy = _make_tuned()
    before = [v.numpy().tobytes() for v in policy.base.variables]
    adapters = [v.numpy() for v in policy.trainable_variables]
    observation = _make_observation(4)
    action = tf.random.stateless_uniform([4, 3], [0, 1], -1.0, 1.0)
    losses = []
    for _ in range(3):
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            policy.distillation_loss(observation, action, _SEED)
        )
      gradients = tape.gradient(loss, policy.trainable_variables)
      for variable, gradient in zip(policy.trainable_variables, gradients):
        variable.assign_sub(0.02 * gradient)
      losses.append(float(loss))
    self.assertLess(losses[-1], losses[0])
    for variable, value in zip(policy.base.variables, before, strict=True):
      self.assertTrue(variable.numpy().tobytes() == value, variable.name)
    for variable, value in zip(policy.trainable_variables, adapters):
      self.assertNotAllEqual(variable, value)

  def test_cloning_trains_the_base_and_distillation_the_adapters(self):
    eager.run_eagerly(self)
    agent = small_agent.make_agent(
        iql.IQLCritic,
        policy_ctor=functools.partial(
            vla.LowRankPolicy,
            base_ctor=functools.partial(vla.VLAPolicy, network_ctor=_NETWORK),
            rank=2,
        ),
    )
    policy = agent.generative_policy
    groups = policy.base.trainable_variables, policy.trainable_variables
    rows = small_agent.make_rows()
    for experience, changed in (
        (types.Experience(cloning=rows), (True, False)),
        (types.Experience(policy=rows), (False, True)),
    ):
      before = [[v.numpy() for v in group] for group in groups]
      agent.train(experience)
      for group, values, wanted in zip(groups, before, changed):
        seen = any(
            not np.array_equal(v, x) for v, x in zip(group, values)
        )
        self.assertEqual(seen, wanted)

  def test_adapters_are_saved_alone(self):
    policy, other = _make_tuned(), _make_tuned()
    path = os.path.join(self.create_tempdir().full_path, 'adapters.npz')
    policy.adapters.save(path)
    for variable in other.trainable_variables:
      variable.assign(tf.zeros_like(variable))
    other.adapters.load(path)
    observation = _make_observation(2)
    self.assertAllEqual(
        other.sample(observation, 3, _SEED),
        policy.sample(observation, 3, _SEED),
    )
    with self.assertRaisesRegex(ValueError, 'adapters.npz.*shapes'):
      _make_tuned(rank=3).adapters.load(path)

  def test_the_exported_policy_has_merged_adapters(self):
    tuned = _make_tuned()
    policy = parl_policy.PARLPolicy(
        ts.time_step_spec(_OBSERVATION_SPEC),
        _make_spec().action,
        acting_search.ActingSearch(
            action_source.Search(), tuned, None, _OBSERVATION_SPEC
        ),
    )
    observation = _make_observation(256)
    bounds = np.full([3], -1.0), np.full([3], 1.0)
    path = os.path.join(self.create_tempdir().full_path, 'policy')
    export.export_policies(
        {path: policy}, bounds, observation, in_new_process=False
    )
    loaded = tf.saved_model.load(path)
    act = loaded.signatures['serving_default']
    self.assertAllClose(
        act(seed=_SEED, **observation)['action'],
        policy.act(observation, _SEED),
        atol=1e-5,
    )
    # The kernels of the base, and nothing of the adapters.
    self.assertLen(tuned.deployed().variables, len(tuned.base.variables))
    self.assertAllClose(
        policy.deployed().act(observation, _SEED),
        policy.act(observation, _SEED),
        atol=1e-5,
    )


if __name__ == '__main__':
  tf.test.main()
