"""Reads the episode log of a run as a dataset.

The log is the directory `episodes` of a run. Each episode of T steps is a file
`episode_<position>_<id>.npz`, with zero-based positions and these arrays:

  observation                    `[T + 1, ...]`, or `observation/<key>` for each
                                 part of a nest
  action                         `[T, A]` in [-1, 1]
  reward, discount, success      `[T]`
  episode_id, policy_version     scalars
  has_last_transition            False if the observation after the last step
                                 is unknown

Ids are unique but need not increase: several collectors may fill one log.
"""

import os
from typing import Dict, Iterator, List, Tuple
import zipfile

import numpy as np

from parl_tf import episode_file
from parl_tf import types
from parl_tf.datasets import missing_success
from parl_tf.datasets import rows as rows_lib

NAME = "a run's episode log"

_SUFFIX = '.npy'
_MEMBERS = {
    'actions': 'action',
    'rewards': 'reward',
    'terminals': 'discount',
}
_OBSERVATION = 'observation'
_SUCCESS = 'success'
_EPISODE_ID, _HAS_LAST = 'episode_id', 'has_last_transition'


def recognises(path: str) -> bool:
  """Returns whether a path is a directory with at least one episode file."""
  return os.path.isdir(path) and any(
      episode_file.PATTERN.fullmatch(name) for name in os.listdir(path)
  )


def open_source(path: str, layout: rows_lib.Layout) -> rows_lib.RowSource:
  """Opens a directory; see `formats.open_source`."""
  return _Source(path, layout)


class _Source(rows_lib.RowSource):
  """Reads one episode file at a time."""

  has_unit_actions = True

  def __init__(self, path, layout):
    self.path = path
    self.faults = []
    self._keys = layout.observation_keys
    self._success = layout.success_field or _SUCCESS
    columns = rows_lib.EpisodeColumns(
        path,
        {**_MEMBERS, rows_lib.OBSERVATIONS: _OBSERVATION},
        has_last_observation=True,
    )
    self._files = _find_files(path, columns)
    for name, _ in self._files:
      headers = _read_headers(os.path.join(path, name))
      if self._success not in (_SUCCESS, *headers):
        self._success = missing_success.own_success(
            path, self._success, _SUCCESS
        )
      for scalar in (_EPISODE_ID, _HAS_LAST):
        if scalar not in headers:
          columns.fault(f'{name}/{scalar}', 'is required but missing',
                        kind=f'no {scalar}')
      columns.add(
          name,
          {
              column: headers[member]
              for column, member in self._members(headers).items()
          },
      )
    self.columns = columns.total()
    if 'terminals' in self.columns:
      # Timeouts are derived from the same discounts.
      self.columns['timeouts'] = self.columns['terminals']
    self.faults += columns.faults

  def close(self) -> None:
    """Does nothing; each file is open only while it is read."""

  def read(self) -> Iterator[rows_lib.Rows]:
    for name, episode_id in self._files:
      path = os.path.join(self.path, name)
      try:
        with np.load(path, allow_pickle=False) as file:
          members = self._members(file.files)
          arrays = {x: file[member] for x, member in members.items()}
          seen_id, has_last = int(file[_EPISODE_ID]), bool(file[_HAS_LAST])
      except episode_file.READ_ERRORS as error:
        raise _damaged(path, error) from error
      if seen_id != episode_id:
        raise rows_lib.DamagedFileError(
            f'{path}: `{_EPISODE_ID}` must be {episode_id}, as in the file'
            f' name, got {seen_id}.'
        )
      yield _make_rows(path, arrays, has_last)

  def _members(self, names) -> Dict[str, str]:
    """Returns the archive members to read, keyed by column."""
    members = {**_MEMBERS, 'success': self._success}
    members = {x: member for x, member in members.items() if member in names}
    for name in names:
      field, _, key = name.partition('/')
      if field == _OBSERVATION:
        column = rows_lib.OBSERVATIONS + name[len(field):]
        if not key or self._keys is None or key in self._keys:
          members[column] = name
    return members


def _find_files(path, columns) -> List[Tuple[str, int]]:
  """Returns file names and episode ids by position; reports gaps."""
  matches = map(episode_file.PATTERN.fullmatch, sorted(os.listdir(path)))
  files = []
  name_of_id: Dict[int, str] = {}
  for position, match in enumerate(filter(None, matches)):
    name, episode_id = match[0], int(match[2])
    if int(match[1]) != position:
      columns.fault(name, f'must have position {position}: a file of the log is'
                    ' missing or duplicated', kind='position')
    if episode_id in name_of_id:
      columns.fault(name, 'must have a unique id, but shares the id of'
                    f' `{name_of_id[episode_id]}`', kind='id')
    name_of_id.setdefault(episode_id, name)
    files.append((name, episode_id))
  return files


def _read_headers(path: str) -> Dict[str, rows_lib.Column]:
  """Returns the headers of the arrays in a file, without reading the data."""
  headers = {}
  try:
    with zipfile.ZipFile(path) as file:
      for member in file.namelist():
        with file.open(member) as stream:
          version = np.lib.format.read_magic(stream)
          if version != (1, 0):
            raise ValueError(f'unsupported npy version {version}')
          shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        name = member.removesuffix(_SUFFIX)
        headers[name] = rows_lib.Column(shape, dtype, name)
  except episode_file.READ_ERRORS as error:
    raise _damaged(path, error) from error
  return headers


def _damaged(path: str, error: Exception) -> rows_lib.DamagedFileError:
  return rows_lib.DamagedFileError(
      f'{path}: must be a complete episode file; it is truncated or corrupt'
      f' ({error}).'
  )


def _make_rows(path, arrays, has_last: bool) -> rows_lib.Rows:
  """Converts the arrays of an episode to rows."""
  rows = {}
  for name, array in arrays.items():
    if name.partition('/')[0] == rows_lib.OBSERVATIONS:
      rows[name] = array[:-1]
      if has_last:
        rows[rows_lib.next_name(name)] = array[1:]
    else:
      rows[name] = array
  rows = rows_lib.flatten_scalars(rows)
  discount = rows['terminals']
  step = types.wrong_discount(discount)
  if step is not None:
    raise rows_lib.DamagedFileError(
        f'{path}: `discount` must be 1, except in the last step, where it may'
        f' be 0; got {discount[step]} in step {step} of {len(discount)}.'
    )
  terminals = discount == 0
  timeouts = np.zeros_like(terminals)
  timeouts[-1] = not terminals[-1]
  return {**rows, 'terminals': terminals, 'timeouts': timeouts}
