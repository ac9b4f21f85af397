"""Tests of the transformer policy and its tokens."""

import functools

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.utils import common

from parl_tf.networks import action_transformer
from parl_tf.policies import transformer
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED
_MODES = parameterized.named_parameters(
    ('eagerly', lambda fn: fn), ('in_a_graph', common.function)
)


def _make(network=None, action_size=2, seed=0, **kwargs):
  sizes = dict(embedding_size=16, width=16, num_blocks=1, num_heads=2)
  network_ctor = functools.partial(
      action_transformer.ActionTransformer, **{**sizes, **(network or {})}
  )
  return transformer.TransformerPolicy(
      policy_conformance.SPEC._replace(
          action=tensor_spec.BoundedTensorSpec(
              [action_size], tf.float32, -1.0, 1.0
          ),
          seed=seed,
      ),
      network_ctor=network_ctor,
      **kwargs,
  )


def _make_constant(logits, **kwargs):
  """Returns a policy with constant logits for every dimension and state."""
  policy = _make(num_bins=len(logits), averaging_rate=None, **kwargs)
  for variable in policy.trainable_variables:
    variable.assign(tf.zeros_like(variable))
  bias = policy.trainable_variables[-1]
  bias.assign(logits)
  return policy


class TransformerConformanceTest(policy_conformance.PolicyConformance):

  def make_policy(self, **kwargs):
    return _make(**kwargs)

  def make_policy_of_two_modes(self):
    policy = _make(dict(width=32, dropout_rate=0.0), averaging_rate=0.05)
    return policy, 60, 1e-2


class ActionTokenizerTest(parameterized.TestCase):

  @_MODES
  def test_the_nearest_of_128_bins_by_hand(self, mode):
    # Bins are 2 / 127 apart. 0 lies halfway between bins 63 and 64, at
    # +-1 / 127, and goes to the lower one. 0.01 * 63.5 = 0.635 is nearest to
    # 0.5, bin 64. 0.9 * 63.5 = 57.15 is nearest to 57.5, bin 121.
    tokens = mode(transformer.ActionTokenizer().encode)(
        tf.constant([-1.0, 0.0, 0.01, 0.9, 1.0, 1.5, -7.0, np.inf])
    )
    self.assertEqual(tokens.dtype, tf.int32)
    np.testing.assert_array_equal(
        tokens, [0, 63, 64, 121, 127, 127, 0, 127]
    )

  @_MODES
  def test_ties_go_to_the_lower_bin(self, mode):
    # Bins at 0, 1, 2, 3, 4.
    tokenizer = transformer.ActionTokenizer(5, 0.0, 4.0)
    np.testing.assert_array_equal(
        mode(tokenizer.encode)(
            tf.constant([[0.5, 0.6, 1.4], [1.5, 2.5, 3.5]])
        ),
        [[0, 1, 1], [1, 2, 3]],
    )

  @_MODES
  def test_values_of_bins_by_hand(self, mode):
    values = mode(transformer.ActionTokenizer().decode)(
        tf.constant([0, 63, 64, 127])
    )
    self.assertEqual(values.dtype, tf.float32)
    np.testing.assert_allclose(
        values, [-1.0, -0.00787402, 0.00787402, 1.0], rtol=1e-6
    )

  @parameterized.parameters((2, -1.0, 1.0), (128, -1.0, 1.0), (255, 0.1, 0.7))
  def test_encode_inverts_decode(self, num_bins, low, high):
    tokenizer = transformer.ActionTokenizer(num_bins, low, high)
    tokens = tf.range(num_bins)
    np.testing.assert_array_equal(
        tokenizer.encode(tokenizer.decode(tokens)), tokens
    )

  @parameterized.parameters(
      ((1,), '`num_bins`.*1'), ((8, 1.0, 1.0), '`low`.*1.0 and 1.0')
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      transformer.ActionTokenizer(*arguments)


class TransformerTest(parameterized.TestCase):

  def test_distillation_by_hand(self):
    # The bins -1 and 1 always have probabilities 1 / 4 and 3 / 4. Their losses
    # are -log(1 / 4) = 1.386294 and -log(3 / 4) = 0.287682. The rows have one
    # of each, twice the first, and twice the second.
    policy = _make_constant([0.0, np.log(3.0)])
    np.testing.assert_allclose(
        policy.distillation_loss(
            policy_conformance.make_observation(3),
            tf.constant([[-1.0, 0.4], [-0.9, -0.1], [1.0, 1.0]]),
            _SEED,
        ),
        [1.673976, 2.772589, 0.575364],
        rtol=1e-6,
    )

  @parameterized.parameters((1.0, 0.75), (0.5, 0.9), (2.0, 0.6340), (0.0, 1.0))
  def test_samples_have_their_probabilities(self, temperature, share):
    # 3^(1 / T) / (1 + 3^(1 / T)) = 3 / 4, 9 / 10, 1.732051 / 2.732051; T = 0
    # gives the mode. The standard error with 8,000 draws is 0.005.
    policy = _make_constant([0.0, np.log(3.0)])
    actions = policy.sample(
        policy_conformance.make_observation(2),
        2000,
        _SEED,
        temperature=temperature,
    )
    np.testing.assert_array_equal(np.abs(actions), np.ones([2, 2000, 2]))
    self.assertAlmostEqual(np.mean(actions > 0), share, delta=0.02)

  def test_dimensions_have_their_own_noise(self):
    # The dimensions are independent signs. The standard error of the mean of a
    # product is 0.016 with 4,000 draws.
    policy = _make_constant([0.0, 0.0], action_size=3)
    actions = policy.sample(
        policy_conformance.make_observation(2), 2000, _SEED
    ).numpy().reshape([-1, 3])
    np.testing.assert_allclose(
        actions.T @ actions / 4000, np.eye(3), atol=0.08
    )

  def test_samples_are_bins(self):
    actions = _make(num_bins=5).sample(
        policy_conformance.make_observation(4), 50, _SEED
    )
    np.testing.assert_array_equal(
        np.unique(actions), [-1.0, -0.5, 0.0, 0.5, 1.0]
    )

  def test_temperature_0_takes_the_most_likely_bins(self):
    policy, observation = _make(), policy_conformance.make_observation(4)
    actions = policy.sample(observation, 5, _SEED, temperature=0.0)
    np.testing.assert_array_equal(
        actions, np.repeat(actions[:, :1], 5, axis=1)
    )
    np.testing.assert_array_equal(
        policy.sample(
            observation, 5, policy_conformance.OTHER_SEED, temperature=0.0
        ),
        actions,
    )

  def test_dropout_is_on_in_training_and_off_in_sampling(self):
    observation = policy_conformance.make_observation(4)
    actions = policy_conformance.make_actions(4)
    losses, samples = [], []
    for rate in (0.0, 0.5):
      policy = _make(dict(dropout_rate=rate))
      for seed in (_SEED, policy_conformance.OTHER_SEED):
        losses.append(policy.distillation_loss(observation, actions, seed))
      samples.append(policy.sample(observation, 5, _SEED))
    np.testing.assert_array_equal(losses[0], losses[1])
    self.assertGreater(np.abs(losses[2] - losses[0]).min(), 1e-4)
    self.assertGreater(np.abs(losses[2] - losses[3]).min(), 1e-4)
    np.testing.assert_array_equal(samples[0], samples[1])

  @parameterized.parameters(1, 3, 20)
  def test_compiled_samples_equal_eager_ones(self, action_size):
    policy = _make(action_size=action_size)
    observation = policy_conformance.make_observation(4)
    compiled = common.function(policy.sample, jit_compile=True)
    actions = compiled(observation, 5, _SEED)
    self.assertEqual(actions.shape, [4, 5, action_size])
    np.testing.assert_array_equal(
        actions, policy.sample(observation, 5, _SEED)
    )

  def test_actions_of_one_dimension_can_be_trained(self):
    policy = _make(action_size=1)
    optimizer = tf.keras.optimizers.Adam(1e-2)
    variables = policy.trainable_variables
    losses = []
    for _ in range(5):
      with tf.GradientTape() as tape:
        loss = policy.distillation_loss(
            policy_conformance.make_observation(4), tf.zeros([4, 1]), _SEED
        )
      losses.append(tf.reduce_mean(loss))
      optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    self.assertLess(losses[-1], 0.9 * losses[0])

  @parameterized.parameters(
      (dict(averaging_rate=0.0), '`averaging_rate`.*0.0'),
      (dict(network=dict(dropout_rate=1.0)), '`rate`.*1.0'),
      (dict(num_bins=1), '`num_bins`.*1'),
      (dict(network=dict(num_blocks=0)), '`num_blocks`.*0'),
      (dict(network=dict(width=20, num_heads=8)), '`width`.*20 and 8'),
      (dict(network=dict(num_heads=0)), '`num_heads`.*0'),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _make(**arguments)
