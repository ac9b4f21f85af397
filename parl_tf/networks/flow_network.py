"""A plain network of flow and one-step policies."""

from typing import Optional, Sequence

import gin
import numpy as np
import tensorflow as tf

from parl_tf.networks import blocks


@gin.configurable(denylist=['feature_size', 'action_size', 'seed', 'has_time'])
class FlowNetwork(tf.keras.Model):
  """Maps state, noisy action and, optionally, time to an action or velocity.

  GELU layers without dropout or LayerNorm: the architecture of FQL, Park et al.
  (2025), arXiv:2502.02538. It can replace `DenoisingNetwork` in a flow policy.
  """

  def __init__(
      self,
      feature_size: int,
      action_size: int,
      seed: int,
      *,
      hidden_sizes: Sequence[int] = (512, 512, 512, 512),
      has_time: bool = True,
  ):
    """Initializes the layers.

    Args:
      feature_size: Width of the observation features.
      action_size: A, the dimension of an action.
      seed: Integer seed of the initial weights.
      hidden_sizes: Widths of the hidden layers.
      has_time: Whether the time is an input.
    """
    super().__init__()
    self._has_time = has_time
    sizes = [feature_size + action_size + int(has_time), *hidden_sizes]
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes)).tolist()
    self._hidden = [
        blocks.make_dense(sizes[i + 1], sizes[i], seeds[i], _gelu)
        for i in range(len(hidden_sizes))
    ]
    self._output = blocks.make_dense(action_size, sizes[-1], seeds[-1])

  def call(
      self,
      features: tf.Tensor,
      action: tf.Tensor,
      t: Optional[tf.Tensor] = None,
      dropout_seed: Optional[tf.Tensor] = None,
  ) -> tf.Tensor:
    """Predicts the actions or velocities of noisy actions.

    Args:
      features: `[R, F]` encoded observations.
      action: `[R, A]` noisy actions.
      t: `[R]` times, or statically `[1]` if all rows share one; only with
        `has_time`.
      dropout_seed: Unused; other networks drop inputs.

    Returns:
      `[R, A]` predictions.
    """
    del dropout_seed
    inputs = [features, action]
    if self._has_time:
      time = tf.expand_dims(t, axis=1)
      if time.shape[0] == 1:
        time = blocks.repeat_row(time, action)
      inputs.append(time)
    x = tf.concat(inputs, axis=-1)
    for layer in self._hidden:
      x = layer(x)
    return self._output(x)


def _gelu(x):
  return tf.nn.gelu(x, approximate=True)
