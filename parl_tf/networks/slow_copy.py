"""Slow copies of networks: targets and moving averages."""

from typing import Tuple, Union

import tensorflow as tf

from parl_tf import replicas
from parl_tf.networks import observation_encoder

_Networks = Tuple[
    tf.keras.layers.Layer, observation_encoder.ObservationEncoder
]


class SlowCopy:
  """Pairs the variables of a copy with those that they follow.

  Make it before freezing the copy: Keras lists trained variables first, so
  freezing may change the order.
  """

  def __init__(self, copy: _Networks, source: _Networks):
    """Finds the variables; the encoders may be the same one.

    Args:
      copy: The network that follows, and its encoder.
      source: The trained network and its encoder.
    """
    self._pairs = list(
        zip(copy[0].variables, source[0].variables, strict=True)
    )
    if copy[1] is not source[1]:
      self._pairs += zip(
          copy[1].image_variables, source[1].image_variables, strict=True
      )

  def follow(self, rate: Union[float, tf.Tensor]) -> None:
    """Moves each variable a fraction `rate` towards its source."""
    copies, sources = zip(*self._pairs)
    replicas.move_towards(copies, sources, rate)

  def overwrite_source(self) -> None:
    """Sets each source to the variable that follows it."""
    for variable, source in self._pairs:
      source.assign(variable)
