"""Episodes in D4RL's HDF5 layout, read and written without `d4rl`.

The layout is described in `inspection`. Files of D4RL itself have no
`next_observations`: there a terminal row is followed by its own observation,
and the last row of an episode that ends otherwise makes no transition.
"""

import os
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple

from absl import logging
import gin
import h5py
import numpy as np

from parl_tf import types
from parl_tf.datasets import inspection

_CHUNK_ROWS = 8_192


@gin.configurable(denylist=['path', 'observation_spec', 'action_spec'])
def read_episodes(
    path: str,
    *,
    observation_spec: Any = None,
    action_spec: Any = None,
    action_bounds: Tuple = (-1.0, 1.0),
    clip_actions: bool = False,
    success_field: Optional[str] = None,
    success_reward: float = 0.0,
) -> Iterator[types.Episode]:
  """Yields the episodes of a file, after a check of the whole file.

  Rows after the last end make an episode that stops as by a time-out. Memory
  holds some thousand rows and one episode.

  Args:
    path: HDF5 file.
    observation_spec: Spec of the task's observation, an array; None for any.
    action_spec: Spec of the task's action; None for any.
    action_bounds: `(low, high)` of the file's actions, each a number or `[A]`;
      they are mapped to -1 and 1.
    clip_actions: Whether to clip actions outside the bounds; else they are an
      error.
    success_field: Data set of flags that tell of success after each step; None
      for `infos/success` where it is there, else by the reward.
    success_reward: Without such a data set, rewards above it are successes.

  Returns:
    Iterator of episodes, numbered in the order of the file.

  Raises:
    ValueError: If the file has a fault; the message names all, with file,
      data set, row, what must hold and what was seen.
  """
  layout = inspection.Layout(
      observation_shape=_shape(observation_spec, 'observation_spec'),
      action_shape=_shape(action_spec, 'action_spec'),
      action_bounds=action_bounds,
      clip_actions=clip_actions,
      success_field=success_field,
      success_reward=success_reward,
  )
  found = inspection.inspect(path, layout)
  if found.faults:
    raise ValueError('\n'.join(found.faults))
  if found.num_trailing_rows:
    logging.warning(
        '%s: the last %d rows have no end; they are taken as timed out.',
        path, found.num_trailing_rows,
    )
  return _episodes(path, layout)


class EpisodeFile:
  """Writes episodes one after another; a context manager.

  The file appears under its name when it is complete, and not at all after an
  error.
  """

  def __init__(
      self,
      path: str,
      *,
      metadata: Optional[Mapping[str, Any]] = None,
      has_next_observations: bool = True,
  ):
    """Begins a file.

    Args:
      path: Where the file is to be.
      metadata: Numbers and strings, kept as attributes of group `metadata`.
      has_next_observations: Whether to write what followed each step, which
        episodes without last transition do not know.
    """
    self._path = path
    self._partial_path = path + '.partial'
    self._has_next_observations = has_next_observations
    self._names = None
    # Rows are compressed some thousands at a time.
    self._pending = []
    self._num_pending = 0
    self._file = h5py.File(self._partial_path, 'w')
    attributes = self._file.create_group('metadata').attrs
    for name, value in (metadata or {}).items():
      attributes[name] = value

  def __enter__(self) -> 'EpisodeFile':
    return self

  def __exit__(self, error_type, error, traceback) -> None:
    if error_type is None:
      self._flush()
    self._file.close()
    if error_type is None:
      os.replace(self._partial_path, self._path)
    else:
      os.remove(self._partial_path)

  def append(
      self,
      episode: types.Episode,
      infos: Optional[Mapping[str, np.ndarray]] = None,
  ) -> None:
    """Adds an episode and arrays `[T, ...]` written as `infos/<name>`.

    Raises:
      ValueError: If it does not fit the file or the layout.
    """
    rows = self._rows(episode)
    rows.update({f'infos/{name}': x for name, x in (infos or {}).items()})
    if self._names is None:
      self._names = set(rows)
      for name, array in rows.items():
        self._file.create_dataset(
            name,
            shape=(0,) + array.shape[1:],
            maxshape=(None,) + array.shape[1:],
            chunks=(_CHUNK_ROWS,) + array.shape[1:],
            dtype=array.dtype,
            compression='gzip',
            shuffle=True,
        )
    self._check(rows, episode)
    self._pending.append(rows)
    self._num_pending += episode.num_steps
    if self._num_pending >= _CHUNK_ROWS:
      self._flush()

  def _flush(self) -> None:
    for name in self._names if self._pending else ():
      array = np.concatenate([rows[name] for rows in self._pending])
      column = self._file[name]
      column.resize(len(column) + len(array), axis=0)
      column[-len(array):] = array
    self._pending, self._num_pending = [], 0

  def _rows(self, episode: types.Episode) -> Dict[str, np.ndarray]:
    observation = episode.observation
    if not isinstance(observation, np.ndarray):
      raise ValueError(
          f'{self._path}: `observation` must be one array, got'
          f' {type(observation).__name__}: the layout has no nested ones.'
      )
    terminal = episode.discount == 0
    timeout = np.zeros_like(terminal)
    timeout[-1] = not terminal[-1]
    rows = {
        'observations': observation[:-1],
        'actions': episode.action,
        'rewards': episode.reward,
        'terminals': terminal,
        'timeouts': timeout,
        'infos/success': episode.success,
    }
    if self._has_next_observations:
      if not episode.has_last_transition:
        raise ValueError(
            f'{self._path}: `has_next_observations` must be False, for episode'
            f' {episode.episode_id} does not know its last observation.'
        )
      rows['next_observations'] = observation[1:]
    return rows

  def _check(
      self, rows: Mapping[str, np.ndarray], episode: types.Episode
  ) -> None:
    where = f'{self._path}, episode {episode.episode_id}'
    if set(rows) != self._names:
      raise ValueError(
          f'{where}: must have the data sets {sorted(self._names)} of the first'
          f' episode, got {sorted(rows)}.'
      )
    for name, array in rows.items():
      shape = (episode.num_steps,) + self._file[name].shape[1:]
      if array.shape != shape:
        raise ValueError(
            f'{where}: `{name}` must have shape {shape}, got {array.shape}.'
        )


def write_episodes(
    path: str,
    episodes: Iterable[types.Episode],
    metadata: Optional[Mapping[str, Any]] = None,
    *,
    has_next_observations: bool = True,
) -> None:
  """Writes episodes to a file; see `EpisodeFile`."""
  with EpisodeFile(
      path, metadata=metadata, has_next_observations=has_next_observations
  ) as file:
    for episode in episodes:
      file.append(episode)


def _shape(spec: Any, name: str) -> Optional[Tuple[int, ...]]:
  if spec is None:
    return None
  if not hasattr(spec, 'shape'):
    raise ValueError(
        f'`{name}` must be one array, for the layout has no nested ones, got'
        f' {spec}.'
    )
  return tuple(spec.shape)


def _episodes(
    path: str, layout: inspection.Layout
) -> Iterator[types.Episode]:
  """Yields the episodes of a file without fault."""
  pieces, number = [], 0
  with h5py.File(path, 'r') as file:
    columns = inspection.find_columns(file, layout)
    for rows in inspection.read_rows(columns):
      start = 0
      for end in inspection.find_ends(rows) + 1:
        pieces.append(_slice(rows, start, end))
        yield _make_episode(pieces, layout, number)
        pieces, number, start = [], number + 1, end
      if start < len(rows['rewards']):
        pieces.append(_slice(rows, start, None))
  if pieces:
    yield _make_episode(pieces, layout, number)


def _slice(rows, start, end) -> Dict[str, np.ndarray]:
  return {name: array[start:end] for name, array in rows.items()}


def _make_episode(pieces, layout, number) -> types.Episode:
  """Makes an episode of consecutive rows."""
  # Copies, so that an episode does not keep its neighbours in memory.
  rows = {
      name: np.concatenate([piece[name] for piece in pieces])
      for name in pieces[0]
  }
  is_terminal = rows['terminals'].astype(np.bool_)
  last = rows.get('next_observations', rows['observations'])[-1:]
  return types.Episode(
      observation=np.concatenate([rows['observations'], last]).astype(
          np.float32
      ),
      action=inspection.scale_actions(rows['actions'], layout).clip(-1.0, 1.0),
      reward=rows['rewards'].astype(np.float32),
      discount=1.0 - is_terminal.astype(np.float32),
      success=inspection.find_successes(rows, layout),
      episode_id=number,
      has_last_transition='next_observations' in rows or bool(is_terminal[-1]),
  )
