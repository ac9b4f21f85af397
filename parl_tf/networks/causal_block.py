"""A block of a causal transformer, and its cache of keys and values."""

from typing import Callable, Iterator, NamedTuple

import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.networks import blocks


class Cache(NamedTuple):
  """Keys and values of the previous tokens, `[R, heads, A, d]` each."""

  keys: tf.Tensor
  values: tf.Tensor


class CausalBlock(tf.keras.layers.Layer):
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
      make_dense: Callable[..., tf.keras.layers.Dense] = blocks.make_dense,
  ):
    """Initializes the layers.

    Args:
      width: Width of a token.
      num_heads: Number of attention heads, which divides `width`.
      dropout_rate: Fraction of each residual to drop in training.
      seeds: Seeds of the initial weights; four are taken.
      make_dense: Makes the dense layers, as `blocks.make_dense` does.
    """
    super().__init__()
    self._num_heads = num_heads
    self._head_size = width // num_heads
    self._attention_norm = make_norm(width)
    self._input = make_dense(3 * width, width, next(seeds))
    self._output = make_dense(width, width, next(seeds))
    self._norm = make_norm(width)
    self._widen = make_dense(4 * width, width, next(seeds), gelu)
    self._narrow = make_dense(width, 4 * width, next(seeds))
    self._dropout = blocks.StatelessDropout(dropout_rate)

  def call(self, x, length, dropout_seed=None):
    """Applies the block to all `length` tokens of each row."""
    return self.read(x, length, dropout_seed)[0]

  def begin(self, x, num_samples, length):
    """Applies the block to the first tokens `[B, width]`, and caches them.

    The cache has `num_samples` rows for each token.
    """
    _, key, value = self._project(x, 1)

    def keep(y):
      y = tf.repeat(y, num_samples, axis=0)  # [B, ...] -> [B N, ...]
      return tf.pad(y, [[0, 0], [0, 0], [0, length - 1], [0, 0]])

    # The first token attends only to itself.
    return self._advance(x, value), Cache(keep(key), keep(value))

  def extend(self, x, cache, position):
    """Applies the block to tokens `[R, width]` at `position`; caches them."""
    query, *new = self._project(x, 1)
    positions = tf.range(cache.keys.shape[2])
    is_here = (positions == position)[:, tf.newaxis]
    cache = Cache(*(tf.where(is_here, y, old) for y, old in zip(new, cache)))
    attended = _attend(query, cache.keys, cache.values, positions <= position)
    return self._advance(x, attended), cache

  def read(self, x, length, dropout_seed=None, num_outputs=None):
    """Applies the block like `call`; also returns the keys and values.

    Args:
      x: `[R T, width]`, all T = `length` tokens of each row.
      length: T.
      dropout_seed: `[2]` int32, or None for no dropout.
      num_outputs: Number of tokens at the end of each row to compute, as the
        last block of a network need not compute the others; None for all.

    Returns:
      The tokens `[R num_outputs, width]` after the block, and a `Cache` `[R,
      heads, T, d]` of all tokens.
    """
    query, key, value = self._project(x, length)
    is_past = np.tril(np.ones([length, length], bool))
    if num_outputs is not None:
      query = query[:, :, -num_outputs:]
      is_past = is_past[-num_outputs:]
      width = x.shape[-1]
      x = tf.reshape(x, [-1, length, width])[:, -num_outputs:]
      x = tf.reshape(x, [-1, width])
    attended = _attend(query, key, value, is_past)
    return self._advance(x, attended, dropout_seed), Cache(key, value)

  def extend_prefix(self, x, prefix, previous=None):
    """Applies the block to the next token of N continuations of a prefix.

    The continuations of a row share the keys and values of their prefix, which
    are not copied.

    Args:
      x: `[R N, width]`, one token of each continuation.
      prefix: `Cache` `[R, heads, P, d]`, the result of `read`.
      previous: `Cache` `[R N, heads, T, d]` of the T previous tokens of each
        continuation; None for the first.

    Returns:
      The tokens `[R N, width]` after the block, and the `Cache` `[R N, heads,
      T + 1, d]`.
    """
    query, *new = self._project(x, 1)
    if previous is not None:
      new = [tf.concat([y, z], axis=2) for y, z in zip(previous, new)]
    cache = Cache(*new)
    num_rows, length = tf.shape(prefix.keys)[0], cache.keys.shape[2]
    shape = [num_rows, -1, self._num_heads, self._head_size]
    query *= self._head_size**-0.5
    own = tf.matmul(query, cache.keys, transpose_b=True)  # [R N, heads, 1, T]
    own = tf.reshape(own, [num_rows, -1, self._num_heads, length])
    grouped = tf.transpose(tf.reshape(query, shape), [0, 2, 1, 3])
    shared = tf.matmul(grouped, prefix.keys, transpose_b=True)
    weights = tf.nn.softmax(
        tf.concat([shared, tf.transpose(own, [0, 2, 1, 3])], axis=-1)
    )  # [R, heads, N, P + T]
    own = tf.transpose(weights[..., -length:], [0, 2, 1, 3])
    own = tf.reshape(own, [-1, self._num_heads, 1, length])
    attended = tf.matmul(weights[..., :-length], prefix.values)
    attended = tf.reshape(
        tf.transpose(attended, [0, 2, 1, 3]),
        [-1, self._num_heads, 1, self._head_size],
    )
    attended += tf.matmul(own, cache.values)
    return self._advance(x, attended), cache

  def cache_shape(self, length):
    """Returns the cache's shapes for `length` tokens and any number of rows."""
    shape = tf.TensorShape([None, self._num_heads, length, self._head_size])
    return Cache(shape, shape)

  def _project(self, x, length):
    """Computes queries, keys and values `[R, heads, T, d]`."""
    shape = [-1, length, 3 * self._num_heads, self._head_size]
    heads = tf.reshape(self._input(self._attention_norm(x)), shape)
    return tf.split(tf.transpose(heads, [0, 2, 1, 3]), 3, axis=1)

  def _advance(self, x, attended, dropout_seed=None):
    """Adds the residuals of the attention and of the dense layers."""
    seeds = [None, None]
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


def gelu(x: tf.Tensor) -> tf.Tensor:
  """Computes GELU in its tanh form, which TensorFlow fuses with a product."""
  return tf.nn.gelu(x, approximate=True)


def make_norm(width: int) -> tf.keras.layers.Layer:
  """Returns LayerNorm for tokens of a width."""
  norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
  norm.build([None, width])
  return norm
