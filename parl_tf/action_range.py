"""The mapping between raw actions and [-1, 1]."""

from typing import Any, Tuple

import numpy as np


class ActionRange:
  """The bounds of raw actions, in the environment's units.

  Its methods take arrays and tensors. For bounds of -1 and 1 they leave actions
  bitwise unchanged. With others, rounding may exceed the bounds: clip to these.

  Attributes:
    bounds: `(low [A], high [A])`, of the type of the arithmetic; `[1]` if they
      are the same for all elements.
  """

  def __init__(
      self, bounds: Tuple[Any, Any], dtype: Any = np.float32
  ):
    """Initializes the range.

    Args:
      bounds: `(low, high)`, finite, low below high, each a number or `[A]`.
      dtype: Type of the arithmetic; float32 for tensors.
    """
    # Scalars would not determine the type of the results.
    low, high = (np.atleast_1d(np.asarray(x, dtype)) for x in bounds)
    self.bounds = (low, high)
    self._center = (high + low) / 2.0
    self._half_range = (high - low) / 2.0

  def to_raw(self, actions: Any) -> Any:
    """Maps actions `[..., A]` in [-1, 1] to raw ones."""
    return self._center + self._half_range * actions

  def from_raw(self, actions: Any) -> Any:
    """Maps raw actions `[..., A]` to [-1, 1], those out of bounds beyond it."""
    return (actions - self._center) / self._half_range
