"""Checks the rows of a dataset and collects statistics, in a single pass."""

from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np

from parl_tf.datasets import missing_success
from parl_tf.datasets import rows as rows_lib
from parl_tf.datasets import successors

# Rounding to float32 moves rescaled actions up to this far outside [-1, 1].
_ACTION_TOLERANCE = 1e-5
# Relative to the largest reward that is allowed.
_REWARD_TOLERANCE = 1e-6
_MAX_NAMES = 12  # Of a file that lacks a column.


class RowScan:
  """Collects faults and summary statistics of rows in a single pass.

  Attributes:
    faults: Messages with path, field, expected and actual value, and row.
  """

  def __init__(self, path: str, layout: rows_lib.Layout):
    """Initializes the scan.

    Args:
      path: Path of the dataset, used in error messages.
      layout: Expected contents of the dataset.

    Raises:
      ValueError: If the layout's action bounds are invalid.
    """
    _check_bounds(layout.action_bounds)
    self.faults: List[str] = []
    self._path = path
    self._layout = layout
    self._kinds: Set[Tuple[str, str]] = set()
    self._labels: Dict[str, str] = {}
    self._num_rows = self._num_terminals = self._num_timeouts = 0
    self._num_both = 0  # Rows of which both flags are set.
    self._num_saturated = self._num_action_entries = 0
    self._ranges: Dict[str, Tuple[np.ndarray, np.ndarray]] = {}
    self._lengths: List[int] = []
    self._returns: List[float] = []
    self._successes: List[bool] = []
    self._rewards = missing_success.Rewards()
    # State of the current, unfinished episode.
    self._length, self._return, self._success = 0, 0.0, False
    self._last: Dict[str, Any] = {}

  def header_faults(
      self, columns: Mapping[str, rows_lib.Column], found: Sequence[str] = ()
  ) -> List[str]:
    """Checks the presence, dtypes and shapes of the columns; returns faults.

    Args:
      columns: The columns that the dataset has.
      found: See `RowSource.found`.
    """
    self._labels = {name: column.label for name, column in columns.items()}
    for name in rows_lib.REQUIRED:
      if not rows_lib.part_names(columns, name):
        hint = rows_lib.DEMONSTRATIONS_HINT if name == 'rewards' else ''
        self._fault(name, f'is required but missing{hint}')
    field = self._layout.success_field
    if field is not None and 'success' not in columns:
      self._fault(field, 'is required but missing')
    if self.faults and found:
      names = sorted(found, key=lambda x: x.count('/'))  # No group first.
      if len(names) > _MAX_NAMES:
        names[_MAX_NAMES:] = [f'{len(names) - _MAX_NAMES} others']
      self.faults[-1] += f' The file has {", ".join(names)}.'
    for name, column in columns.items():
      kinds, wanted = _kinds_of(name, column)
      task = self._task_dtype(name)
      if task is not None and (task == np.uint8) != (column.dtype == np.uint8):
        self._fault(name, f'must be {np.dtype(task)}, as in the task, got dtype'
                    f' {column.dtype}')
      elif column.dtype.kind not in kinds:
        self._fault(name, f'must be {wanted}, got dtype {column.dtype}')
    if not self.faults:
      self._check_shapes({name: x.shape for name, x in columns.items()})
    return self.faults

  def add(self, rows: rows_lib.Rows) -> None:
    """Checks and counts the next rows."""
    self._check_values(rows)
    self._check_ends(rows)
    self._check_episode_ids(rows)
    self._check_successors(rows)
    self._count(rows)
    self._num_rows += len(rows['rewards'])

  def finish(self) -> None:
    """Runs the checks that need all rows."""
    if self._num_rows and not self._num_terminals + self._num_timeouts:
      self._fault('terminals', 'or `timeouts` must be set at episode ends, but'
                  f' neither is set in any of {self._num_rows} rows')
    if self._num_both > self._num_timeouts:
      num_set = self._num_both + self._num_timeouts
      self._fault('timeouts', 'must seldom coincide with `terminals`, but does'
                  f' in {self._num_both} of the {num_set} rows where it is set.'
                  ' Clear `terminals` where only a time limit ended an episode')

  def figures(self) -> Dict[str, Any]:
    """Returns the statistics of all rows added, keyed as in `Inspection`."""
    num_trailing_rows = self._length
    self._close_episode()
    ranges = dict(self._ranges)
    action_range = ranges.pop('actions', None)
    reward_range = ranges.pop('rewards', None)
    return dict(
        num_rows=self._num_rows,
        num_terminals=self._num_terminals,
        num_timeouts=self._num_timeouts,
        num_trailing_rows=num_trailing_rows,
        lengths=np.array(self._lengths, np.int64),
        returns=np.array(self._returns),
        successes=np.array(self._successes, np.bool_),
        success_hint=(
            ''
            if not self._lengths or self.faults
            else self._rewards.hint(self._labels.get('success'), self._layout)
        ),
        action_hint='' if self.faults else self._action_hint(action_range),
        reward_range=reward_range and tuple(float(x) for x in reward_range),
        observation_ranges={self._labels[x]: y for x, y in ranges.items()},
        action_range=action_range,
        saturation=self._num_saturated / max(self._num_action_entries, 1),
    )

  def _action_hint(self, action_range) -> str:
    """Returns a hint if all actions are within the task's narrower bounds."""
    bounds = self._layout.raw_action_bounds
    if action_range is None or bounds is None:
      return ''
    (low, high), (least, greatest) = bounds, action_range
    stored_low, stored_high = self._layout.action_bounds
    is_narrower = np.any((low > stored_low) | (high < stored_high))
    if not is_narrower or np.any((least < low) | (greatest > high)):
      return ''
    lows, highs = (np.array2string(x, precision=4) for x in bounds)
    return (
        f"all actions are within the task's own bounds {lows} and {highs},"
        f' which are narrower than {list(self._layout.action_bounds)}. If the'
        ' file has these units, bind them as `dataset.action_bounds`.'
    )

  def _own_bounds(self) -> str:
    """Returns the task's bounds as text, if they are known and others."""
    bounds = self._layout.raw_action_bounds
    if bounds is None or np.all(np.abs(bounds) == 1.0):
      return ''
    lows, highs = (tuple(np.round(x, 4).tolist()) for x in bounds)
    return f" (the task's own bounds are {lows} and {highs})"

  def _task_dtype(self, name: str) -> Any:
    """Returns the task's dtype of an observation's column; None if unknown."""
    field, _, part = name.partition('/')
    if field not in (rows_lib.OBSERVATIONS, rows_lib.NEXT_OBSERVATIONS):
      return None
    wanted = self._layout.observation_dtype
    return wanted.get(part) if isinstance(wanted, Mapping) else wanted

  def _check_shapes(self, shapes) -> None:
    observations = rows_lib.part_names(shapes, rows_lib.OBSERVATIONS)
    first = shapes[observations[0]]
    num_rows = first[0] if first else 0
    expected = self._expected_shapes(shapes, observations)
    for name, shape in shapes.items():
      if name in rows_lib.SCALARS:
        if shape not in ((num_rows,), (num_rows, 1)):
          self._fault(name, f'must have shape {(num_rows,)}, one value per row'
                      f' of `{self._label(observations[0])}`, got {shape}')
        continue
      row_shape = expected.get(name)
      if row_shape is None:
        if len(shape) < 2 or shape[0] != num_rows or not shape[1]:
          self._fault(name, f'must have shape ({num_rows}, n), got {shape}')
      elif shape != (num_rows,) + tuple(row_shape):
        self._fault(
            name,
            f'must have shape {(num_rows,) + tuple(row_shape)}, got {shape}',
        )
    num_bounds = max(map(np.size, self._layout.action_bounds))
    if num_bounds not in (1, *shapes['actions'][1:]):
      self._fault(
          'actions',
          f'must have {num_bounds} numbers per row, as many as'
          f' `action_bounds`, got {shapes["actions"]}',
      )
    if num_rows == 0:
      self._fault(observations[0], 'must have at least one row, got none')

  def _expected_shapes(self, shapes, observations):
    """Returns the expected row shape of each column; None accepts any."""
    wanted = self._layout.observation_shape
    expected = {'actions': self._layout.action_shape}
    if isinstance(wanted, Mapping):
      parts = {f'{rows_lib.OBSERVATIONS}/{x}': y for x, y in wanted.items()}
      if set(parts) != set(observations):
        self._fault(
            rows_lib.OBSERVATIONS,
            f'must have the parts {sorted(wanted)}, got {sorted(observations)}',
        )
      expected.update({name: parts.get(name) for name in observations})
    else:
      if wanted is not None and observations != [rows_lib.OBSERVATIONS]:
        self._fault(
            rows_lib.OBSERVATIONS,
            "must be one array, as the task's observation is, got the parts"
            f' {sorted(map(self._label, observations))}',
        )
      expected.update(dict.fromkeys(observations, wanted))
    following = {rows_lib.next_name(name): name for name in observations}
    for next_name, name in following.items():
      expected[next_name] = expected[name] or shapes[name][1:]
    seen = rows_lib.part_names(shapes, rows_lib.NEXT_OBSERVATIONS)
    if seen and set(seen) != set(following):
      self._fault(
          rows_lib.NEXT_OBSERVATIONS,
          f'must have parts for {sorted(map(self._label, observations))}, got'
          f' {sorted(map(self._label, seen))}',
      )
    return expected

  def _check_values(self, rows) -> None:
    for name, array in rows.items():
      if name in rows_lib.FLAGS:
        self._fault_rows(name, (array != 0) & (array != 1), 'must be 0 or 1',
                         array)
      elif array.dtype.kind == 'f':
        with np.errstate(over='ignore'):
          is_finite = np.isfinite(array.astype(np.float32))
        self._fault_rows(name, ~is_finite,
                         'must be finite, not NaN or infinite', array)
    values = self._layout.reward_values
    # These options replace the rewards.
    is_replaced = self._layout.every_episode_succeeds or self._layout.is_binary
    if values is not None and not is_replaced:
      self._fault_rows(
          'rewards',
          ~np.isin(rows['rewards'], np.asarray(values, rows['rewards'].dtype)),
          f'must be one of {list(values)} (`reward_values`)',
          rows['rewards'],
      )
    if self._layout.reward_range is not None and not self._layout.is_binary:
      least, greatest = self._layout.reward_range
      tolerance = _REWARD_TOLERANCE * max(1.0, abs(least), abs(greatest))
      rewards = rows['rewards']
      self._fault_rows(
          'rewards',
          (rewards < least - tolerance) | (rewards > greatest + tolerance),
          f"must be in the task's `reward_range`, [{least:g}, {greatest:g}] for"
          ' a row',
          rewards,
      )
    actions = rows_lib.scale_actions(rows['actions'], self._layout)
    if self._layout.checks_actions and not self._layout.clip_actions:
      low, high = self._layout.action_bounds
      self._fault_rows(
          'actions',
          ~(np.abs(actions) <= 1 + _ACTION_TOLERANCE),
          f'must be in [{low}, {high}] (`action_bounds`), unless `clip_actions`'
          f' is set{self._own_bounds()}',
          rows['actions'],
      )
    self._num_saturated += int(np.sum(np.abs(actions) >= 1))
    self._num_action_entries += actions.size

  def _check_ends(self, rows) -> None:
    terminal = rows['terminals'] != 0
    self._num_terminals += int(np.sum(terminal))
    if 'timeouts' in rows:
      timeout = rows['timeouts'] != 0
      self._num_both += int(np.sum(terminal & timeout))
      self._num_timeouts += int(np.sum(~terminal & timeout))

  def _check_episode_ids(self, rows) -> None:
    """Checks that ids never decrease and change only at episode ends."""
    if 'episode_ids' not in rows:
      return
    ids = rows['episode_ids']
    steps = np.diff(np.append(self._last.get('episode_ids', ids[0]), ids))
    self._fault_rows(
        'episode_ids', steps < 0,
        'must not decrease from one row to the next', ids,
    )
    is_end = np.zeros([len(ids) + 1], np.bool_)
    is_end[0] = self._last.get('is_end', True)
    is_end[rows_lib.find_ends(rows) + 1] = True
    self._fault_rows(
        'episode_ids', (steps != 0) & ~is_end[:-1],
        'must not change within an episode', ids,
    )
    self._last['episode_ids'] = ids[-1]
    self._last['is_end'] = is_end[-1]

  def _check_successors(self, rows) -> None:
    """Checks that each next observation equals the next row's observation."""
    ends = rows_lib.find_ends(rows)
    for name in rows_lib.part_names(rows, rows_lib.NEXT_OBSERVATIONS):
      column = rows_lib.OBSERVATIONS + name[len(rows_lib.NEXT_OBSERVATIONS):]
      array = rows[column]
      before = self._last.get(name)
      before = array[:1] if before is None else before[np.newaxis]
      error = np.append(
          successors.mean_errors(before, array[:1]),
          successors.mean_errors(rows[name][:-1], array[1:]),
      )
      begins = ends + 1
      error[begins[begins < len(error)]] = 0.0
      self._fault_rows(
          column,
          error > successors.tolerance(array),
          f'must equal `{self._label(name)}` of the previous row, unless an'
          ' episode starts there',
          array,
      )
      is_end = len(ends) and ends[-1] == len(error) - 1
      self._last[name] = None if is_end else rows[name][-1]

  def _count(self, rows) -> None:
    names = rows_lib.part_names(rows, rows_lib.OBSERVATIONS)
    for name in (*names, 'actions', 'rewards'):
      array = rows[name]
      axes = 0 if array.ndim <= 2 else tuple(range(array.ndim))
      low, high = array.min(axis=axes), array.max(axis=axes)
      if name in self._ranges:
        before = self._ranges[name]
        low, high = np.minimum(before[0], low), np.maximum(before[1], high)
      self._ranges[name] = (low, high)
    rewards = np.asarray(rows['rewards'], np.float64)
    successes = rows_lib.find_successes(rows, self._layout)
    start = 0
    for end in rows_lib.find_ends(rows) + 1:
      self._take(rewards[start:end], successes[start:end])
      self._close_episode()
      start = end
    self._take(rewards[start:], successes[start:])

  def _take(self, rewards: np.ndarray, successes: np.ndarray) -> None:
    self._length += len(rewards)
    self._return += float(np.sum(rewards))
    self._rewards.add(rewards, successes)
    self._success |= bool(np.any(successes))

  def _close_episode(self) -> None:
    if self._length:
      self._rewards.end_episode()
      self._lengths.append(self._length)
      self._returns.append(self._return)
      self._successes.append(self._success)
    self._length, self._return, self._success = 0, 0.0, False

  def _label(self, name: str) -> str:
    return self._labels.get(name, name)

  def _fault(self, name: str, message: str) -> None:
    self.faults.append(f'{self._path}: `{self._label(name)}` {message}.')

  def _fault_rows(self, name, is_wrong, message, values) -> None:
    """Reports the first row with an invalid value, once per kind of fault."""
    if (name, message) in self._kinds or not np.any(is_wrong):
      return
    self._kinds.add((name, message))
    index = tuple(np.argwhere(is_wrong)[0])
    row = self._num_rows + int(index[0])
    entry = ''.join(f', entry {i}' for i in index[1:])
    value = values[index]
    seen = f'value {value}' if np.ndim(value) == 0 else f'{value}'
    self._fault(name, f'{message}; row {row}{entry} has {seen}')


def _kinds_of(name: str, column: rows_lib.Column):
  """Returns the allowed dtype kinds of a column and their description."""
  if name in rows_lib.FLAGS:
    return 'buif', 'bool, or numbers 0 and 1'
  if name == 'rewards':
    return 'fiu', 'numbers'
  if name == 'episode_ids':
    return 'iu', 'integers'
  if name != 'actions' and column.dtype == np.uint8 and len(column.shape) > 1:
    return 'u', 'bytes'  # An image, or a vector such as a text.
  return 'f', 'floating point'


def _check_bounds(bounds) -> None:
  """Raises `ValueError` if `action_bounds` are no lower and upper bounds."""
  sizes = {x for x in map(np.size, bounds) if x > 1}
  if len(bounds) != 2 or len(sizes) > 1 or not np.all(
      np.less(*bounds) & np.isfinite(bounds[0]) & np.isfinite(bounds[1])
  ):
    raise ValueError(
        '`action_bounds` must be finite (low, high) with low < high, each a'
        f' number or one number per action dimension, got {bounds!r}.'
    )
