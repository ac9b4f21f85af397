"""Tanh-squashed diagonal Gaussian policy."""

import math
from typing import Sequence, Tuple

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import blocks
from parl_tf.networks import observation_encoder
from parl_tf.policies import generative_policy

# Gradient ascent clips actions to exactly +-1, where atanh is infinite.
_LARGEST_ACTION = 1.0 - 1e-5


@gin.configurable(denylist=['spec'])
class GaussianPolicy(generative_policy.GenerativePolicy):
  """Samples tanh(mean(s) + std(s) z); trains by negative log likelihood."""

  has_density = True

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      hidden_sizes: Sequence[int] = (256, 256),
      min_log_std: float = -5.0,
      max_log_std: float = 2.0,
  ):
    """Initializes the network.

    Args:
      spec: See `types.ModelSpec`.
      hidden_sizes: Widths of the ReLU layers.
      min_log_std: Lower bound of the log standard deviation before tanh.
      max_log_std: Upper bound of the log standard deviation before tanh.

    Raises:
      ValueError: If `min_log_std` is not below `max_log_std`.
    """
    super().__init__()
    if not min_log_std < max_log_std:
      raise ValueError(
          '`min_log_std` must be below `max_log_std`, got '
          f'{min_log_std} and {max_log_std}.'
      )
    self._bounds = (min_log_std, max_log_std)
    self._encoder = observation_encoder.ObservationEncoder(
        spec.observation, spec.normalization, spec.seed
    )
    sizes = [self._encoder.size, *hidden_sizes]
    self._hidden = [
        blocks.make_dense(sizes[i + 1], sizes[i], spec.seed + i, tf.nn.relu)
        for i in range(len(hidden_sizes))
    ]
    self._head = blocks.make_dense(
        2 * spec.action_size, sizes[-1], spec.seed + len(sizes)
    )

  @property
  def acting_encoder(self):
    return self._encoder

  @property
  def trainable_variables(self):
    layers = [*self._hidden, self._head, self._encoder]
    return tuple(v for layer in layers for v in layer.trainable_variables)

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    return self.sample_with_log_prob(
        observation, num_samples, seed, averaged, temperature
    )[0]

  def sample_with_log_prob(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    del averaged  # The policy has no average.
    mean, log_std = self._parameters(observation)
    mean, log_std = mean[:, tf.newaxis], log_std[:, tf.newaxis]
    shape = [tf.shape(mean)[0], num_samples, mean.shape[-1]]
    return squash(mean, log_std, temperature * randomness.normal(seed, shape))

  def distillation_loss(self, observation, action, seed, mask=None):
    del seed  # The likelihood is exact.
    mean, log_std = self._parameters(observation)
    action = tf.clip_by_value(action, -_LARGEST_ACTION, _LARGEST_ACTION)
    log_prob = _log_probs(tf.atanh(action), mean, log_std)
    return generative_policy.sum_of_costs(-log_prob, mask)

  def _parameters(self, observation):
    x = self._encoder(observation)
    for layer in self._hidden:
      x = layer(x)
    mean, log_std = tf.split(self._head(x), 2, axis=-1)
    return mean, tf.clip_by_value(log_std, *self._bounds)


def squash(
    mean: tf.Tensor, log_std: tf.Tensor, noise: tf.Tensor
) -> Tuple[tf.Tensor, tf.Tensor]:
  """Computes tanh(mean + std noise) and its log density.

  Args:
    mean: Mean before tanh; broadcasts with `noise`.
    log_std: Log standard deviation before tanh; broadcasts with `noise`.
    noise: `[..., A]` standard normal.

  Returns:
    Actions `[..., A]` in [-1, 1] and log densities `[...]`.
  """
  before_tanh = mean + tf.exp(log_std) * noise
  # XLA's tanh can exceed 1 by a rounding error.
  action = tf.clip_by_value(tf.tanh(before_tanh), -1.0, 1.0)
  log_probs = _log_probs(before_tanh, mean, log_std)
  return action, tf.reduce_sum(log_probs, axis=-1)


def _log_probs(before_tanh, mean, log_std):
  """Computes the log density of tanh(before_tanh) in each dimension."""
  z = (before_tanh - mean) * tf.exp(-log_std)
  log_normal = -0.5 * (tf.square(z) + math.log(2.0 * math.pi)) - log_std
  # log(1 - tanh(x)^2), in a form without cancellation for large |x|.
  log_slope = 2.0 * (
      math.log(2.0) - before_tanh - tf.nn.softplus(-2.0 * before_tanh)
  )
  return log_normal - log_slope
