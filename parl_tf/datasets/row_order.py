"""Looks for rows that are not in the order in which they were recorded."""

from typing import Any, Dict, List, Mapping

import numpy as np

from parl_tf.datasets import rows as rows_lib

# Fewer pairs of rows decide nothing.
_MIN_PAIRS = 1_000
# Of von Neumann's ratio, the mean squared difference of consecutive values by
# their variance. It is 2 for values in random order, and small for a motion.
_MIN_RATIO = 1.8
# Bounds the memory of copies as float64.
_ROWS_PER_COMPARISON = 1_024


class RowOrder:
  """Compares differences of consecutive observations with their variance.

  A dataset with `next_observations` is not looked at: they tell more.
  """

  def __init__(self, columns: Mapping[str, rows_lib.Column]):
    """Initializes without rows.

    Args:
      columns: Headers of the columns. Observations that are vectors of
        floating-point numbers are compared.
    """
    names = rows_lib.part_names(columns, rows_lib.OBSERVATIONS)
    if rows_lib.part_names(columns, rows_lib.NEXT_OBSERVATIONS):
      names = []
    self._names = [
        name
        for name in names
        if len(columns[name].shape) == 2 and columns[name].dtype.kind == 'f'
    ]
    self._num_rows = self._num_pairs = 0
    self._origin: Dict[str, np.ndarray] = {}
    self._sum: Dict[str, Any] = dict.fromkeys(self._names, 0.0)
    self._squares: Dict[str, Any] = dict.fromkeys(self._names, 0.0)
    self._differences: Dict[str, Any] = dict.fromkeys(self._names, 0.0)
    # Of the row before, of the same episode.
    self._last: Dict[str, np.ndarray] = {}

  def add(self, rows: rows_lib.Rows) -> None:
    """Adds the next rows."""
    num_rows = len(rows['rewards'])
    if not self._names or not num_rows:
      return
    ends = rows_lib.find_ends(rows)
    # Whether the row belongs to the episode of the row before.
    is_pair = np.ones([num_rows], np.bool_)
    is_pair[0] = bool(self._last)
    is_pair[ends[ends < num_rows - 1] + 1] = False
    for name in self._names:
      for start in range(0, num_rows, _ROWS_PER_COMPARISON):
        part = slice(start, start + _ROWS_PER_COMPARISON)
        self._compare(name, rows[name][part], is_pair[part])
    if len(ends) and ends[-1] == num_rows - 1:
      self._last = {}
    self._num_rows += num_rows
    self._num_pairs += int(np.sum(is_pair))

  def hints(self) -> List[str]:
    """Returns what seems wrong with the order, after all rows; or []."""
    if self._num_pairs < _MIN_PAIRS:
      return []
    ratios = []
    for name in self._names:
      mean = self._sum[name] / self._num_rows
      variance = self._squares[name] / self._num_rows - mean**2
      scale = self._squares[name] / self._num_rows
      is_varied = variance > 1e-9 * scale  # Rounding leaves less.
      ratios.extend(
          self._differences[name][is_varied]
          / self._num_pairs
          / variance[is_varied]
      )
    if not ratios or min(ratios) < _MIN_RATIO:
      return []
    return [
        'consecutive observations of an episode are no more alike than those of'
        ' any two rows. If the rows are not in the order in which they were'
        ' recorded, restore it: without `next_observations`, the next row is'
        ' what follows an action.'
    ]

  def _compare(
      self, name: str, array: np.ndarray, is_pair: np.ndarray
  ) -> None:
    """Adds a few rows `[rows, D]` of a part of the observation."""
    values = np.asarray(array, np.float64)
    before = np.concatenate([self._last.get(name, values[:1]), values[:-1]])
    origin = self._origin.setdefault(name, values[0].copy())
    with np.errstate(invalid='ignore', over='ignore'):  # Faults elsewhere.
      centered = values - origin
      self._differences[name] += np.sum((values - before)[is_pair] ** 2, axis=0)
      self._sum[name] += np.sum(centered, axis=0)
      self._squares[name] += np.sum(centered**2, axis=0)
    self._last[name] = values[-1:].copy()
