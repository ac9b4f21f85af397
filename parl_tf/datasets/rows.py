"""Data sets as rows, one a step: what every format is turned into.

Columns have these names, whatever a format calls them:

  observations  `[rows, ...]`, or `observations/<key>` of each part of a nest
  actions       `[rows, A]`
  rewards       `[rows]`, raw
  terminals     `[rows]`, 1 where the step ended the task
  timeouts      `[rows]`, 1 where an episode ended otherwise; may be missing
  next_observations[/<key>]  what followed each step; may be missing
  success       `[rows]`, 1 where the task is solved after the step; may be
                missing
  episode_ids   `[rows]`, the file's own number of the episode; may be missing
"""

import abc
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

OBSERVATIONS = 'observations'
NEXT_OBSERVATIONS = 'next_observations'
REQUIRED = (OBSERVATIONS, 'actions', 'rewards', 'terminals')
FLAGS = ('terminals', 'timeouts', 'success')
SCALARS = ('rewards', *FLAGS, 'episode_ids')

Rows = Mapping[str, np.ndarray]
"""Consecutive rows, `[rows, ...]` by the name of the column."""


class DamagedFileError(ValueError):
  """A file cannot be read to its end: cut short, damaged, of another format."""


class Column(NamedTuple):
  """What is known of a column before it is read.

  Attributes:
    shape: `[rows, ...]`; rows is None where only reading tells how many.
    dtype: Of its entries.
    label: Its name in the file, for messages.
  """

  shape: Tuple[Optional[int], ...]
  dtype: np.dtype
  label: str


class Layout(NamedTuple):
  """What a file is expected to hold and how it is read.

  Attributes:
    observation_shape: Shape of one observation, or of each part of a nest by
      its key; None for any.
    action_shape: Shape of one action, None for any.
    action_bounds: `(low, high)` of the file's actions, each a number or `[A]`,
      which are mapped to -1 and 1.
    clip_actions: Whether actions outside the bounds are clipped; else they are
      faults.
    reward_values: The only values that rewards may have; None for any.
    success_field: The file's name of flags that tell of success after each
      step; None for the format's own where it has one, else by the reward.
    success_reward: Without such flags, rewards above it are successes.
    is_binary: Whether the reward is 1 where the task is solved, which ends the
      episode, and 0 before, whatever rewards the file has.
    observation_keys: Parts of a nested observation that are read; None for all.
  """

  observation_shape: Optional[object] = None
  action_shape: Optional[Tuple[int, ...]] = None
  action_bounds: Tuple = (-1.0, 1.0)
  clip_actions: bool = False
  reward_values: Optional[Tuple[float, ...]] = None
  success_field: Optional[str] = None
  success_reward: float = 0.0
  is_binary: bool = False
  observation_keys: Optional[Tuple[str, ...]] = None


class RowSource(abc.ABC):
  """An open data set; a context manager.

  Attributes:
    path: File or directory.
    columns: What is there, by the names above. Columns that are missing, or
      have other lengths than the others, are found out by who reads.
    faults: What the format alone can tell is wrong, each with path and field.
  """

  path: str
  columns: Mapping[str, Column]
  faults: List[str]

  def __enter__(self) -> 'RowSource':
    return self

  def __exit__(self, error_type, error, traceback) -> None:
    self.close()

  @abc.abstractmethod
  def close(self) -> None:
    """Closes what is open."""

  @abc.abstractmethod
  def read(self) -> Iterator[Rows]:
    """Yields all rows in order, so few at a time that memory stays small.

    An episode that comes as one piece may lack `next_observations` where what
    followed its last step is unknown.

    Raises:
      DamagedFileError: If a part cannot be read.
    """


class EpisodeColumns:
  """Gathers the columns of a data set that is stored episode by episode.

  Attributes:
    faults: Of each kind of fault the first episode that has it.
    num_steps: Steps of each episode taken.
  """

  def __init__(
      self,
      path: str,
      required: Mapping[str, str],
      *,
      has_last_observation: bool,
  ):
    """Begins without an episode.

    Args:
      path: For messages.
      required: The format's names of the columns that each episode must have.
      has_last_observation: Whether observations have one row more than the
        rest: what followed the last step.
    """
    self.faults: List[str] = []
    self.num_steps: List[int] = []
    self._path = path
    self._required = required
    self._has_last_observation = has_last_observation
    self._kinds = set()
    self._first_episode = ''
    self._first: Mapping[str, Column] = {}

  def add(self, episode: str, columns: Mapping[str, Column]) -> None:
    """Takes the next episode.

    Args:
      episode: Its name in the file, for messages.
      columns: What it holds.
    """
    if not self.num_steps:
      self._first_episode, self._first = episode, columns
    for name, field in self._required.items():
      if not part_names(columns, name):
        self.fault(f'{episode}/{field}', 'must be in the file, and is missing',
                   kind=f'no {name}')
    self.num_steps.append(self._count_steps(episode, columns))
    labels, wanted = (
        sorted({x.label for x in y.values()}) for y in (columns, self._first)
    )
    if labels != wanted:
      self.fault(episode, f'must hold {wanted}, as `{self._first_episode}`'
                 f' does, and holds {labels}')
    for name in columns.keys() & self._first.keys():
      seen, first = columns[name], self._first[name]
      if seen.shape[1:] != first.shape[1:] or _kind(name, seen) != _kind(
          name, first
      ):
        self.fault(
            f'{episode}/{seen.label}',
            f'must have rows of shape {first.shape[1:]} and {first.dtype}, as'
            f' in `{self._first_episode}`, got {seen.shape[1:]} and'
            f' {seen.dtype}',
            kind=f'unlike {name}',
        )

  def fault(self, field: str, message: str, *, kind: str = '') -> None:
    """Notes a fault, unless one of its kind, or message, is noted already."""
    if (kind or message) not in self._kinds:
      self._kinds.add(kind or message)
      self.faults.append(f'{self._path}: `{field}` {message}.')

  def total(self) -> Dict[str, Column]:
    """Returns the columns of all episodes taken, one after another."""
    num_rows = sum(self.num_steps)
    columns = {
        name: column._replace(shape=(num_rows, *column.shape[1:]))
        for name, column in self._first.items()
    }
    if self._has_last_observation:
      for name in part_names(columns, OBSERVATIONS):
        columns[next_name(name)] = columns[name]
    return columns

  def _count_steps(self, episode, columns) -> int:
    """Returns the steps of an episode, whose arrays must agree on them."""
    measures = [columns[x] for x in ('actions', 'rewards') if x in columns]
    if not measures:
      return 0  # What is missing is found out by who reads.
    num_steps = measures[0].shape[0] if measures[0].shape else 0
    if not num_steps:
      self.fault(f'{episode}/{measures[0].label}',
                 'must have at least one row, a step each, and has none')
      return 0
    observations = part_names(columns, OBSERVATIONS)
    for name, column in columns.items():
      has_last = self._has_last_observation and name in observations
      num_rows = num_steps + has_last
      if column.shape[:1] != (num_rows,):
        self.fault(
            f'{episode}/{column.label}',
            f'must have {num_rows} rows for {num_steps} steps, got shape'
            f' {column.shape}',
            kind=f'uneven {name}',
        )
    return num_steps


def next_name(name: str) -> str:
  """Returns the column of what followed an observation's column."""
  return NEXT_OBSERVATIONS + name[len(OBSERVATIONS):]


def part_names(columns: Mapping[str, object], field: str) -> List[str]:
  """Returns the columns of a field: itself, or those of its parts."""
  return [x for x in columns if x == field or x.startswith(f'{field}/')]


def nest_of(rows: Rows, field: str) -> object:
  """Returns a field's array, or a dict of its parts' by key."""
  if field in rows:
    return rows[field]
  return {x[len(field) + 1:]: rows[x] for x in part_names(rows, field)}


def flatten_scalars(rows: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
  """Returns rows whose scalars are `[rows]`; some files have `[rows, 1]`."""
  return {
      name: array.reshape([len(array)]) if name in SCALARS else array
      for name, array in rows.items()
  }


def scale_actions(actions: np.ndarray, layout: Layout) -> np.ndarray:
  """Maps the file's actions `[rows, A]` to float32 [-1, 1], unclipped."""
  low, high = (np.asarray(bound, np.float64) for bound in layout.action_bounds)
  return (2.0 * (actions - low) / (high - low) - 1.0).astype(np.float32)


def find_successes(rows: Rows, layout: Layout) -> np.ndarray:
  """Returns whether each row `[rows]` is a success."""
  if 'success' in rows:
    return rows['success'].astype(np.bool_)
  return rows['rewards'] > layout.success_reward


def find_ends(rows: Rows) -> np.ndarray:
  """Returns the indices of the rows that end an episode."""
  ends = rows['terminals'].astype(np.bool_)
  if 'timeouts' in rows:
    ends = ends | rows['timeouts'].astype(np.bool_)
  return np.flatnonzero(ends)


def _kind(name: str, column: Column) -> str:
  """Returns a column's kind of dtype; among scalars, numbers are alike."""
  kind = column.dtype.kind
  return 'f' if name in SCALARS and kind in 'biu' else kind
