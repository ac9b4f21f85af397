"""The network of the transformer policy, autoregressive over action tokens."""

from typing import Callable, Iterator, NamedTuple, Optional

import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.networks import blocks


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
            embedding_size, feature_size, next(seeds), _gelu
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
        _Block(width, num_heads, dropout_rate, seeds) for _ in range(num_blocks)
    ]
    self._norm = _make_norm(width)
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


class _Cache(NamedTuple):
  """Keys and values of the previous tokens, `[R, heads, A, d]` each."""

  keys: tf.Tensor
  values: tf.Tensor


class _Block(tf.keras.layers.Layer):
  """A pre-norm block of causal self-attention and two dense layers.

  R rows of T tokens have the shape `[R T, width]`, and `[R, heads, T, d]` when
  split into heads, with d = width / heads.
  """

  def __init__(
      self,
      width: int,
      num_heads: int,
      dropout_rate: float,
      seeds: Iterator[int],
  ):
    super().__init__()
    self._num_heads = num_heads
    self._head_size = width // num_heads
    self._attention_norm = _make_norm(width)
    self._input = blocks.make_dense(3 * width, width, next(seeds))
    self._output = blocks.make_dense(width, width, next(seeds))
    self._norm = _make_norm(width)
    self._widen = blocks.make_dense(4 * width, width, next(seeds), _gelu)
    self._narrow = blocks.make_dense(width, 4 * width, next(seeds))
    self._dropout = blocks.StatelessDropout(dropout_rate)

  def call(self, x, length, dropout_seed=None):
    """Applies the block to all `length` tokens of each row."""
    query, key, value = self._project(x, length)
    is_past = np.tril(np.ones([length, length], bool))
    return self._advance(x, _attend(query, key, value, is_past), dropout_seed)

  def begin(self, x, num_samples, length):
    """Applies the block to the first tokens `[B, width]`, and caches them.

    The cache has `num_samples` rows for each token.
    """
    _, key, value = self._project(x, 1)

    def keep(y):
      y = tf.repeat(y, num_samples, axis=0)  # [B, ...] -> [B N, ...]
      return tf.pad(y, [[0, 0], [0, 0], [0, length - 1], [0, 0]])

    # The first token attends only to itself.
    return self._advance(x, value), _Cache(keep(key), keep(value))

  def extend(self, x, cache, position):
    """Applies the block to tokens `[R, width]` at `position`; caches them."""
    query, *new = self._project(x, 1)
    positions = tf.range(cache.keys.shape[2])
    is_here = (positions == position)[:, tf.newaxis]
    cache = _Cache(*(tf.where(is_here, y, old) for y, old in zip(new, cache)))
    attended = _attend(query, *cache, positions <= position)
    return self._advance(x, attended), cache

  def cache_shape(self, length):
    """Returns the cache's shapes for `length` tokens and any number of rows."""
    shape = tf.TensorShape([None, self._num_heads, length, self._head_size])
    return _Cache(shape, shape)

  def _project(self, x, length):
    """Computes queries, keys and values `[R, heads, T, d]`."""
    shape = [-1, length, 3 * self._num_heads, self._head_size]
    heads = tf.reshape(self._input(self._attention_norm(x)), shape)
    return tf.split(tf.transpose(heads, [0, 2, 1, 3]), 3, axis=1)

  def _advance(self, x, attended, dropout_seed=None):
    """Adds the residuals of the attention and of the dense layers."""
    seeds = (None, None)
    if dropout_seed is not None:
      seeds = [randomness.fold_in(dropout_seed, i) for i in range(2)]
    attended = tf.transpose(attended, [0, 2, 1, 3])  # [R, T, heads, d]
    attended = self._output(tf.reshape(attended, tf.shape(x)))
    x += self._dropout(attended, seed=seeds[0])
    return x + self._dropout(
        self._narrow(self._widen(self._norm(x))), seed=seeds[1]
    )


def _attend(query, key, value, is_past):
  """Computes softmax(q k / sqrt(d)) v over the keys where `is_past`.

  Implements Vaswani et al. (2017), arXiv:1706.03762, equation (1).
  """
  scale = query.shape[-1] ** -0.5
  scores = tf.matmul(scale * query, key, transpose_b=True)
  weights = tf.nn.softmax(tf.where(is_past, scores, -np.inf))
  return tf.matmul(weights, value)


def _gelu(x):
  """Computes GELU in its tanh form, which TensorFlow fuses with a product."""
  return tf.nn.gelu(x, approximate=True)


def _make_norm(width):
  norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
  norm.build([None, width])
  return norm
