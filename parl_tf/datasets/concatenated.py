"""Concatenates the parts of a dataset's nested observations.

For tasks that flatten a dict observation, see `Gymnasium.flatten_observation`.
"""

import math
from typing import Dict, Iterator, Sequence

import numpy as np

from parl_tf.datasets import rows as rows_lib

_FIELDS = (rows_lib.OBSERVATIONS, rows_lib.NEXT_OBSERVATIONS)


class Source(rows_lib.WrappedSource):
  """A dataset whose observations are one array, `[rows, entries]`."""

  def __init__(self, source: rows_lib.RowSource, keys: Sequence[str]):
    """Wraps a dataset whose observations are nested.

    Args:
      source: The dataset, which is closed with this one.
      keys: Parts, in the order in which they are concatenated.

    Raises:
      rows.DamagedFileError: If the dataset lacks a part, or parts differ in
        their numbers of rows.
    """
    super().__init__(source)
    self.needs_successes = source.needs_successes
    self._keys = keys
    self.columns: Dict[str, rows_lib.Column] = {
        name: column
        for name, column in source.columns.items()
        if name.split('/')[0] not in _FIELDS
    }
    try:
      for field in _FIELDS:
        if parts := rows_lib.part_names(source.columns, field):
          self.columns[field] = self._column(field, parts)
    except rows_lib.DamagedFileError:
      self.close()
      raise

  def read(self) -> Iterator[rows_lib.Rows]:
    for rows in self.wrapped.read():
      joined = {
          name: array
          for name, array in rows.items()
          if name.split('/')[0] not in _FIELDS
      }
      for field in _FIELDS:
        if rows_lib.part_names(rows, field):
          parts = [rows[f'{field}/{key}'] for key in self._keys]
          joined[field] = np.concatenate(
              [part.reshape([len(part), -1]) for part in parts], axis=1
          )
      yield joined

  def _column(self, field: str, found: Sequence[str]) -> rows_lib.Column:
    """Returns the header of the concatenated parts."""
    seen = [name[len(field) + 1 :] for name in found]
    if missing := [key for key in self._keys if key not in seen]:
      raise rows_lib.DamagedFileError(
          f'{self.path}: `{field}` must have the parts {list(self._keys)} of'
          f' the task, got {sorted(seen)}, without {missing}.'
      )
    parts = [self.wrapped.columns[f'{field}/{key}'] for key in self._keys]
    lengths = {part.shape[:1] for part in parts}
    if len(lengths) > 1 or () in lengths:
      shapes = {part.label: part.shape for part in parts}
      raise rows_lib.DamagedFileError(
          f'{self.path}: the parts of `{field}` must each have one row per'
          f' step, got shapes {shapes}.'
      )
    # Only the number of rows may be unknown.
    sizes = [
        math.prod(n for n in part.shape[1:] if n is not None) for part in parts
    ]
    return rows_lib.Column(
        (*lengths.pop(), sum(sizes)),
        np.result_type(*(part.dtype for part in parts)),
        ', '.join(part.label for part in parts),
    )
