"""Writes D4RL's HDF5 layout; see `d4rl`."""

import errno
import fcntl
import math
import os
import shutil
from typing import Any, BinaryIO, Dict, List, Mapping, Optional, Set

from absl import logging
import h5py
import numpy as np

from parl_tf import synced_file
from parl_tf import types
from parl_tf.datasets import d4rl
from parl_tf.datasets import kept_episodes
from parl_tf.datasets import rows as rows_lib

# Maximum bytes to write at once.
_WRITE_BYTES = 2**24
# Maxima of a compressed chunk, which is read and written as a whole. The bytes
# are those of HDF5's cache.
_CHUNK_ROWS = 8_192
_CHUNK_BYTES = 2**20


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
      has_continuations: bool = False,
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
      has_continuations: Whether to write `infos/continued`, which tells whether
        the recording continues after a step, possibly in the next episode.
      keeps_unfinished: Whether the episodes added before an error are kept, in
        a file whose name has `.unfinished-1` (or the next free number) before
        its extension. Those of a recording that is killed are in such a file
        once the next one to the same path begins.

    Raises:
      OSError: If another process writes to the same path.
    """
    self._path = path
    self._keeps_unfinished = keeps_unfinished
    self._num_rows = self._num_episodes = 0  # Written to the file.
    self._partial_path = path + '.partial'
    self._has_next_observations = has_next_observations
    self._has_successes = has_successes
    self._has_continuations = has_continuations
    self._names: Set[str] = set()  # Empty before the first episode.
    # Buffers rows, because HDF5 compresses whole chunks.
    self._pending: List[Dict[str, np.ndarray]] = []
    self._num_pending = self._pending_bytes = 0
    self._metadata = dict(metadata or {})
    # HDF5 has a lock, too, but empties the file before it takes it.
    self._lock = _locked(path + '.lock', path)
    self._file = h5py.File(self._partial_path, 'w')
    try:
      self._file.attrs[d4rl.UNIT_ACTIONS] = has_unit_actions
      attributes = self._file.create_group('metadata').attrs
      for name, value in self._metadata.items():
        attributes[name] = value
    except BaseException:
      self._file.close()
      os.remove(self._partial_path)
      self._unlock()
      raise
    self._kept = kept_episodes.KeptEpisodes(path)
    self._num_kept = 0
    if keeps_unfinished:
      self._keep_killed(has_unit_actions)

  def _keep_killed(self, has_unit_actions: bool) -> None:
    """Joins the episodes of an earlier recording that was killed, if any."""
    num_episodes = len(self._kept.paths())
    if num_episodes:
      path = synced_file.free_path(self._path, 'unfinished')
      with EpisodeFile(path, has_unit_actions=has_unit_actions) as file:
        self._kept.read(file.append_rows)
      logging.warning(
          'Kept the %d complete episodes of an earlier recording that was'
          ' killed: %s.',
          num_episodes,
          path,
      )
    self._kept.remove()

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
      try:
        self._close(is_complete)
      finally:
        self._unlock()

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
        # The episodes of `_kept` are removed below.
        synced_file.sync(self._partial_path)
        os.rename(self._partial_path, path)
        synced_file.sync(os.path.dirname(path) or '.')
        logging.warning(
            'Kept the %d complete episodes of the unfinished dataset: %s.',
            self._num_episodes,
            path,
        )
      else:
        os.remove(self._partial_path)
      if self._num_kept == self._num_episodes:
        self._kept.remove()
      elif self._num_kept:
        logging.warning(
            'Not all of the %d complete episodes could be joined. They are in'
            ' %s, and the next recording to the same file joins them.',
            self._num_kept,
            self._kept.directory,
        )

  def _unlock(self) -> None:
    os.remove(self._lock.name)
    self._lock.close()

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
    self._append(rows | others, f'episode {episode.episode_id}')
    if self._keeps_unfinished:
      self._kept.add(self._num_kept, rows | others, self._metadata)
      self._num_kept += 1

  def append_rows(
      self, rows: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
  ) -> None:
    """Adds the rows of an episode, and replaces the metadata of the file."""
    self._append(dict(rows), 'episode')
    for name, value in metadata.items():
      self._file['metadata'].attrs[name] = value

  def _append(self, rows: Dict[str, np.ndarray], label: str) -> None:
    if not self._names:
      self._names = set(rows)
      for name, array in rows.items():
        self._file.create_dataset(
            name,
            shape=(0,) + array.shape[1:],
            # HDF5 has no chunks of nothing, so an empty axis may grow.
            maxshape=(None, *(n or None for n in array.shape[1:])),
            chunks=(_chunk_rows(array), *(max(n, 1) for n in array.shape[1:])),
            dtype=array.dtype,
            compression='gzip',
            shuffle=True,
        )
    num_rows = len(rows['actions'])
    self._check(rows, num_rows, label)
    self._pending.append(rows)
    self._num_pending += num_rows
    self._pending_bytes += sum(array.nbytes for array in rows.values())
    if self._num_pending >= _CHUNK_ROWS or self._pending_bytes >= _WRITE_BYTES:
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
    if self._has_continuations:
      is_continued = np.ones_like(terminal)
      is_continued[-1] = episode.is_continued
      rows[d4rl.CONTINUED_FIELD] = is_continued
    if self._has_next_observations:
      if not episode.has_last_transition:
        raise ValueError(
            f'{self._path}: `has_next_observations` must be False, because'
            f' episode {episode.episode_id} lacks its last observation.'
        )
      rows |= {rows_lib.next_name(name): x[1:] for name, x in parts.items()}
    return rows

  def _check(
      self, rows: Mapping[str, np.ndarray], num_rows: int, label: str
  ) -> None:
    where = f'{self._path}, {label}'
    if set(rows) != self._names:
      raise ValueError(
          f'{where}: must have the columns {sorted(self._names)} of the first'
          f' episode, got {sorted(rows)}.'
      )
    for name, array in rows.items():
      shape = (num_rows,) + self._file[name].shape[1:]
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


def _locked(path: str, written_path: str) -> BinaryIO:
  """Opens a file and locks it against other processes.

  Raises:
    OSError: If another process has the lock.
  """
  file = open(path, 'wb')
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.close()
    raise OSError(f'{written_path}: another process writes to it.') from error
  return file
