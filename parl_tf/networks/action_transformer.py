"""The network of the transformer policy, autoregressive over action tokens."""

from typing import Callable, Optional

import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.networks import blocks
from parl_tf.networks import causal_block


@gin.configurable(
    denylist=['feature_size', 'action_size', 'seed', 'num_bins']
)
class ActionTransformer(tf.keras.layers.Layer):
  """Predicts each dimension's token from the state and the previous tokens.

  The input at position 0 is the state, and at position i > 0 the token of
  dimension i - 1. The output at position i is the logits of dimension i.
  """

  def __init__(
      self,
      feature_size: int,
      action_size: int,
      seed: int,
      *,
      num_bins: int,
      embedding_size: int = 128,
      width: int = 256,
      num_blocks: int = 4,
      num_heads: int = 8,
      dropout_rate: float = 0.1,
  ):
    """Initializes the layers.

    Args:
      feature_size: Width of the observation features.
      action_size: A, the dimension of an action.
      seed: Integer seed of the initial weights.
      num_bins: Number of different tokens of each dimension.
      embedding_size: Width of the hidden layer that embeds the state.
      width: Width of a token.
      num_blocks: Number of blocks.
      num_heads: Number of attention heads of a block; must divide `width`.
      dropout_rate: Fraction of each residual to drop in training.

    Raises:
      ValueError: If there is no block, or `num_heads` does not divide `width`.
    """
    super().__init__()
    if num_blocks < 1:
      raise ValueError(f'`num_blocks` must be positive, got {num_blocks}.')
    if num_heads < 1 or width % num_heads:
      raise ValueError(
          '`width` must be a multiple of `num_heads`, got '
          f'{width} and {num_heads}.'
      )
    seeds = np.random.SeedSequence(seed).generate_state(5 + 4 * num_blocks)
    seeds = iter(seeds.tolist())
    self._action_size = action_size
    self._num_bins = num_bins
    self._width = width
    self._state_layers = [
        blocks.make_dense(
            embedding_size, feature_size, next(seeds), causal_block.gelu
        ),
        blocks.make_dense(width, embedding_size, next(seeds)),
    ]
    # The token of the last dimension is never an input.
    self._tables = self._add_embedding(
        'tables', [action_size - 1, num_bins, width], next(seeds)
    )
    self._positions = self._add_embedding(
        'positions', [action_size, width], next(seeds)
    )
    self._blocks = [
        causal_block.CausalBlock(width, num_heads, dropout_rate, seeds)
        for _ in range(num_blocks)
    ]
    self._norm = causal_block.make_norm(width)
    self._head = blocks.make_dense(num_bins, width, next(seeds))

  def call(
      self,
      features: tf.Tensor,
      tokens: tf.Tensor,
      dropout_seed: Optional[tf.Tensor] = None,
  ) -> tf.Tensor:
    """Computes the logits of all dimensions of given tokens.

    Args:
      features: `[B, F]` encoded observations.
      tokens: `[B, A - 1]` int32 tokens of all dimensions but the last.
      dropout_seed: `[2]` int32, or None for no dropout.

    Returns:
      `[B, A, num_bins]`.
    """
    tf.debugging.assert_shapes(
        [(features, ('B', 'F')), (tokens, ('B', self._action_size - 1))]
    )
    # A matrix product, unlike a lookup, has a dense gradient.
    embedded = tf.einsum(
        'bik,ikw->biw', tf.one_hot(tokens, self._num_bins), self._tables
    )
    x = tf.concat([self._embed_states(features)[:, tf.newaxis], embedded], 1)
    x = tf.reshape(x + self._positions, [-1, self._width])  # [B A, width]
    for i, block in enumerate(self._blocks):
      seed = None
      if dropout_seed is not None:
        seed = randomness.fold_in(dropout_seed, i)
      x = block(x, self._action_size, seed)
    shape = [-1, self._action_size, self._num_bins]
    return tf.reshape(self._logits(x), shape)

  def generate(
      self,
      features: tf.Tensor,
      num_samples: int,
      choose: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  ) -> tf.Tensor:
    """Generates tokens one dimension at a time, embedding each state once.

    Caches the keys and values of previous tokens, so that it computes every
    position once. The logits equal those of `call`, up to rounding.

    Args:
      features: `[B, F]` encoded observations.
      num_samples: N, the number of actions per state.
      choose: Function of a dimension (int32 `[]`) and its logits, which returns
        tokens `[B, N]` int32. The logits are `[B, 1, num_bins]` for the first
        dimension and `[B, N, num_bins]` for all others.

    Returns:
      `[B, N, A]` int32 tokens.
    """
    tf.debugging.assert_shapes([(features, ('B', 'F'))])
    batch_size = tf.shape(features)[0]
    num_rows = batch_size * num_samples
    logits, caches = self._read_states(features, num_samples)
    tokens = choose(tf.constant(0), logits)
    if self._action_size == 1:
      return tokens[..., tf.newaxis]

    def step(i, tokens, caches):
      x = tf.gather(self._tables[i - 1], tokens[i - 1]) + self._positions[i]
      longer = []
      for block, cache in zip(self._blocks, caches):
        x, cache = block.extend(x, cache, i)
        longer.append(cache)
      shape = [batch_size, num_samples, self._num_bins]
      chosen = choose(i, tf.reshape(self._logits(x), shape))
      chosen = tf.reshape(chosen, [1, num_rows])
      return i + 1, tf.tensor_scatter_nd_update(tokens, [[i]], chosen), longer

    tokens = tf.reshape(tokens, [1, num_rows])
    tokens = tf.pad(tokens, [[0, self._action_size - 1], [0, 0]])  # [A, B N]
    _, tokens, _ = tf.while_loop(
        lambda i, *_: i < self._action_size,
        step,
        (tf.constant(1), tokens, caches),
        # TensorFlow does not infer a static batch size for all loop variables.
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([self._action_size, None]),
            [block.cache_shape(self._action_size) for block in self._blocks],
        ),
        maximum_iterations=self._action_size - 1,
    )
    shape = [batch_size, num_samples, self._action_size]
    return tf.reshape(tf.transpose(tokens), shape)

  def _read_states(self, features, num_samples):
    """Returns logits `[B, 1, num_bins]` of the first dimension, and caches."""
    x = self._embed_states(features) + self._positions[0]  # [B, width]
    caches = []
    for block in self._blocks:
      x, cache = block.begin(x, num_samples, self._action_size)
      caches.append(cache)
    return self._logits(x)[:, tf.newaxis], caches

  def _embed_states(self, features):
    for layer in self._state_layers:
      features = layer(features)
    return features

  def _logits(self, x):
    return self._head(self._norm(x))

  def _add_embedding(self, name, shape, seed):
    initializer = tf.keras.initializers.RandomNormal(stddev=0.02, seed=seed)
    return self.add_weight(name=name, shape=shape, initializer=initializer)
