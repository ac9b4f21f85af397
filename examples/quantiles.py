"""A critic's head that predicts quantiles instead of a histogram."""

import gin
import numpy as np
import tensorflow as tf


@gin.configurable(denylist=['value_range'])
class Quantiles:
  """Quantiles of the target, learned by the pinball loss."""

  def __init__(self, value_range, *, num_bins=32):
    if value_range is None:
      raise ValueError('`Quantiles` needs a task with a known reward range.')
    self.min_value, self.max_value = value_range
    self.num_bins = num_bins
    self._levels = (np.arange(num_bins, dtype=np.float32) + 0.5) / num_bins

  def mean(self, outputs):
    return tf.reduce_mean(outputs, axis=-1)

  def wide_logits(self, value):
    return np.full([self.num_bins], value)

  def cross_entropy(self, outputs, targets):
    errors = targets[..., tf.newaxis] - outputs
    losses = tf.maximum(self._levels * errors, (self._levels - 1) * errors)
    return tf.reduce_mean(losses, axis=-1)
