"""Keras layers that several policies share."""

import math
import numbers
from typing import Any, Optional

import tensorflow as tf

from parl_tf import randomness


class StatelessDropout(tf.keras.layers.Layer):
  """Dropout whose mask is a function of a seed; disabled without a seed."""

  def __init__(self, rate: float):
    super().__init__()
    if not 0.0 <= rate < 1.0:
      raise ValueError(f'`rate` must be in [0, 1), got {rate}.')
    self._rate = rate

  def call(self, x: tf.Tensor, seed: Optional[tf.Tensor] = None) -> tf.Tensor:
    if seed is None or not self._rate:
      return x
    keep = randomness.uniform(seed, tf.shape(x)) >= self._rate
    return tf.where(keep, x / (1.0 - self._rate), 0.0)


class FourierFeatures(tf.keras.layers.Layer):
  """Features cos(2 pi t w) and sin(2 pi t w), trained from w ~ N(0, 0.2^2)."""

  def __init__(self, size: int, seed: int):
    super().__init__()
    if size % 2:
      raise ValueError(f'`size` must be even, got {size}.')
    self._frequency = self.add_weight(
        name='frequency',
        shape=[size // 2],
        initializer=tf.keras.initializers.RandomNormal(stddev=0.2, seed=seed),
    )

  def call(self, t: tf.Tensor) -> tf.Tensor:
    """Returns `[R, size]` features of times `[R]`."""
    angle = 2.0 * math.pi * t[:, tf.newaxis] * self._frequency
    return tf.concat([tf.cos(angle), tf.sin(angle)], axis=-1)


def check_width(width: Any) -> None:
  """Raises `ValueError` if a layer's width is not a positive integer."""
  if not isinstance(width, numbers.Integral) or width < 1:
    raise ValueError(
        f'The width of a layer must be a positive integer, got {width!r}.'
    )


def make_dense(
    units: int, input_size: int, seed: int, activation=None
) -> tf.keras.layers.Dense:
  """Makes and builds a dense layer; the seed gives its Glorot weights.

  Raises:
    ValueError: If `units` is not a positive integer.
  """
  check_width(units)
  layer = tf.keras.layers.Dense(
      units,
      activation=activation,
      kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed),
  )
  layer.build([None, input_size])
  return layer


def repeat_row(row: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
  """Returns a row `[1, F]` as often as `like` `[R, ...]` has rows.

  A matrix product, because XLA has no gradient of `tf.broadcast_to` in a loop.
  So a GPU rounds it to TF32, as it does the inputs of the next layer.
  """
  return tf.matmul(tf.ones_like(like[:, :1]), row)
