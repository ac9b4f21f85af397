"""Append-only log of episodes, one file per episode.

The log is the source of truth: the replay tables are built from it.
"""

import io
import os
from typing import Any, Dict, Iterator, List, Optional

from absl import logging
import numpy as np

from parl_tf import episode_file
from parl_tf import synced_file
from parl_tf import types
from parl_tf.replay import checks

_TORN_SUFFIX = '.torn'
_ARRAYS = tuple(types.EPISODE_STEP_DTYPES)
_SCALARS = ('episode_id', 'policy_version', 'has_last_transition')


class EpisodeLog:
  """A directory with one `.npz` file per episode, in the order of appending.

  Each episode is written to a temporary file, synced, and renamed. It belongs
  to the log once its file has the final name. Temporary files left by a crash
  are ignored. Each `episode_id` occurs once.
  """

  def __init__(self, directory: str, drop_torn_end: bool = False):
    """Opens the log and creates the directory if it is missing.

    Args:
      directory: Directory of the episode files.
      drop_torn_end: Whether to rename the last file if it cannot be read. Use
        it if the sender resends that episode. An earlier unreadable file is an
        error.

    Raises:
      OSError: If the directory or its last file cannot be read.
      ValueError: If a file of the sequence is missing or duplicated.
    """
    self._directory = directory
    self._names: List[str] = []
    self._position_of_id: Dict[int, int] = {}
    self._num_files = 0
    self._step_spec: Optional[checks.StepSpec] = None
    synced_file.make_directory(directory)
    if drop_torn_end:
      self._drop_torn_end()
    self._scan()

  def __len__(self) -> int:
    """Returns the number of episodes."""
    return len(self._names)

  def append(self, episode: types.Episode) -> int:
    """Writes and syncs one episode.

    Args:
      episode: T steps; its `episode_id` must be new.

    Returns:
      The position of the episode in the log. If the log already has an episode
      with this id, the new one is dropped with a warning and the position of
      the existing one is returned.

    Raises:
      ValueError: If the episode is incomplete, is out of range, or differs in
        its spec from the first episode of the log. Nothing is written in that
        case.
    """
    episode_id = int(episode.episode_id)
    if episode_id in self._position_of_id:
      position = self._position_of_id[episode_id]
      logging.warning(
          'Dropping an episode: its id %d is already in %s.',
          episode_id,
          self._path(self._names[position]),
      )
      return position
    name = episode_file.name(self._num_files, episode_id)
    spec = checks.check_episode(self._path(name), episode)
    checks.check_step_spec(self._path(name), spec, self._first_spec(spec))
    _write(self._path(name), _to_arrays(episode))
    self._step_spec = spec
    self._num_files += 1
    return self._register(name, episode_id)

  def read(
      self, start: int = 0, stop: Optional[int] = None
  ) -> Iterator[types.Episode]:
    """Reads episodes in order.

    Args:
      start: First position.
      stop: Position after the last one to read, or None to read to the end.

    Yields:
      The episodes at positions `start` to `stop - 1`.

    Raises:
      OSError: If a file cannot be read.
      ValueError: If `start` or `stop` is outside the log, or a file is corrupt.
    """
    stop = len(self) if stop is None else stop
    if not 0 <= start <= stop <= len(self):
      raise ValueError(
          f'{self._directory}: positions must be in [0, {len(self)}], got '
          f'start {start} and stop {stop}.'
      )
    for name in self._names[start:stop]:
      yield read_episode(self._path(name))

  def _drop_torn_end(self) -> None:
    """Renames the last file if it cannot be read."""
    names = os.listdir(self._directory)
    names = sorted(filter(episode_file.PATTERN.fullmatch, names))
    if not names:
      return
    path = self._path(names[-1])
    try:
      read_episode(path)
    except ValueError as error:
      os.rename(path, path + _TORN_SUFFIX)
      logging.warning('Renamed to %s: %s', path + _TORN_SUFFIX, error)

  def _scan(self) -> None:
    """Finds the episodes in the directory."""
    names = sorted(os.listdir(self._directory))
    leftovers = [
        name for name in names if name.endswith(synced_file.PARTIAL_SUFFIX)
    ]
    if leftovers:
      logging.warning(
          'Ignoring incompletely written episodes in %s: %s.',
          self._directory,
          ', '.join(leftovers),
      )
    for match in filter(None, map(episode_file.PATTERN.fullmatch, names)):
      if int(match[1]) != self._num_files:
        raise ValueError(
            f'{self._directory}: file number {self._num_files} of the log is '
            f'missing or duplicated, got {match[0]} in its place.'
        )
      self._num_files += 1
      episode_id = int(match[2])
      if episode_id in self._position_of_id:
        logging.warning(
            'Dropping %s: its episode id is already in the log.',
            self._path(match[0]),
        )
      else:
        self._register(match[0], episode_id)

  def _register(self, name: str, episode_id: int) -> int:
    """Registers a file that has its final name and returns its position."""
    self._position_of_id[episode_id] = len(self._names)
    self._names.append(name)
    return len(self._names) - 1

  def _first_spec(self, spec: checks.StepSpec) -> checks.StepSpec:
    """Returns the spec of the log's first episode, or `spec` if it is empty."""
    if self._step_spec is None and self._names:
      name = self._names[0]
      path = self._path(name)
      self._step_spec = checks.check_episode(path, read_episode(path))
    return spec if self._step_spec is None else self._step_spec

  def _path(self, name: str) -> str:
    """Returns the path of a file in the log."""
    return os.path.join(self._directory, name)


def write_episode(path: str, episode: types.Episode) -> None:
  """Writes and syncs one episode atomically.

  After a crash, `path` has either the complete episode or no part of it.

  Args:
    path: Path of the file.
    episode: T steps.

  Raises:
    OSError: If the file cannot be written.
    ValueError: If the episode is incomplete or out of range.
  """
  checks.check_episode(path, episode)
  _write(path, _to_arrays(episode))


def read_episode(path: str) -> types.Episode:
  """Reads the episode in one file.

  Raises:
    OSError: If the file cannot be read; it may be undamaged.
    ValueError: If the file is corrupt.
  """
  # Read first: NumPy and zipfile raise `OSError` on some damaged files, too.
  with open(path, 'rb') as opened:
    contents = io.BytesIO(opened.read())
  try:
    with np.load(contents, allow_pickle=False) as file:
      arrays = {key: file[key] for key in file.files}
    return _from_arrays(arrays)
  except episode_file.READ_ERRORS as error:
    raise ValueError(f'{path} is not a readable episode: {error!r}.') from error


def _write(path: str, arrays: Dict[str, np.ndarray]) -> None:
  with synced_file.write(path) as file:
    np.savez(file, **arrays)


def _to_arrays(episode: types.Episode) -> Dict[str, np.ndarray]:
  """Returns the named arrays to write to a file."""
  arrays = {
      name: leaf
      for name, leaf in checks.named_leaves(episode)
      if name.startswith('observation')
  }
  arrays.update({name: getattr(episode, name) for name in _ARRAYS})
  arrays.update({name: np.asarray(getattr(episode, name)) for name in _SCALARS})
  return arrays


def _from_arrays(arrays: Dict[str, Any]) -> types.Episode:
  """Returns the episode from the named arrays of a file."""
  if 'observation' in arrays:
    observation: types.Nest = arrays['observation']
  else:
    prefix = 'observation/'
    observation = {
        name[len(prefix):]: leaf
        for name, leaf in arrays.items()
        if name.startswith(prefix)
    }
  return types.Episode(
      observation=observation,
      episode_id=int(arrays['episode_id']),
      policy_version=int(arrays['policy_version']),
      has_last_transition=bool(arrays['has_last_transition']),
      **{name: arrays[name] for name in _ARRAYS},
  )
