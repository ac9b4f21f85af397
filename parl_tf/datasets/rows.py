"""Datasets as rows of steps, the common representation of all formats.

Readers of all formats use these column names:

  observations  `[rows, ...]`, or `observations/<key>` for each part of a nest
  actions       `[rows, A]`
  rewards       `[rows]`, raw
  terminals     `[rows]`, 1 if the step terminates the episode
  timeouts      `[rows]`, 1 if the episode ends without terminating; optional
  next_observations[/<key>]  observation after the step; optional
  success       `[rows]`, 1 if the task is solved after the step; optional
  episode_ids   `[rows]`, number of the episode in the file; optional
  continued     `[rows]`, 1 if the recording continues after the step; optional
"""

import abc
from typing import (
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from parl_tf import action_range

OBSERVATIONS = 'observations'
NEXT_OBSERVATIONS = 'next_observations'
REQUIRED = (OBSERVATIONS, 'actions', 'rewards', 'terminals')
DEMONSTRATIONS_HINT = (
    '; if every episode solves the task, bind `dataset.every_episode_succeeds ='
    ' True`'
)
CONTINUED = 'continued'
FLAGS = ('terminals', 'timeouts', 'success', CONTINUED)
SCALARS = ('rewards', *FLAGS, 'episode_ids')

Rows = Mapping[str, np.ndarray]
"""Consecutive rows: arrays `[rows, ...]`, keyed by column name."""

TASK_SUCCESSES = 'infos/task_successes'
"""Successes `[rows, tasks]` of the tasks of play data."""


class DamagedFileError(ValueError):
  """A file is truncated, corrupt or in another format."""


class Column(NamedTuple):
  """Header of a column, known before its data is read.

  Attributes:
    shape: `[rows, ...]`; rows is None if it is unknown before the data is read.
    dtype: Type of the entries.
    label: Name in the file, used in error messages.
  """

  shape: Tuple[Optional[int], ...]
  dtype: np.dtype
  label: str


class Layout(NamedTuple):
  """Expected contents of a dataset and how to read them.

  Attributes:
    observation_shape: Shape of one observation, or a dict of the shapes of its
      parts; None accepts any.
    observation_dtype: Dtype of an observation in memory, or a dict of those of
      its parts; bytes are stored as they are. None accepts any.
    action_shape: Shape of one action; None accepts any.
    action_bounds: `(low, high)` of the stored actions, each a number or `[A]`;
      mapped to -1 and 1. Ignored for datasets with actions in [-1, 1] that the
      library wrote.
    raw_action_bounds: `(low, high)` of the task's actions in its own units,
      each `[A]`; None if they are unknown.
    clip_actions: Whether to clip actions outside the bounds. If False, such
      actions are a fault.
    checks_actions: Whether actions outside the bounds are a fault at all; False
      if their units are unknown.
    reward_values: Allowed values of the raw reward; None allows any.
    reward_range: Lowest and highest raw reward of a row; None if unknown.
    success_field: Name of the stored flags that mark success after each step.
      None uses the format's own flags if there are any, otherwise the reward.
    success_reward: Without success flags, steps with a reward above this value
      are successes; infinity if none is expected.
    is_binary: Whether to replace the stored reward with 1 at the first success,
      which ends the episode, and 0 before it. All other ends are time limits,
      whatever the file says.
    every_episode_succeeds: Whether the last step of each episode solves the
      task, whatever the stored rewards and flags; see `demonstrations`.
    observation_keys: Parts of a nested observation to read; None reads all.
    concatenated_keys: Parts of a nested observation to concatenate to one
      array, in this order; None keeps them. Observations that are one array in
      the file are read as they are.
    task: Zero-based index of the task whose rewards and successes to read from
      a play dataset, see `d4rl`; None reads the standard columns.
    ends_at_success: Whether success in `task` ends the episode, so that the
      later rows form another one.
    max_episode_steps: Time limit of the task, in steps; None if unknown.
  """

  observation_shape: Optional[object] = None
  observation_dtype: Optional[object] = None
  action_shape: Optional[Tuple[int, ...]] = None
  action_bounds: Tuple = (-1.0, 1.0)
  raw_action_bounds: Optional[Tuple[np.ndarray, np.ndarray]] = None
  clip_actions: bool = False
  checks_actions: bool = True
  reward_values: Optional[Tuple[float, ...]] = None
  reward_range: Optional[Tuple[float, float]] = None
  success_field: Optional[str] = None
  success_reward: float = 0.0
  is_binary: bool = False
  every_episode_succeeds: bool = False
  observation_keys: Optional[Tuple[str, ...]] = None
  concatenated_keys: Optional[Tuple[str, ...]] = None
  task: Optional[int] = None
  ends_at_success: bool = True
  max_episode_steps: Optional[int] = None


class RowSource(abc.ABC):
  """An open dataset; a context manager.

  Attributes:
    path: File or directory.
    columns: Headers of the columns found, keyed by the names above. The source
      does not check them for completeness or equal lengths; `RowScan` does.
    faults: Faults specific to the format, each with path and field.
    has_unit_actions: Whether the dataset is one that the library wrote with
      actions in [-1, 1].
    recorded_bounds: Lows and highs of the task's own actions, each `[A]`, where
      the library recorded them; None if unknown.
    needs_successes: Whether an episode is terminal only where it succeeds,
      because the format does not tell a time-out from the end of the task.
    is_play: Whether there are rewards and successes of several tasks.
    has_continuations: Whether recordings may go on after an episode, so that
      the rows have `CONTINUED`.
    found: Names and shapes of everything that the dataset has, to be named if a
      column is missing; empty if the format prescribes all names.
  """

  path: str
  columns: Mapping[str, Column]
  faults: List[str]
  has_unit_actions: bool = False
  recorded_bounds: Optional[np.ndarray] = None
  needs_successes: bool = False
  is_play: bool = False
  has_continuations: bool = False
  found: Sequence[str] = ()

  def __enter__(self) -> 'RowSource':
    return self

  def __exit__(self, error_type, error, traceback) -> None:
    self.close()

  def fit(self, layout: Layout) -> Layout:
    """Returns the layout with the action bounds of this dataset."""
    if not self.has_unit_actions:
      return layout
    return layout._replace(action_bounds=(-1.0, 1.0), raw_action_bounds=None)

  def task_infos(self) -> Dict[str, np.ndarray]:
    """Returns rewards and successes of all tasks of a play dataset, or {}.

    Returns:
      `task_rewards` and `task_successes`, `[rows, tasks]`.
    """
    return {}

  @abc.abstractmethod
  def close(self) -> None:
    """Closes all open files."""

  @abc.abstractmethod
  def read(self) -> Iterator[Rows]:
    """Yields all rows in order, in batches small enough to bound memory.

    A batch that holds exactly one episode may omit `next_observations` if the
    observation after its last step is unknown.

    Raises:
      DamagedFileError: If part of the dataset cannot be read.
    """


class WrappedSource(RowSource):
  """A dataset that changes some columns of another one.

  Attributes:
    wrapped: The other dataset.
  """

  def __init__(self, source: RowSource):
    """Wraps a dataset, which is closed with this one."""
    self.wrapped = source
    self.path = source.path
    self.faults = source.faults
    self.has_unit_actions = source.has_unit_actions
    self.recorded_bounds = source.recorded_bounds
    self.found = source.found
    self.is_play = source.is_play
    self.has_continuations = source.has_continuations

  def close(self) -> None:
    self.wrapped.close()

  def task_infos(self) -> Dict[str, np.ndarray]:
    return self.wrapped.task_infos()


class EpisodeColumns:
  """Merges the column headers of a dataset stored episode by episode.

  Attributes:
    faults: Messages; each kind of fault is reported only once.
    num_steps: Number of steps of each episode added.
  """

  def __init__(
      self,
      path: str,
      required: Mapping[str, str],
      *,
      has_last_observation: bool,
  ):
    """Initializes without episodes.

    Args:
      path: Path of the dataset, used in error messages.
      required: Columns every episode must have, mapped to their names in the
        format.
      has_last_observation: Whether observations have one more row than the
        other columns: the observation after the last step.
    """
    self.faults: List[str] = []
    self.num_steps: List[int] = []
    self._path = path
    self._required = required
    self._has_last_observation = has_last_observation
    self._kinds: Set[str] = set()
    self._first_episode = ''
    self._first: Mapping[str, Column] = {}

  def add(self, episode: str, columns: Mapping[str, Column]) -> None:
    """Adds the next episode.

    Args:
      episode: Name of the episode in the file, used in error messages.
      columns: Column headers of the episode.
    """
    if not self.num_steps:
      self._first_episode, self._first = episode, columns
    for name, field in self._required.items():
      if not part_names(columns, name):
        self.fault(f'{episode}/{field}', 'is required but missing',
                   kind=f'no {name}')
    self.num_steps.append(self._count_steps(episode, columns))
    labels, wanted = (
        sorted({x.label for x in y.values()}) for y in (columns, self._first)
    )
    if labels != wanted:
      self.fault(episode, f'must contain {wanted}, as `{self._first_episode}`'
                 f' does, got {labels}')
    for name in columns.keys() & self._first.keys():
      seen, first = columns[name], self._first[name]
      is_same_kind = _kind(name, seen) == _kind(name, first)
      if seen.shape[1:] != first.shape[1:] or not is_same_kind:
        self.fault(
            f'{episode}/{seen.label}',
            f'must have rows of shape {first.shape[1:]} and {first.dtype}, as'
            f' in `{self._first_episode}`, got {seen.shape[1:]} and'
            f' {seen.dtype}',
            kind=f'unlike {name}',
        )

  def fault(self, field: str, message: str, *, kind: str = '') -> None:
    """Records a fault, unless one of the same kind or message exists."""
    if (kind or message) not in self._kinds:
      self._kinds.add(kind or message)
      self.faults.append(f'{self._path}: `{field}` {message}.')

  def total(self) -> Dict[str, Column]:
    """Returns the headers of the concatenated columns of all episodes."""
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
    """Returns the number of steps, and checks that all columns agree on it."""
    measures = [columns[x] for x in ('actions', 'rewards') if x in columns]
    if not measures:
      return 0  # `RowScan` reports the missing columns.
    num_steps = measures[0].shape[0] if measures[0].shape else 0
    if not num_steps:
      self.fault(f'{episode}/{measures[0].label}',
                 'must have at least one row (one per step), got none')
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
  """Returns the next-observation column of an observation column."""
  return NEXT_OBSERVATIONS + name[len(OBSERVATIONS):]


def part_names(columns: Mapping[str, object], field: str) -> List[str]:
  """Returns the columns of a field: the field itself, or its parts."""
  return [x for x in columns if x == field or x.startswith(f'{field}/')]


def nest_of(rows: Rows, field: str) -> object:
  """Returns the array of a field, or a dict of the arrays of its parts."""
  if field in rows:
    return rows[field]
  return {x[len(field) + 1:]: rows[x] for x in part_names(rows, field)}


def flatten_scalars(rows: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
  """Reshapes scalar columns to `[rows]`; some files store `[rows, 1]`."""
  return {
      name: array.reshape([len(array)]) if name in SCALARS else array
      for name, array in rows.items()
  }


def cast_exactly(
    values: np.ndarray, dtype: np.dtype, where: str
) -> np.ndarray:
  """Casts stored numbers to the dtype that the metadata declares.

  Args:
    values: Numbers.
    dtype: The dtype. Floating point may round.
    where: File and column, for the error.

  Raises:
    DamagedFileError: If a number is none of the dtype.
  """
  with np.errstate(invalid='ignore'):
    cast = values.astype(dtype)
  if np.dtype(dtype).kind != 'f':
    is_wrong = cast != values
    if np.any(is_wrong):
      raise DamagedFileError(
          f'{where} must be {np.dtype(dtype)}, as declared, got'
          f' {values[is_wrong].flat[0]}.'
      )
  return cast


def scale_actions(actions: np.ndarray, layout: Layout) -> np.ndarray:
  """Maps stored actions `[rows, A]` to float32 in [-1, 1], without clipping."""
  stored_range = action_range.ActionRange(layout.action_bounds, np.float64)
  return stored_range.from_raw(actions).astype(np.float32)


def find_successes(rows: Rows, layout: Layout) -> np.ndarray:
  """Returns `[rows]` bool, whether the task is solved after each step."""
  if 'success' in rows:
    return rows['success'].astype(np.bool_)
  return rows['rewards'] > layout.success_reward


def find_ends(rows: Rows) -> np.ndarray:
  """Returns the indices of the rows that end an episode."""
  flags = [rows[x] != 0 for x in ('terminals', 'timeouts') if x in rows]
  return np.flatnonzero(np.any(flags, axis=0))


def _kind(name: str, column: Column) -> str:
  """Returns the dtype kind; 'f' for any numeric kind of a scalar column."""
  kind = column.dtype.kind
  return 'f' if name in SCALARS and kind in 'biu' else kind
