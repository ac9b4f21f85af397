"""Compares datasets that are to be joined: shapes, and scales of numbers."""

from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

from absl import logging
import numpy as np

from parl_tf import types
from parl_tf.datasets import rows as rows_lib

# Ratio of the largest actions that suggests other units.
_MAX_RATIO = 1.5


def check_shapes(
    paths: Sequence[str],
    columns: Sequence[Mapping[str, rows_lib.Column]],
) -> None:
  """Checks that observations and actions have the shapes of the first dataset.

  Args:
    paths: Paths of the datasets.
    columns: Headers of the columns of each.

  Raises:
    ValueError: If they have not. The message names both datasets.
  """
  first_path, first = paths[0], columns[0]
  for path, found in zip(paths[1:], columns[1:], strict=True):
    wanted, seen = _observed(first), _observed(found)
    if seen != wanted:
      raise ValueError(
          f'{path}: must have the observations {wanted} of {first_path}, got'
          f' {seen}.'
      )
    for name in (*wanted, 'actions'):
      shape, other = first[name].shape[1:], found[name].shape[1:]
      if None not in (*shape, *other) and shape != other:
        raise ValueError(
            f'{path}: `{found[name].label}` must have rows of shape {shape}, as'
            f' in {first_path}, got {other}.'
        )


class Scales:
  """Warns if rewards or actions of datasets have different scales."""

  def __init__(self):
    """Initializes without datasets."""
    self._rewards: Dict[str, Tuple[float, float]] = {}
    self._actions: Dict[str, np.ndarray] = {}

  def watch(
      self,
      path: str,
      episodes: Iterator[types.Episode],
      *,
      has_unit_actions: bool,
  ) -> Iterator[types.Episode]:
    """Yields the episodes of a dataset; then compares it with those before.

    Args:
      path: Path of the dataset.
      episodes: Its episodes.
      has_unit_actions: Whether its actions are known to be in [-1, 1], so that
        smaller ones do not suggest other units.
    """
    low, high = np.inf, -np.inf
    greatest = np.zeros([])
    for episode in episodes:
      low = min(low, float(episode.reward.min()))
      high = max(high, float(episode.reward.max()))
      greatest = np.maximum(greatest, np.abs(episode.action).max(axis=0))
      yield episode
    self._compare_rewards(path, low, high)
    if not has_unit_actions:
      self._compare_actions(path, greatest)

  def _compare_rewards(self, path: str, low: float, high: float) -> None:
    for other, (other_low, other_high) in self._rewards.items():
      is_within = (
          low <= other_low <= other_high <= high
          or other_low <= low <= high <= other_high
      )
      if not is_within and min(high, other_high) <= max(low, other_low):
        logging.warning(
            'The rewards of %s are between %g and %g, those of %s between %g'
            ' and %g. If these are not of the same task, convert them'
            ' separately.',
            path, low, high, other, other_low, other_high,
        )
        break
    self._rewards[path] = low, high

  def _compare_actions(self, path: str, greatest: np.ndarray) -> None:
    for other, other_greatest in self._actions.items():
      least = np.minimum(greatest, other_greatest)
      ratio = np.maximum(greatest, other_greatest) / np.where(
          least > 0.0, least, np.inf
      )
      worst = int(np.argmax(ratio))
      if ratio[worst] > _MAX_RATIO:
        logging.warning(
            'Element %d of the actions reaches %.3g in %s, but %.3g in %s. If'
            ' their units differ, convert each with its own'
            ' `dataset.action_bounds`, then join the outputs.',
            worst + 1,
            greatest[worst],
            path,
            other_greatest[worst],
            other,
        )
        break
    self._actions[path] = greatest


def _observed(columns: Mapping[str, rows_lib.Column]) -> List[str]:
  return sorted(rows_lib.part_names(columns, rows_lib.OBSERVATIONS))
