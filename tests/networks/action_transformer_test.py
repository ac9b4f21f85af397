"""Tests of the network of the transformer policy."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.networks import action_transformer

_NUM_BINS = 7


def _make(action_size):
  """Makes a network with weights large enough for all tokens to matter."""
  network = action_transformer.ActionTransformer(
      3,
      action_size,
      0,
      num_bins=_NUM_BINS,
      embedding_size=8,
      width=16,
      num_blocks=2,
      num_heads=4,
      dropout_rate=0.5,
  )
  for i, variable in enumerate(network.trainable_variables):
    variable.assign_add(
        tf.random.stateless_normal(variable.shape, [i, 1], stddev=0.3)
    )
  return network


def _make_features(batch_size):
  return tf.random.stateless_normal([batch_size, 3], [0, 2])


def _make_tokens(*shape):
  return tf.random.stateless_uniform(shape, [0, 3], 0, _NUM_BINS, tf.int32)


class ActionTransformerTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 6)
  def test_generate_with_its_cache_gives_the_logits_of_call(self, size):
    network, features = _make(size), _make_features(3)
    given = _make_tokens(3, 4, size)
    seen = []

    def choose(dimension, logits):
      seen.append(tf.broadcast_to(logits, [3, 4, _NUM_BINS]))
      return given[..., int(dimension)]

    np.testing.assert_array_equal(
        network.generate(features, 4, choose), given
    )
    logits = network(
        tf.repeat(features, 4, axis=0), tf.reshape(given, [12, size])[:, :-1]
    )
    np.testing.assert_allclose(
        tf.stack(seen, axis=2),
        tf.reshape(logits, [3, 4, size, _NUM_BINS]),
        rtol=1e-4,
        atol=1e-4,
    )

  def test_greedy_tokens_match_the_logits_of_call(self):
    # Generate the most likely tokens in a graph.
    network, features = _make(5), _make_features(8)
    tokens = tf.function(network.generate, autograph=False)(
        features,
        1,
        lambda _, logits: tf.argmax(logits, -1, output_type=tf.int32),
    )[:, 0]
    logits = network(features, tokens[:, :-1])
    np.testing.assert_array_equal(tf.argmax(logits, axis=-1), tokens)

  def test_samples_share_the_first_logits_of_a_state(self):
    shapes = []

    def choose(dimension, logits):
      del dimension
      shapes.append(tuple(logits.shape))
      return tf.zeros([3, 4], tf.int32)

    _make(3).generate(_make_features(3), 4, choose)
    self.assertEqual(
        shapes, [(3, 1, _NUM_BINS), (3, 4, _NUM_BINS), (3, 4, _NUM_BINS)]
    )

  def test_logits_depend_only_on_previous_tokens(self):
    network, features = _make(5), _make_features(1)
    tokens = _make_tokens(1, 4).numpy()
    logits = network(features, tokens)
    for i in range(4):
      others = tokens.copy()
      others[:, i] = (others[:, i] + 1) % _NUM_BINS
      change = np.abs(network(features, others) - logits).max(axis=(0, 2))
      np.testing.assert_array_equal(change[: i + 1], np.zeros([i + 1]))
      self.assertGreater(change[i + 1 :].min(), 1e-3)

  def test_logits_depend_on_the_order_of_tokens(self):
    network, features = _make(3), _make_features(1)
    first, second = (
        network(features, tf.constant([tokens])) for tokens in ([2, 5], [5, 2])
    )
    self.assertGreater(np.abs(first[:, 2] - second[:, 2]).max(), 1e-3)

  def test_dropout_needs_a_seed(self):
    network, features, tokens = _make(3), _make_features(4), _make_tokens(4, 2)
    plain, first, again, other = (
        network(features, tokens, dropout_seed=seed)
        for seed in (None, [0, 1], [0, 1], [1, 0])
    )
    np.testing.assert_array_equal(first, again)
    self.assertGreater(np.abs(first - plain).max(), 1e-3)
    self.assertGreater(np.abs(first - other).max(), 1e-3)

  def test_tokens_with_the_wrong_length_are_an_error(self):
    with self.assertRaises(ValueError):
      _make(3)(_make_features(2), _make_tokens(2, 3))
