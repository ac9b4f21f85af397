"""Reads D4RL's HDF5 layout, without depending on `d4rl`.

The layout is flat, with one row per step: `observations`, `actions`, `rewards`
and `terminals`, and optionally `timeouts`, `next_observations` and `infos/*`.
There are two extensions of D4RL. `observations` may be a group with one HDF5
dataset for each part of a nest, in nested groups. A play dataset also stores
the raw rewards and successes of several tasks, in `infos/task_rewards` and
`infos/task_successes` `[rows, tasks]`; a layout with `task` reads rewards,
success and episode ends from these columns. A converted file may store in
`infos/continued` whether a recording continues in the next episode.

D4RL's own files have no `next_observations`. In this case, the observation
after a terminal row is a copy of the row's own, and the last row of an episode
that ends without terminating yields no transition.
"""

import math
import os
from typing import Any, Dict, Iterator

import h5py
import numpy as np

from parl_tf.datasets import hdf5
from parl_tf.datasets import missing_success
from parl_tf.datasets import rows as rows_lib

NAME = "D4RL's HDF5"

_COLUMNS = (*rows_lib.REQUIRED, 'timeouts', 'next_observations')
_SUCCESS_FIELD = 'infos/success'
_TASK_REWARDS = 'infos/task_rewards'
# Whether the recording continues after the row; in converted files only.
CONTINUED_FIELD = 'infos/continued'
# Attribute of files that the library wrote, with actions in [-1, 1].
UNIT_ACTIONS = 'has_unit_actions'
# Attribute of group `metadata`: lows and highs of the task's own actions, each
# `[A]`, which -1 and 1 stood for when the library recorded them.
BOUNDS = 'raw_action_bounds'
# Attributes of group `metadata` that such files had before.
_WRITTEN_HERE = ('gin_config', 'converted_from')
_READ_ROWS = 16_384
# Maximum bytes to read at once from each column.
_READ_BYTES = 2**24


def recognises(path: str) -> bool:
  """Returns whether a path is an HDF5 file."""
  return os.path.isfile(path) and (
      h5py.is_hdf5(path) or path.endswith(('.hdf5', '.h5'))
  )


def open_source(path: str, layout: rows_lib.Layout) -> rows_lib.RowSource:
  """Opens a file; see `formats.open_source`."""
  return _Source(path, layout)


class _Source(hdf5.Source):
  """Reads the rows of the file in batches."""

  def __init__(self, path, layout):
    super().__init__(path)
    try:
      with hdf5.damage_named(path):
        self._look_through(layout)
    except rows_lib.DamagedFileError:
      self.close()
      raise

  def _look_through(self, layout: rows_lib.Layout) -> None:
    """Determines which columns the file has."""
    has_metadata = 'metadata' in self.file
    metadata: Any = self.file['metadata'].attrs if has_metadata else {}
    is_old = any(name in metadata for name in _WRITTEN_HERE)
    self.has_unit_actions = bool(self.file.attrs.get(UNIT_ACTIONS, is_old))
    if BOUNDS in metadata:
      self.recorded_bounds = np.asarray(metadata[BOUNDS])
    recorded = self.recorded_bounds
    if recorded is not None and layout.raw_action_bounds is not None:
      seen = np.asarray(layout.raw_action_bounds, np.float32)
      if not np.array_equal(recorded, seen):
        self.faults.append(
            f'{self.path}: actions of -1 and 1 were recorded where they meant'
            f' {recorded[0].tolist()} and {recorded[1].tolist()} in the units'
            f' of the task, but now they mean {seen[0].tolist()} and'
            f' {seen[1].tolist()}. Restore its bounds of actions.'
        )
    success = layout.success_field or _SUCCESS_FIELD
    is_own = is_old or UNIT_ACTIONS in self.file.attrs
    if is_own and success != _SUCCESS_FIELD and success not in self.file:
      success = missing_success.own_success(self.path, success, _SUCCESS_FIELD)
    fields = {
        **{name: name for name in _COLUMNS},
        'success': success,
        rows_lib.CONTINUED: CONTINUED_FIELD,
    }
    if layout.every_episode_succeeds:
      del fields['rewards'], fields['success']
    for name in (rows_lib.OBSERVATIONS, rows_lib.NEXT_OBSERVATIONS):
      group = self.file.get(name)
      if isinstance(group, h5py.Group):
        del fields[name]
        keys = [
            x for x, _ in hdf5.leaves(group)
            if layout.observation_keys is None or x in layout.observation_keys
        ]
        fields.update({f'{name}/{x}': f'{name}/{x}' for x in keys})
    self.found = [
        f'`{name}` {column.shape}' for name, column in hdf5.leaves(self.file)
    ]
    self._columns = {}
    self.columns = {}
    for name, field in fields.items():
      if field not in self.file:
        continue
      column = self.file[field]
      if not isinstance(column, h5py.Dataset):
        self.faults.append(
            f'{self.path}: `{field}` must be an HDF5 dataset, got a group.'
        )
        continue
      if column.shape is None:
        self.faults.append(
            f'{self.path}: `{field}` must have a row per step, got an empty'
            ' HDF5 dataset.'
        )
        continue
      self._columns[name] = column
      self.columns[name] = rows_lib.Column(column.shape, column.dtype, field)
    self.is_play = _TASK_REWARDS in self.file
    self._has_tasks = layout.task is not None and self.is_play
    self._layout = layout
    self.has_continuations = self._has_tasks or CONTINUED_FIELD in self.file
    if self._has_tasks:
      self._check_tasks()

  def _check_tasks(self) -> None:
    """Reports missing rewards or successes of the task."""
    if 'actions' not in self._columns:
      return  # A fault of its own.
    num_rows = len(self._columns['actions'])
    for name in (_TASK_REWARDS, rows_lib.TASK_SUCCESSES):
      # Groups have none.
      shape = getattr(self.file.get(name), 'shape', None)
      if (
          shape is None
          or len(shape) != 2
          or shape[0] != num_rows
          or shape[1] <= self._layout.task
      ):
        self.faults.append(
            f'{self.path}: `{name}` must have {num_rows} rows with a column for'
            f' task {self._layout.task} (zero-based), got shape {shape}.'
        )
    success = rows_lib.Column(
        (num_rows,), np.dtype(np.bool_), rows_lib.TASK_SUCCESSES
    )
    self.columns = {**self.columns, 'success': success}

  def task_infos(self) -> Dict[str, np.ndarray]:
    if not self.is_play:
      return {}
    with hdf5.damage_named(self.path):
      return {
          name.removeprefix('infos/'): self.file[name][:]
          for name in (_TASK_REWARDS, rows_lib.TASK_SUCCESSES)
      }

  def read(self) -> Iterator[rows_lib.Rows]:
    row_bytes = max(
        column.dtype.itemsize * math.prod(column.shape[1:])
        for column in self._columns.values()
    )
    step = max(1, min(_READ_ROWS, _READ_BYTES // max(row_bytes, 1)))
    for start in range(0, len(self._columns['actions']), step):
      span = slice(start, start + step)
      with hdf5.damage_named(self.path):
        rows = {name: column[span] for name, column in self._columns.items()}
      rows = rows_lib.flatten_scalars(rows)
      if self._has_tasks:
        self._relabel(rows, span)
      yield rows

  def _relabel(self, rows: Dict[str, np.ndarray], span: slice) -> None:
    """Replaces rewards, success and episode ends with those of the task."""
    with hdf5.damage_named(self.path):
      rows['rewards'] = self.file[_TASK_REWARDS][span, self._layout.task]
      success = self.file[rows_lib.TASK_SUCCESSES][span, self._layout.task]
    rows['success'] = success
    ends = [rows[x] != 0 for x in ('terminals', 'timeouts') if x in rows]
    is_inner = ~np.any(ends, axis=0)
    stored = rows.get(rows_lib.CONTINUED)
    rows[rows_lib.CONTINUED] = (
        is_inner if stored is None else is_inner | (stored != 0)
    )
    rows['terminals'] = (success != 0) & self._layout.ends_at_success
    if 'timeouts' in rows:
      rows['timeouts'] = np.where(rows['terminals'], 0, rows['timeouts'])
