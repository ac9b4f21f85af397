"""A state-value function, the baseline of on-policy methods."""

from typing import Callable

import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import critic
from parl_tf.networks import ensemble
from parl_tf.networks import observation_encoder


@gin.configurable(denylist=['spec'])
class StateValue(tf.Module):
  """A state-value network that is constructed like a critic.

  It does not evaluate actions, so it is not a `Critic`.

  Attributes:
    gamma: Discount factor.
    scale: Units of return in one unit of the network's output.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      network_ctor: Callable[..., ensemble.CriticEnsemble] = (
          critic.CriticEnsemble
      ),
      gamma: float = 0.99,
      scale: float = 1.0,
  ):
    """Initializes the network.

    Args:
      spec: Observation and seed of the network; ignores the action.
      network_ctor: Makes an `ensemble.CriticEnsemble`.
      gamma: Discount factor.
      scale: Units of return in one unit of the network's output; should be
        about as large as the returns.

    Raises:
      ValueError: If a number is out of range.
    """
    super().__init__()
    if not 0.0 <= gamma <= 1.0:
      raise ValueError(f'`gamma` must be in [0, 1], got {gamma}.')
    if scale <= 0.0:
      raise ValueError(f'`scale` must be positive, got {scale}.')
    self.gamma = gamma
    self.scale = scale
    self._encoder = observation_encoder.ObservationEncoder(
        spec.observation, spec.normalization, spec.seed
    )
    self._network = network_ctor(
        self._encoder.size, 0, 1, spec.seed, num_members=1
    )

  @property
  def trainable_variables(self):
    return (
        self._network.trainable_variables + self._encoder.trainable_variables
    )

  def __call__(self, observation: types.Nest) -> tf.Tensor:
    """Returns V(s) `[B]` of observations, a nest of `[B, ...]`."""
    output = self._network.context(self._encoder(observation))()
    return self.scale * output[0, :, 0, 0]
