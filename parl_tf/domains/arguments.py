"""Validates arguments of domains and environments."""

from typing import Any, Iterable, Tuple

import numpy as np


def check_range(
    name: str, value: float, low: float, high: float = np.inf
) -> None:
  """Raises a ValueError that names the argument if it is out of range."""
  if not low <= value <= high:
    raise ValueError(f'`{name}` must be in [{low:g}, {high:g}], got {value}.')


def check_positive(name: str, value: float) -> None:
  """Raises a ValueError that names the argument if it is not positive."""
  if not value > 0:
    raise ValueError(f'`{name}` must be positive, got {value}.')


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
  """Raises a ValueError if the argument is not one of the choices."""
  choices = list(choices)
  if value not in choices:
    raise ValueError(f'`{name}` must be one of {choices}, got {value!r}.')


class NotFiniteError(ValueError):
  """An action is NaN or infinite, for instance after such an observation."""


def check_action(action: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
  """Converts an action to an array and validates it.

  Raises:
    NotFiniteError: If the action is not finite.
    ValueError: If the action has another shape.
  """
  action = np.asarray(action)
  if action.shape != shape:
    raise ValueError(f'`action` must have shape {shape}, got {action.shape}.')
  if not np.all(np.isfinite(action)):
    raise NotFiniteError(f'`action` must be finite, got {action}.')
  return action
