"""A network and the moving average of its weights."""

from typing import Callable, Optional, Sequence

import tensorflow as tf

from parl_tf import types
from parl_tf.networks import observation_encoder
from parl_tf.networks import slow_copy


class AveragedNetwork(tf.Module):
  """A trained network and a copy with averaged weights that draws actions.

  Each has its own observation encoder if the encoder has trained weights.

  Attributes:
    trained: The trained network.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      network_ctor: Callable[..., tf.keras.layers.Layer],
      averaging_rate: Optional[float],
  ):
    """Initializes both networks with the same weights.

    Args:
      spec: See `types.ModelSpec`.
      network_ctor: Makes the network from the widths of features and actions
        and a seed; every call must give equal weights.
      averaging_rate: Step size of the average at every update, in (0, 1]; None
        draws actions from the trained weights.

    Raises:
      ValueError: If `averaging_rate` is out of range.
    """
    super().__init__()
    if averaging_rate is not None and not 0.0 < averaging_rate <= 1.0:
      raise ValueError(
          f'`averaging_rate` must be in (0, 1], got {averaging_rate}.'
      )
    self._averaging_rate = averaging_rate
    self._encoder = observation_encoder.ObservationEncoder(
        spec.observation, spec.normalization, spec.seed
    )
    arguments = (self._encoder.size, spec.action_size, spec.seed)
    self.trained = network_ctor(*arguments)
    self._average, self._average_encoder = self.trained, self._encoder
    self._copy = None
    if averaging_rate is not None:
      self._average = network_ctor(*arguments)
      self._average_encoder = self._encoder.make_slow_copy()
      self._copy = slow_copy.SlowCopy(
          (self._average, self._average_encoder), (self.trained, self._encoder)
      )
      self._average.trainable = False

  @property
  def trainable_variables(self) -> Sequence[tf.Variable]:
    """The variables of the trained network and its encoder."""
    return (
        *self.trained.trainable_variables,
        *self._encoder.trainable_variables,
    )

  @property
  def acting_encoder(self) -> observation_encoder.ObservationEncoder:
    """The encoder of the network that draws actions."""
    return self._average_encoder

  def select(self, averaged: bool) -> tf.keras.layers.Layer:
    """Returns the averaged or the trained network."""
    return self._average if averaged else self.trained

  def encode(self, observation: types.Nest, averaged: bool) -> tf.Tensor:
    """Returns the features `[B, F]` for the network of `select`.

    Args:
      observation: Nest of `[B, ...]`, raw.
      averaged: Whether to encode with the averaged weights.
    """
    return (self._average_encoder if averaged else self._encoder)(observation)

  def update(self) -> None:
    """Moves the average, if any, towards the trained weights."""
    if self._copy is not None:
      self._copy.follow(self._averaging_rate)

  def start_from_average(self) -> None:
    """Sets the trained weights to their average."""
    if self._copy is not None:
      self._copy.overwrite_source()
