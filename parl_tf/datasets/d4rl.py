"""Reads and writes D4RL's HDF5 layout, without depending on `d4rl`.

The layout is flat, with one row per step: `observations`, `actions`, `rewards`
and `terminals`, and optionally `timeouts`, `next_observations` and `infos/*`.
There are two extensions of D4RL. `observations` may be a group with one HDF5
dataset for each part of a nest, in nested groups. A play dataset also stores
the raw rewards and successes of several tasks, in `infos/task_rewards` and
`infos/task_successes` `[rows, tasks]`; a layout with `task` reads rewards,
success and episode ends from these columns.

D4RL's own files have no `next_observations`. In this case, the observation
after a terminal row is a copy of the row's own, and the last row of an episode
that ends without terminating yields no transition.
"""

import errno
import math
import os
import shutil
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set

from absl import logging
import h5py
import numpy as np

from parl_tf import synced_file
from parl_tf import types
from parl_tf.datasets import hdf5
from parl_tf.datasets import missing_success
from parl_tf.datasets import rows as rows_lib

NAME = "D4RL's HDF5"

_COLUMNS = (*rows_lib.REQUIRED, 'timeouts', 'next_observations')
_SUCCESS_FIELD = 'infos/success'
_TASK_REWARDS = 'infos/task_rewards'
# Attribute of files that the library wrote, with actions in [-1, 1].
_UNIT_ACTIONS = 'has_unit_actions'
# Attributes of group `metadata` that such files had before.
_WRITTEN_HERE = ('gin_config', 'converted_from')
_READ_ROWS = 16_384
# Maximum bytes to read at once from each column.
_READ_BYTES = 2**24
# Maxima of a compressed chunk, which is read and written as a whole. The bytes
# are those of HDF5's cache.
_CHUNK_ROWS = 8_192
_CHUNK_BYTES = 2**20


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
    metadata = self.file['metadata'].attrs if 'metadata' in self.file else ()
    is_old = any(name in metadata for name in _WRITTEN_HERE)
    self.has_unit_actions = bool(self.file.attrs.get(_UNIT_ACTIONS, is_old))
    success = layout.success_field or _SUCCESS_FIELD
    is_own = is_old or _UNIT_ACTIONS in self.file.attrs
    if is_own and success != _SUCCESS_FIELD and success not in self.file:
      success = missing_success.own_success(self.path, success, _SUCCESS_FIELD)
    fields = {**{name: name for name in _COLUMNS}, 'success': success}
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
    rows[rows_lib.CONTINUED] = ~np.any(ends, axis=0)
    rows['terminals'] = (success != 0) & self._layout.ends_at_success
    if 'timeouts' in rows:
      rows['timeouts'] = np.where(rows['terminals'], 0, rows['timeouts'])


class EpisodeFile:
  """Writes episodes one at a time; a context manager.

  The file appears at its path only when it is complete. After an error, no file
  is left behind, unless `keeps_unfinished`.
  """

  def __init__(
      self,
      path: str,
      *,
      metadata: Optional[Mapping[str, Any]] = None,
      has_next_observations: bool = True,
      has_successes: bool = True,
      has_unit_actions: bool = True,
      keeps_unfinished: bool = False,
  ):
    """Creates the file.

    Args:
      path: Path of the file.
      metadata: Numbers and strings, stored as attributes of group `metadata`.
      has_next_observations: Whether to write `next_observations`. Requires
        that every episode has its last observation.
      has_successes: Whether to write `infos/success`. Without it, readers infer
        success from the reward.
      has_unit_actions: Whether the actions are known to have been mapped to
        [-1, 1]. Readers then ignore `dataset.action_bounds`.
      keeps_unfinished: Whether the episodes added before an error are kept, in
        a file whose name has `.unfinished-1` (or the next free number) before
        its extension.
    """
    self._path = path
    self._keeps_unfinished = keeps_unfinished
    self._num_rows = self._num_episodes = 0  # Written to the file.
    self._partial_path = path + '.partial'
    self._has_next_observations = has_next_observations
    self._has_successes = has_successes
    self._names: Set[str] = set()  # Empty before the first episode.
    # Buffers rows, because HDF5 compresses whole chunks.
    self._pending: List[Dict[str, np.ndarray]] = []
    self._num_pending = self._pending_bytes = 0
    self._file = h5py.File(self._partial_path, 'w')
    self._file.attrs[_UNIT_ACTIONS] = has_unit_actions
    attributes = self._file.create_group('metadata').attrs
    for name, value in (metadata or {}).items():
      attributes[name] = value

  def __enter__(self) -> 'EpisodeFile':
    return self

  def __exit__(self, error_type, error, traceback) -> None:
    is_complete = False
    try:
      if error_type is None or self._keeps_unfinished:
        self._flush()
      is_complete = error_type is None
    except OSError:  # For instance, a full disk, which the error may name.
      if error_type is None:
        raise
    finally:
      self._close(is_complete)

  def _close(self, is_complete: bool) -> None:
    """Closes the file and gives it its name, or removes it."""
    try:
      for name in self._names:  # A write may have failed half-way.
        if name in self._file:
          self._file[name].resize(self._num_rows, axis=0)
    finally:
      self._file.close()
      if is_complete:
        synced_file.sync(self._partial_path)
        os.replace(self._partial_path, self._path)
        synced_file.sync(os.path.dirname(self._path) or '.')
      elif self._keeps_unfinished and self._num_episodes:
        path = synced_file.free_path(self._path, 'unfinished')
        os.rename(self._partial_path, path)
        logging.warning(
            'Kept the %d complete episodes of the unfinished dataset: %s.',
            self._num_episodes,
            path,
        )
      else:
        os.remove(self._partial_path)

  def append(
      self,
      episode: types.Episode,
      infos: Optional[Mapping[str, np.ndarray]] = None,
  ) -> None:
    """Adds an episode.

    Args:
      episode: Episode of T steps.
      infos: Arrays `[T, ...]`, stored as `infos/<name>`.

    Raises:
      ValueError: If the episode does not fit the layout, or differs in columns
        or shapes from the first episode.
    """
    rows = self._rows(episode)
    others = {f'infos/{name}': x for name, x in (infos or {}).items()}
    if taken := rows.keys() & others:
      raise ValueError(f'{self._path}: {taken} must not be among the infos.')
    rows |= others
    if not self._names:
      self._names = set(rows)
      for name, array in rows.items():
        self._file.create_dataset(
            name,
            shape=(0,) + array.shape[1:],
            maxshape=(None,) + array.shape[1:],
            chunks=(_chunk_rows(array),) + array.shape[1:],
            dtype=array.dtype,
            compression='gzip',
            shuffle=True,
        )
    self._check(rows, episode)
    self._pending.append(rows)
    self._num_pending += episode.num_steps
    self._pending_bytes += sum(array.nbytes for array in rows.values())
    if self._num_pending >= _CHUNK_ROWS or self._pending_bytes >= _READ_BYTES:
      self._flush()

  def _flush(self) -> None:
    """Writes the pending rows. After an interruption it can be repeated."""
    if not self._pending:
      return
    self._check_space()
    for name in self._names:
      array = np.concatenate([rows[name] for rows in self._pending])
      column = self._file[name]
      column.resize(self._num_rows + len(array), axis=0)
      column[self._num_rows:] = array
    self._num_rows += self._num_pending
    self._num_episodes += len(self._pending)
    self._pending, self._num_pending, self._pending_bytes = [], 0, 0

  def _check_space(self) -> None:
    """Raises `OSError` on a full disk, on which HDF5 would end the process."""
    columns = [self._file[name] for name in self._names]
    # HDF5 still holds the last chunk of each column.
    held = sum(x.dtype.itemsize * math.prod(x.chunks) for x in columns)
    folder = os.path.dirname(os.path.abspath(self._path))
    if shutil.disk_usage(folder).free < held + self._pending_bytes:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)

  def _rows(self, episode: types.Episode) -> Dict[str, np.ndarray]:
    observation = episode.observation
    parts = {rows_lib.OBSERVATIONS: observation}
    if isinstance(observation, Mapping):
      parts = {
          f'{rows_lib.OBSERVATIONS}/{key}': x for key, x in observation.items()
      }
    for name, array in parts.items():
      if not isinstance(array, np.ndarray):
        raise ValueError(
            f'{self._path}: `{name}` must be an array, got'
            f' {type(array).__name__}; a nest must be flat.'
        )
    discount = episode.discount
    if types.wrong_discount(discount) is not None:
      raise ValueError(
          f'{self._path}, episode {episode.episode_id}: `discount` must be 1,'
          f' except in the last step, where it may be 0, got {discount}.'
      )
    terminal = discount == 0
    timeout = np.zeros_like(terminal)
    timeout[-1] = not terminal[-1]
    rows = {
        **{name: array[:-1] for name, array in parts.items()},
        'actions': episode.action,
        'rewards': episode.reward,
        'terminals': terminal,
        'timeouts': timeout,
    }
    if self._has_successes:
      rows['infos/success'] = episode.success
    if self._has_next_observations:
      if not episode.has_last_transition:
        raise ValueError(
            f'{self._path}: `has_next_observations` must be False, because'
            f' episode {episode.episode_id} lacks its last observation.'
        )
      rows |= {rows_lib.next_name(name): x[1:] for name, x in parts.items()}
    return rows

  def _check(
      self, rows: Mapping[str, np.ndarray], episode: types.Episode
  ) -> None:
    where = f'{self._path}, episode {episode.episode_id}'
    if set(rows) != self._names:
      raise ValueError(
          f'{where}: must have the columns {sorted(self._names)} of the first'
          f' episode, got {sorted(rows)}.'
      )
    for name, array in rows.items():
      shape = (episode.num_steps,) + self._file[name].shape[1:]
      if array.shape != shape:
        raise ValueError(
            f'{where}: `{name}` must have shape {shape}, got {array.shape}.'
        )
      dtype = self._file[name].dtype
      # Integers would hold fractions, and bytes a scaled image, as zeros.
      if not np.can_cast(array.dtype, dtype, 'same_kind') or (
          (array.dtype == np.uint8) != (dtype == np.uint8)
      ):
        raise ValueError(
            f'{where}: `{name}` must have dtype {dtype}, as in the first'
            f' episode, got {array.dtype}.'
        )


def _chunk_rows(array: np.ndarray) -> int:
  """Returns the number of rows of a column's chunks."""
  row_bytes = array.dtype.itemsize * math.prod(array.shape[1:])
  return max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(row_bytes, 1)))
