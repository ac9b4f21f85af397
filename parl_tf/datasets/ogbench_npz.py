"""Reads OGBench's .npz files in batches of rows, without `ogbench`.

A file has the members `observations`, `actions` and `terminals`, with one row
per step, and optionally `next_observations`, `rewards`, `masks` and `valids`.
Other members, such as simulator states, are ignored. OGBench's own files have
no rewards, which is a fault; its single-task versions, saved with `np.savez`,
have rewards and masks.

`terminals` mark the end of a trajectory, which is a timeout: in OGBench's own
files the last row has a state but no next state. `masks` are 0 where the task
is solved, which may happen in the middle of a trajectory. Such a step is a
terminal success, and the following steps form another episode. OGBench's
transitions are preserved. If there are `valids` (a compact dataset),
`terminals` also mark the row before the last, and trajectories end where
`valids` are 0.
"""

import contextlib
import math
import os
import tokenize
from typing import Dict, Iterator
import zipfile
import zlib

import numpy as np

from parl_tf.datasets import rows as rows_lib

NAME = "OGBench's npz"

_SUFFIX = '.npy'
_READ_ROWS = 16_384
# Maximum bytes to read at once from each column.
_READ_BYTES = 2**24
# Exceptions that NumPy and zipfile raise on truncated or overwritten files.
_DAMAGE = (
    EOFError, KeyError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)


def recognises(path: str) -> bool:
  """Returns whether a path is a .npz file."""
  return os.path.isfile(path) and path.endswith('.npz')


def open_source(path: str, layout: rows_lib.Layout) -> rows_lib.RowSource:
  """Opens a file; see `formats.open_source`."""
  return _Source(path, layout)


class _Source(rows_lib.RowSource):
  """Reads the rows of the file in batches."""

  def __init__(self, path, layout):
    self.path = path
    self.faults = []
    with _damage_named(path, 'the file'):
      self._archive = zipfile.ZipFile(path)
    try:
      self._look_through(layout)
    except rows_lib.DamagedFileError:
      self.close()
      raise

  def close(self) -> None:
    self._archive.close()

  def read(self) -> Iterator[rows_lib.Rows]:
    with contextlib.ExitStack() as stack:
      members = {
          name: stack.enter_context(_Member(self.path, self._archive, member))
          for name, member in self._members.items()
      }
      num_rows = members['actions'].shape[0]
      row_bytes = max(x.row_bytes for x in members.values())
      step = max(1, min(_READ_ROWS, _READ_BYTES // max(row_bytes, 1)))
      for start in range(0, num_rows, step):
        count = min(step, num_rows - start)
        yield self._rows({x: y.read(count) for x, y in members.items()})

  def _look_through(self, layout: rows_lib.Layout) -> None:
    """Reads the headers of the members."""
    members = {
        x.removesuffix(_SUFFIX) for x in self._archive.namelist()
    }
    wanted = {
        **{name: name for name in (*rows_lib.REQUIRED, 'masks')},
        rows_lib.NEXT_OBSERVATIONS: rows_lib.NEXT_OBSERVATIONS,
        'success': layout.success_field,
    }
    if layout.every_episode_succeeds:
      del wanted['rewards'], wanted['success']
    if 'timeouts' in members:
      self.faults.append(
          f"{self.path}: `timeouts` must be absent: OGBench's `terminals` mark"
          " the last row of each episode. Write D4RL's columns to an HDF5 file"
          ' instead.'
      )
    self._members = {x: y for x, y in wanted.items() if y in members}
    if {'terminals', 'valids'} <= members:
      self._members['valids'] = 'valids'
    columns = {}
    for name, member in self._members.items():
      with _Member(self.path, self._archive, member) as array:
        columns[name] = rows_lib.Column(array.shape, array.dtype, member)
        if not array.is_by_rows:
          self.faults.append(
              f"{self.path}: `{member}` must be stored in row-major order"
              " (NumPy's 'C'), got column-major order."
          )
    self._masks_are_successes = layout.success_field is None
    self.has_continuations = 'masks' in members
    self.columns = _standard_columns(columns, self._masks_are_successes)

  def _rows(self, arrays: Dict[str, np.ndarray]) -> rows_lib.Rows:
    """Converts rows of the members to standard columns."""
    rows = rows_lib.flatten_scalars(arrays)
    ends = rows.pop('terminals')
    if 'valids' in rows:
      ends = 1.0 - rows.pop('valids').reshape([len(ends)])
    # Values other than 0 and 1 are passed on, so that `RowScan` reports them.
    terminals = np.zeros_like(ends)
    if 'masks' in rows:
      terminals = 1.0 - rows.pop('masks').reshape([len(ends)])
      if self._masks_are_successes:
        rows['success'] = terminals
    timeouts = np.where(terminals == 0, ends, np.zeros_like(ends))
    rows[rows_lib.CONTINUED] = ends == 0
    return {**rows, 'terminals': terminals, 'timeouts': timeouts}


class _Member:
  """An array of the file, read sequentially; a context manager.

  Attributes:
    shape: Shape of the array.
    dtype: Type of the entries.
    is_by_rows: Whether the array is in row-major order.
    row_bytes: Bytes per row.
  """

  def __init__(self, path: str, archive: zipfile.ZipFile, name: str):
    self._path = path
    self._name = name
    with _damage_named(path, f'`{name}`'):
      # Decompresses while reading, and verifies the checksum at the end.
      self._stream = archive.open(name + _SUFFIX)
      version = np.lib.format.read_magic(self._stream)
      if version != (1, 0):
        raise ValueError(f'unsupported npy version {version}')
      self.shape, is_by_columns, self.dtype = (
          np.lib.format.read_array_header_1_0(self._stream)
      )
      if self.dtype.hasobject:
        raise ValueError('contains Python objects')
    self.is_by_rows = not is_by_columns
    self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize

  def __enter__(self) -> '_Member':
    return self

  def __exit__(self, error_type, error, traceback) -> None:
    self._stream.close()

  def read(self, num_rows: int) -> np.ndarray:
    """Returns the next rows `[num_rows, ...]`."""
    size = num_rows * self.row_bytes
    with _damage_named(self._path, f'`{self._name}`'):
      data = self._stream.read(size)
      if len(data) < size:
        raise EOFError(f'{size - len(data)} bytes are missing')
      array = np.frombuffer(data, self.dtype)
      return array.reshape([num_rows, *self.shape[1:]])


@contextlib.contextmanager
def _damage_named(path: str, field: str) -> Iterator[None]:
  """Converts exceptions raised on corrupt files to `DamagedFileError`."""
  try:
    yield
  except _DAMAGE as error:
    raise rows_lib.DamagedFileError(
        f'{path}: {field} must be complete and numeric, as written by'
        f' `np.savez`; it is truncated or corrupt ({error}).'
    ) from error


def _standard_columns(
    columns, masks_are_successes
) -> Dict[str, rows_lib.Column]:
  """Returns the headers of the standard columns."""
  columns = dict(columns)
  masks, valids = columns.pop('masks', None), columns.pop('valids', None)
  ends = valids or columns.get('terminals')
  if ends:
    columns['timeouts'] = ends
    columns['terminals'] = masks or ends
  if masks and masks_are_successes:
    columns['success'] = masks
  return columns
