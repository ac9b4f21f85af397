"""The network of the diffusion and flow policies."""

from typing import Optional

import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.networks import blocks


@gin.configurable(denylist=['feature_size', 'action_size', 'seed'])
class DenoisingNetwork(tf.keras.Model):
  """Maps time, state and noisy action to noise or velocity by residual blocks.

  Implements the architecture of IDQL, Hansen-Estruch et al. (2023),
  arXiv:2304.10573. The loss determines whether it predicts noise or a velocity.
  """

  def __init__(
      self,
      feature_size: int,
      action_size: int,
      seed: int,
      *,
      time_size: int = 128,
      hidden_size: int = 256,
      num_blocks: int = 3,
      dropout_rate: float = 0.1,
  ):
    """Initializes the layers.

    Args:
      feature_size: Width of the observation features.
      action_size: A, the dimension of an action.
      seed: Integer seed of the initial weights.
      time_size: Width of the time features.
      hidden_size: Width of the residual stream. A block's inner layer is four
        times as wide.
      num_blocks: Number of residual blocks.
      dropout_rate: Fraction of a block's inputs to drop in training.
    """
    super().__init__()
    seeds = np.random.SeedSequence(seed).generate_state(5 + 2 * num_blocks)
    seeds = iter(seeds.tolist())

    def dense(units, size, activation=None):
      return blocks.make_dense(units, size, next(seeds), activation)

    self._time_features = blocks.FourierFeatures(time_size, next(seeds))
    self._time_layers = [
        dense(2 * time_size, time_size, tf.nn.swish),
        dense(time_size, 2 * time_size),
    ]
    self._input = dense(hidden_size, time_size + feature_size + action_size)
    self._blocks = []
    for _ in range(num_blocks):
      norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
      norm.build([None, hidden_size])
      self._blocks.append((
          blocks.StatelessDropout(dropout_rate),
          norm,
          dense(4 * hidden_size, hidden_size, tf.nn.swish),
          dense(hidden_size, 4 * hidden_size),
      ))
    self._output = dense(action_size, hidden_size)

  def call(
      self,
      features: tf.Tensor,
      action: tf.Tensor,
      t: tf.Tensor,
      dropout_seed: Optional[tf.Tensor] = None,
  ) -> tf.Tensor:
    """Predicts the noise or velocity of noisy actions.

    Args:
      features: `[R, F]` encoded observations.
      action: `[R, A]` noisy actions.
      t: `[R]` steps or times, or statically `[1]` if all rows share one.
      dropout_seed: `[2]` int32, or None for no dropout.

    Returns:
      `[R, A]` predictions.
    """
    time = self._time_features(tf.cast(t, tf.float32))
    for layer in self._time_layers:
      time = layer(time)
    if t.shape[0] == 1:
      time = blocks.repeat_row(time, action)
    x = self._input(tf.concat([time, features, action], axis=-1))
    for i, (dropout, norm, widen, narrow) in enumerate(self._blocks):
      seed = None
      if dropout_seed is not None:
        seed = randomness.fold_in(dropout_seed, i)
      x += narrow(widen(norm(dropout(x, seed=seed))))
    return self._output(tf.nn.swish(x))
