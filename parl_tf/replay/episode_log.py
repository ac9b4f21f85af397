"""Append-only log of episodes, one file each: the truth behind the tables."""

import os
import re
from typing import Dict, Iterator, List, Optional
import zipfile
import zlib

from absl import logging
import numpy as np

from parl_tf import synced_file
from parl_tf import types
from parl_tf.replay import checks

_FILE_NAME = re.compile(r'episode_(\d{8})_(-?\d+)\.npz')
_TORN_SUFFIX = '.torn'
_ARRAYS = tuple(types.EPISODE_STEP_DTYPES)
_SCALARS = ('episode_id', 'policy_version', 'has_last_transition')
# What numpy and zipfile raise on a file that is cut short or overwritten.
_CORRUPTION_ERRORS = (
    EOFError, KeyError, OSError, ValueError, NotImplementedError,
    zipfile.BadZipFile, zlib.error,
)


class EpisodeLog:
  """A directory with one `.npz` file for each episode, in order of appending.

  An episode counts once its file stands under its final name: it is written
  under a temporary name, synced, and renamed. What a crash leaves under the
  temporary name is ignored. Each `episode_id` occurs once.
  """

  def __init__(self, directory: str, drop_torn_end: bool = False):
    """Opens the log, making the directory where it is missing.

    Args:
      directory: Where the episodes stand.
      drop_torn_end: Whether a last file that cannot be read is put aside, where
        its sender will send it anew. An unreadable one before it is an error.

    Raises:
      ValueError: If a file of the sequence is missing or stands twice.
    """
    self._directory = directory
    self._names: List[str] = []
    self._position_of_id: Dict[int, int] = {}
    self._num_files = 0
    self._step_spec: Optional[checks.StepSpec] = None
    os.makedirs(directory, exist_ok=True)
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
      Its position in the log. An episode whose id is in the log already is
      dropped with a warning, and the position is that of the one which stands.

    Raises:
      ValueError: If the episode is not whole, out of range, or unlike the
        first of the log; nothing is then written.
    """
    episode_id = int(episode.episode_id)
    if episode_id in self._position_of_id:
      position = self._position_of_id[episode_id]
      logging.warning(
          'Dropping an episode whose id %d stands in %s already.',
          episode_id,
          self._path(self._names[position]),
      )
      return position
    name = f'episode_{self._num_files:08d}_{episode_id}.npz'
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
      stop: Position after the last, or None for all.

    Yields:
      The episodes at positions `start` to `stop - 1`.

    Raises:
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
    """Puts the last file aside where it cannot be read."""
    names = sorted(filter(_FILE_NAME.fullmatch, os.listdir(self._directory)))
    if not names:
      return
    path = self._path(names[-1])
    try:
      read_episode(path)
    except ValueError as error:
      os.rename(path, path + _TORN_SUFFIX)
      logging.warning('Put aside as %s: %s', path + _TORN_SUFFIX, error)

  def _scan(self) -> None:
    """Finds what stands in the directory."""
    names = sorted(os.listdir(self._directory))
    leftovers = [
        name for name in names if name.endswith(synced_file.PARTIAL_SUFFIX)
    ]
    if leftovers:
      logging.warning(
          'Ignoring episodes in %s that were not written to the end: %s.',
          self._directory,
          ', '.join(leftovers),
      )
    for match in filter(None, map(_FILE_NAME.fullmatch, names)):
      if int(match[1]) != self._num_files:
        raise ValueError(
            f'{self._directory}: file number {self._num_files} of the log is '
            f'missing or doubled, got {match[0]} in its place.'
        )
      self._num_files += 1
      episode_id = int(match[2])
      if episode_id in self._position_of_id:
        logging.warning(
            'Dropping %s: its episode id stands in the log already.',
            self._path(match[0]),
        )
      else:
        self._register(match[0], episode_id)

  def _register(self, name: str, episode_id: int) -> int:
    """Counts a file that stands under its final name."""
    self._position_of_id[episode_id] = len(self._names)
    self._names.append(name)
    return len(self._names) - 1

  def _first_spec(self, spec: checks.StepSpec) -> checks.StepSpec:
    """Returns the spec that the log's first episode set."""
    if self._step_spec is None and self._names:
      name = self._names[0]
      path = self._path(name)
      self._step_spec = checks.check_episode(path, read_episode(path))
    return spec if self._step_spec is None else self._step_spec

  def _path(self, name: str) -> str:
    """Returns the path of a file of the log."""
    return os.path.join(self._directory, name)


def write_episode(path: str, episode: types.Episode) -> None:
  """Writes and syncs one episode: it stands whole under `path` or not at all.

  Args:
    path: Of the file.
    episode: T steps.

  Raises:
    OSError: If it cannot be written.
    ValueError: If the episode is not whole or out of range.
  """
  checks.check_episode(path, episode)
  _write(path, _to_arrays(episode))


def read_episode(path: str) -> types.Episode:
  """Reads one file.

  Raises:
    ValueError: If it is corrupt.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = {key: file[key] for key in file.files}
    return _from_arrays(arrays)
  except _CORRUPTION_ERRORS as error:
    raise ValueError(f'{path} is not a readable episode: {error!r}.') from error


def _write(path: str, arrays: Dict[str, np.ndarray]) -> None:
  with synced_file.write(path) as file:
    np.savez(file, **arrays)


def _to_arrays(episode: types.Episode) -> Dict[str, np.ndarray]:
  """Returns the named arrays that a file holds."""
  arrays = {
      name: leaf
      for name, leaf in checks.named_leaves(episode)
      if name.startswith('observation')
  }
  arrays.update({name: getattr(episode, name) for name in _ARRAYS})
  arrays.update({name: np.asarray(getattr(episode, name)) for name in _SCALARS})
  return arrays


def _from_arrays(arrays: Dict[str, np.ndarray]) -> types.Episode:
  """Returns the episode of which a file holds the named arrays."""
  if 'observation' in arrays:
    observation = arrays['observation']
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
