"""A network and the moving average of its weights."""

from typing import Callable, Optional, Sequence

import tensorflow as tf

from parl_tf import replicas


class AveragedNetwork(tf.Module):
  """Two copies of a network: one is trained, its average draws actions."""

  def __init__(
      self,
      network_ctor: Callable[[], tf.keras.layers.Layer],
      averaging_rate: Optional[float],
  ):
    """Initializes both with the same weights.

    Args:
      network_ctor: Makes the network, with the same weights at every call.
      averaging_rate: Step of the average at every update, in (0, 1]; None for
        no average: the trained weights draw.

    Raises:
      ValueError: If `averaging_rate` is out of range.
    """
    super().__init__()
    if averaging_rate is not None and not 0.0 < averaging_rate <= 1.0:
      raise ValueError(
          f'`averaging_rate` must be in (0, 1], got {averaging_rate}.'
      )
    self._averaging_rate = averaging_rate
    self.trained = network_ctor()
    self._average = self.trained
    if averaging_rate is not None:
      self._average = network_ctor()
      self._average.trainable = False

  @property
  def trainable_variables(self) -> Sequence[tf.Variable]:
    """The variables of the trained network alone."""
    return tuple(self.trained.trainable_variables)

  def select(self, averaged: bool) -> tf.keras.layers.Layer:
    """Returns the network that draws actions."""
    return self._average if averaged else self.trained

  def update(self) -> None:
    """Moves the average towards the trained weights, where there is one."""
    if self._averaging_rate is None:
      return
    replicas.move_towards(
        self._average.variables, self.trained.variables, self._averaging_rate
    )
