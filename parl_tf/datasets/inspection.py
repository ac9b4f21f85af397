"""Looks through a file in D4RL's HDF5 layout and names every fault in it.

The layout is flat: `observations`, `actions`, `rewards` and `terminals` of one
row a step, where `timeouts`, `next_observations` and `infos/*` may be missing.
Only a few thousand rows are in memory at a time.
"""

import os
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import h5py
import numpy as np

_REQUIRED = ('observations', 'actions', 'rewards', 'terminals')
_OPTIONAL = ('timeouts', 'next_observations')
_FLAGS = ('terminals', 'timeouts', 'success')
_SUCCESS_FIELD = 'infos/success'
_CHUNK_ROWS = 16_384
# Rounding to float32 takes rescaled actions this far outside [-1, 1].
_ACTION_TOLERANCE = 1e-5
# Mean absolute error allowed between a step's successor and the next row.
_SUCCESSOR_TOLERANCE = 1e-4


class Layout(NamedTuple):
  """What a file is expected to hold and how it is read.

  Attributes:
    observation_shape: Shape of one observation, None for any.
    action_shape: Shape of one action, None for any.
    action_bounds: `(low, high)` of the file's actions, each a number or `[A]`,
      which are mapped to -1 and 1.
    clip_actions: Whether actions outside the bounds are clipped; else they are
      faults.
    success_field: Data set of flags that tell of success after each step; None
      for `infos/success` where it is there, else by the reward.
    success_reward: Without such a data set, rewards above it are successes.
  """

  observation_shape: Optional[Tuple[int, ...]] = None
  action_shape: Optional[Tuple[int, ...]] = None
  action_bounds: Tuple = (-1.0, 1.0)
  clip_actions: bool = False
  success_field: Optional[str] = None
  success_reward: float = 0.0


class Inspection(NamedTuple):
  """What a file holds.

  Attributes:
    faults: One message each, empty for a file without fault. Where the file
      cannot be read to its end, the figures count what was read.
    shapes: Shape of each data set that was looked at.
    num_rows: Rows read.
    num_terminals: Rows that end the task.
    num_timeouts: Rows that end an episode otherwise.
    num_trailing_rows: Rows after the last end, an episode of their own.
    lengths: Steps of each episode, trailing rows included.
    returns: Undiscounted raw return of each episode.
    successes: Whether each episode has a success.
    observation_range: Least and greatest value, `[D]` each; None without rows.
    action_range: Likewise, as in the file.
    saturation: Share of action entries at or beyond the bounds.
  """

  faults: List[str]
  shapes: Mapping[str, Tuple[int, ...]]
  num_rows: int = 0
  num_terminals: int = 0
  num_timeouts: int = 0
  num_trailing_rows: int = 0
  lengths: np.ndarray = np.zeros([0], np.int64)
  returns: np.ndarray = np.zeros([0])
  successes: np.ndarray = np.zeros([0], np.bool_)
  observation_range: Optional[Tuple[np.ndarray, np.ndarray]] = None
  action_range: Optional[Tuple[np.ndarray, np.ndarray]] = None
  saturation: float = 0.0


def inspect(path: str, layout: Optional[Layout] = None) -> Inspection:
  """Reads a file from end to end and names every kind of fault once."""
  layout = layout or Layout()
  if not os.path.isfile(path):
    return Inspection([f'{path}: there is no such file.'], {})
  scan = _Scan(path, layout)
  try:
    with h5py.File(path, 'r') as file:
      columns = find_columns(file, layout)
      scan.check_header(columns)
      if not scan.faults:
        for rows in read_rows(columns):
          scan.add(rows)
  except OSError as error:  # So h5py reports damage of every kind.
    scan.faults.append(
        f'{path}: must be a whole HDF5 file; it is cut short, damaged or of'
        f' another format ({error}).'
    )
  return scan.result()


def find_columns(file: h5py.File, layout: Layout) -> Dict[str, h5py.Dataset]:
  """Returns the data sets that make episodes, by their name here."""
  columns = {
      name: file[name] for name in _REQUIRED + _OPTIONAL if name in file
  }
  success_field = layout.success_field or _SUCCESS_FIELD
  if success_field in file:
    columns['success'] = file[success_field]
  return columns


def read_rows(
    columns: Mapping[str, h5py.Dataset],
) -> Iterator[Dict[str, np.ndarray]]:
  """Yields all rows in order, some thousands at a time."""
  for start in range(0, len(columns['rewards']), _CHUNK_ROWS):
    rows = {
        name: column[start:start + _CHUNK_ROWS]
        for name, column in columns.items()
    }
    for name, array in rows.items():
      if name in ('rewards',) + _FLAGS:
        rows[name] = array.reshape([len(array)])  # Some files have [rows, 1].
    yield rows


def scale_actions(actions: np.ndarray, layout: Layout) -> np.ndarray:
  """Maps the file's actions `[rows, A]` to float32 [-1, 1], unclipped."""
  low, high = (np.asarray(bound, np.float64) for bound in layout.action_bounds)
  return (2.0 * (actions - low) / (high - low) - 1.0).astype(np.float32)


def find_successes(rows: Mapping[str, np.ndarray], layout: Layout):
  """Returns whether each row `[rows]` is a success."""
  if 'success' in rows:
    return rows['success'].astype(np.bool_)
  return rows['rewards'] > layout.success_reward


def find_ends(rows: Mapping[str, np.ndarray]) -> np.ndarray:
  """Returns the indices of the rows that end an episode."""
  ends = rows['terminals'].astype(np.bool_)
  if 'timeouts' in rows:
    ends = ends | rows['timeouts'].astype(np.bool_)
  return np.flatnonzero(ends)


class _Scan:
  """Goes through a file's rows once, gathering faults and figures."""

  def __init__(self, path: str, layout: Layout):
    low, high = layout.action_bounds
    if not np.all(np.asarray(low) < np.asarray(high)):
      raise ValueError(
          '`action_bounds` must be (low, high) with low < high, got'
          f' {layout.action_bounds}.'
      )
    self.faults = []
    self._path = path
    self._layout = layout
    self._kinds = set()
    self._shapes = {}
    self._num_rows = self._num_terminals = self._num_timeouts = 0
    self._num_saturated = self._num_action_entries = 0
    self._ranges = {'observations': [], 'actions': []}
    self._lengths, self._returns, self._successes = [], [], []
    # Of the episode that is not at its end yet.
    self._length, self._return, self._success = 0, 0.0, False
    self._last_successor = None

  def check_header(self, columns: Mapping[str, h5py.Dataset]) -> None:
    """Checks which data sets there are, their dtypes and shapes."""
    for name in _REQUIRED:
      if name not in columns:
        self._fault(name, 'must be in the file, and is missing')
    field = self._layout.success_field
    if field is not None and 'success' not in columns:
      self._fault(field, 'must be in the file, and is missing')
    arrays = {}
    for name, column in columns.items():
      if not isinstance(column, h5py.Dataset):
        self._fault(name, 'must be a data set, and is a group')
        continue
      arrays[name] = column
      self._shapes[name] = column.shape
      kinds, wanted = 'f', 'floating point'
      if name in _FLAGS:
        kinds, wanted = 'buif', 'bool, or numbers 0 and 1'
      elif name == 'rewards':
        kinds, wanted = 'fiu', 'numbers'
      if column.dtype.kind not in kinds:
        self._fault(name, f'must be {wanted}, got dtype {column.dtype}')
    if not self.faults:
      self._check_shapes(arrays)

  def _check_shapes(self, columns: Mapping[str, h5py.Dataset]) -> None:
    shapes = {name: column.shape for name, column in columns.items()}
    num_rows = shapes['observations'][0] if shapes['observations'] else 0
    expected = {
        'observations': self._layout.observation_shape,
        'actions': self._layout.action_shape,
    }
    expected['next_observations'] = (
        expected['observations'] or shapes['observations'][1:]
    )
    for name, shape in shapes.items():
      if name in ('rewards',) + _FLAGS:
        if shape not in ((num_rows,), (num_rows, 1)):
          self._fault(name, f'must have shape {(num_rows,)}, one value for each'
                      f' row of `observations`, got {shape}')
        continue
      row_shape = expected[name]
      if row_shape is None:
        if len(shape) != 2 or shape[0] != num_rows or not shape[1]:
          self._fault(name, f'must have shape ({num_rows}, n), got {shape}')
      elif shape != (num_rows,) + tuple(row_shape):
        self._fault(
            name,
            f'must have shape {(num_rows,) + tuple(row_shape)}, got {shape}',
        )
    if not num_rows:
      self._fault('observations', 'must have at least one row, has none')

  def add(self, rows: Mapping[str, np.ndarray]) -> None:
    """Takes the next rows."""
    self._check_values(rows)
    self._check_ends(rows)
    self._check_successors(rows)
    self._count(rows)
    self._num_rows += len(rows['rewards'])

  def _check_values(self, rows: Mapping[str, np.ndarray]) -> None:
    for name, array in rows.items():
      if name in _FLAGS:
        self._fault_rows(name, (array != 0) & (array != 1), 'must be 0 or 1',
                         array)
      else:
        self._fault_rows(name, ~np.isfinite(array),
                         'must be finite, not NaN or infinite', array)
    actions = scale_actions(rows['actions'], self._layout)
    if not self._layout.clip_actions:
      low, high = self._layout.action_bounds
      self._fault_rows(
          'actions',
          np.abs(actions) > 1 + _ACTION_TOLERANCE,
          f'must be in [{low}, {high}] (`action_bounds`), unless `clip_actions`'
          ' is set',
          rows['actions'],
      )
    self._num_saturated += int(np.sum(np.abs(actions) >= 1))
    self._num_action_entries += actions.size

  def _check_ends(self, rows: Mapping[str, np.ndarray]) -> None:
    self._num_terminals += int(np.sum(rows['terminals'] != 0))
    if 'timeouts' in rows:
      self._num_timeouts += int(np.sum(rows['timeouts'] != 0))
      self._fault_rows(
          'timeouts',
          (rows['terminals'] != 0) & (rows['timeouts'] != 0),
          'must not be set where `terminals` is',
          rows['timeouts'],
      )

  def _check_successors(self, rows: Mapping[str, np.ndarray]) -> None:
    """Checks that a step leads to the next row within its episode."""
    if 'next_observations' not in rows:
      return
    ends = find_ends(rows)
    before = rows['next_observations'][:-1]
    if self._last_successor is None:
      before = np.concatenate([rows['observations'][:1], before])
    else:
      before = np.concatenate([self._last_successor[None], before])
    error = np.abs(before - rows['observations'])
    error = error.reshape([len(error), -1]).mean(axis=1)
    begins = ends + 1
    error[begins[begins < len(error)]] = 0.0
    self._fault_rows(
        'observations',
        error > _SUCCESSOR_TOLERANCE,
        'must equal `next_observations` of the row before, unless an episode'
        ' begins there',
        rows['observations'],
    )
    is_end = len(ends) and ends[-1] == len(error) - 1
    self._last_successor = None if is_end else rows['next_observations'][-1]

  def _count(self, rows: Mapping[str, np.ndarray]) -> None:
    for name, ranges in self._ranges.items():
      ranges.append((rows[name].min(axis=0), rows[name].max(axis=0)))
    rewards = np.asarray(rows['rewards'], np.float64)
    successes = find_successes(rows, self._layout)
    start = 0
    for end in find_ends(rows) + 1:
      self._take(rewards[start:end], successes[start:end])
      self._close_episode()
      start = end
    self._take(rewards[start:], successes[start:])

  def _take(self, rewards: np.ndarray, successes: np.ndarray) -> None:
    self._length += len(rewards)
    self._return += float(np.sum(rewards))
    self._success |= bool(np.any(successes))

  def _close_episode(self) -> None:
    if self._length:
      self._lengths.append(self._length)
      self._returns.append(self._return)
      self._successes.append(self._success)
    self._length, self._return, self._success = 0, 0.0, False

  def result(self) -> Inspection:
    """Returns what was found in all rows taken."""
    num_trailing_rows = self._length
    self._close_episode()
    if self._num_rows and not self._num_terminals + self._num_timeouts:
      self._fault('terminals', 'or `timeouts` must be set where an episode'
                  f' ends, and is not in any of {self._num_rows} rows')
    ranges = {
        name: (
            np.min([low for low, _ in pairs], axis=0),
            np.max([high for _, high in pairs], axis=0),
        ) if pairs else None
        for name, pairs in self._ranges.items()
    }
    return Inspection(
        faults=self.faults,
        shapes=self._shapes,
        num_rows=self._num_rows,
        num_terminals=self._num_terminals,
        num_timeouts=self._num_timeouts,
        num_trailing_rows=num_trailing_rows,
        lengths=np.array(self._lengths, np.int64),
        returns=np.array(self._returns),
        successes=np.array(self._successes, np.bool_),
        observation_range=ranges['observations'],
        action_range=ranges['actions'],
        saturation=self._num_saturated / max(self._num_action_entries, 1),
    )

  def _fault(self, name: str, message: str) -> None:
    self.faults.append(f'{self._path}: `{name}` {message}.')

  def _fault_rows(self, name, is_wrong, message, values) -> None:
    """Notes the first row `[rows, ...]` with a wrong value, once a kind."""
    if (name, message) in self._kinds or not np.any(is_wrong):
      return
    self._kinds.add((name, message))
    index = tuple(np.argwhere(is_wrong)[0])
    row = self._num_rows + int(index[0])
    entry = ''.join(f', entry {i}' for i in index[1:])
    value = values[index]
    seen = f'value {value}' if np.ndim(value) == 0 else f'{value}'
    self._fault(name, f'{message}; row {row}{entry} has {seen}')
