"""Reads demonstrations in robomimic's HDF5 layout, without `robomimic`.

The file has a group `data/demo_<n>` for each demonstration, with `obs/<key>`,
`next_obs/<key>` (optional), `actions`, `rewards`, `dones` and the attribute
`num_samples`. Simulator states are ignored. All demonstrations are read; the
subsets in `mask` are ignored.

Depending on the file, `dones` mark success, the end of the demonstration, or
both. This reader treats a step as terminal if it is done and a success. Success
follows from the reward unless `success_field` names flags. Demonstrators often
continue for some steps after success; these steps are dropped, unless `dones`
mark the last step only (`--done_mode 1`). A demonstration without a terminal
step ends with a timeout. If `every_episode_succeeds`, rewards and `dones` are
not read, and no step is dropped.
"""

import re
from typing import Dict, Iterator, List

import h5py
import numpy as np

from parl_tf.datasets import hdf5
from parl_tf.datasets import rows as rows_lib

NAME = "robomimic's HDF5"

_DATA = 'data'
_EPISODE = re.compile(r'demo_(0|[1-9]\d*)')
_FIELDS = {'actions': 'actions', 'rewards': 'rewards', 'terminals': 'dones'}
_OBSERVATIONS = {
    rows_lib.OBSERVATIONS: 'obs',
    rows_lib.NEXT_OBSERVATIONS: 'next_obs',
}
_LENGTH = 'num_samples'


def recognises(path: str) -> bool:
  """Returns whether a path is HDF5 with a group `data`, but not D4RL's."""
  try:
    with h5py.File(path, 'r') as file:
      return rows_lib.OBSERVATIONS not in file and isinstance(
          file.get(_DATA), h5py.Group
      )
  except (OSError, RuntimeError):
    return False  # A directory, a corrupt file or another format.


def open_source(path: str, layout: rows_lib.Layout) -> rows_lib.RowSource:
  """Opens a file; see `formats.open_source`."""
  return _Source(path, layout)


class _Source(hdf5.Source):
  """Reads one demonstration at a time."""

  needs_successes = True

  def __init__(self, path, layout):
    super().__init__(path)
    self._layout = layout
    self._fields = dict(_FIELDS)
    if layout.every_episode_succeeds:
      self._fields = {'actions': 'actions'}
    if layout.success_field:
      self._fields['success'] = layout.success_field
    self._episodes: List[str] = []
    try:
      with hdf5.damage_named(path):
        self._look_through()
    except rows_lib.DamagedFileError:
      self.close()
      raise

  def read(self) -> Iterator[rows_lib.Rows]:
    for episode in self._episodes:
      with hdf5.damage_named(self.path):
        datasets = self._datasets(episode)
        if self._layout.every_episode_succeeds:
          rows = {name: x[()] for name, x in datasets.items()}
          ends = np.zeros([len(rows['actions'])], np.bool_)
          ends[-1] = True
          yield {**rows, 'timeouts': ends}
          continue
        flags = rows_lib.flatten_scalars({
            name: datasets.pop(name)[()]
            for name in ('rewards', 'terminals', 'success')
            if name in datasets
        })
        flags, num_steps = self._cut(episode, flags)
        rows = {name: x[:num_steps] for name, x in datasets.items()}
      yield {**rows, **flags}

  def _look_through(self) -> None:
    """Reads the headers of all demonstrations."""
    columns = rows_lib.EpisodeColumns(
        self.path,
        {
            **{x: y for x, y in self._fields.items() if x != 'success'},
            rows_lib.OBSERVATIONS: 'obs',
        },
        has_last_observation=False,
    )
    self._episodes = self._find_episodes(columns)
    for episode in self._episodes:
      columns.add(
          episode,
          {
              name: rows_lib.Column(x.shape, x.dtype, self._label(name))
              for name, x in self._datasets(episode, columns).items()
          },
      )
      num_steps = columns.num_steps[-1]
      seen = self.file[episode].attrs.get(_LENGTH, num_steps)
      if seen != num_steps:
        columns.fault(f'{episode}.{_LENGTH}', f'must be {num_steps}, to match'
                      f' the group, got {seen}', kind=_LENGTH)
    self.columns = columns.total()
    if 'terminals' in self.columns:
      # Timeouts are derived from the same flags.
      self.columns['timeouts'] = self.columns['terminals']
    elif self._layout.every_episode_succeeds:
      num_rows = sum(columns.num_steps)
      self.columns['timeouts'] = rows_lib.Column(
          (num_rows,), np.dtype(np.bool_), _DATA
      )
    self.faults += columns.faults

  def _find_episodes(self, columns: rows_lib.EpisodeColumns) -> List[str]:
    """Returns the groups of the demonstrations, ordered by number."""
    data = self.file[_DATA]
    names = []
    # h5py returns corrupt names that are not valid text as bytes.
    for name in map(str, data):
      if _EPISODE.fullmatch(name) and isinstance(data.get(name), h5py.Group):
        names.append(name)
      else:
        columns.fault(f'{_DATA}/{name}', 'must be a complete group `demo_<n>`',
                      kind='no episode')
    if not names:
      columns.fault(f'{_DATA}/demo_0', 'is required but missing')
    # Numbers may have gaps: filtered files keep the original numbers.
    names.sort(key=lambda x: int(x.removeprefix('demo_')))
    return [f'{_DATA}/{name}' for name in names]

  def _datasets(self, episode, columns=None) -> Dict[str, h5py.Dataset]:
    """Returns the HDF5 datasets of a demonstration; reports faults."""
    group = self.file[episode]
    found = {name: group.get(field) for name, field in self._fields.items()}
    keys = self._layout.observation_keys
    for name, field in _OBSERVATIONS.items():
      part = group.get(field)
      if isinstance(part, h5py.Group):
        found.update({
            f'{name}/{key}': part[key] for key in map(str, part)
            if keys is None or key in keys
        })
      elif part is not None:
        found[name] = part
    for name, item in found.items():
      if isinstance(item, h5py.Group) and columns:
        columns.fault(f'{episode}/{self._label(name)}', 'must be an HDF5'
                      ' dataset, got a group', kind=f'group {name}')
    return {
        name: item for name, item in found.items()
        if isinstance(item, h5py.Dataset)
    }

  def _label(self, name: str) -> str:
    """Returns the name of a column in the file."""
    field, _, key = name.partition('/')
    if field in _OBSERVATIONS:
      return _OBSERVATIONS[field] + (key and f'/{key}')
    return self._fields[name]

  def _cut(self, episode, flags):
    """Truncates rewards and flags after the first terminal step.

    Returns:
      The truncated columns, with `timeouts` added, and their number of rows.

    Raises:
      rows.DamagedFileError: If `dones` are not 0 or 1, or contradict the
        successes.
    """
    dones = flags['terminals']
    if np.any((dones != 0) & (dones != 1)):
      raise rows_lib.DamagedFileError(
          f'{self.path}: `{episode}/dones` must be 0 or 1, got'
          f' {dones[(dones != 0) & (dones != 1)][0]}.'
      )
    terminals = (dones != 0) & rows_lib.find_successes(flags, self._layout)
    num_steps = len(dones)
    if np.any(terminals):
      num_steps = int(np.argmax(terminals)) + 1
    first = int(np.argmax(dones))
    if dones[first] and first < num_steps - 1:
      raise rows_lib.DamagedFileError(
          f'{self.path}: `{episode}/dones` must be 0 before the last step,'
          ' unless the task is solved (`success_field`, or a reward above'
          f' {self._layout.success_reward}, `success_reward`); step {first} of'
          f' {len(dones)} is done with reward {flags["rewards"][first]}.'
      )
    timeouts = np.zeros([num_steps], np.bool_)
    timeouts[-1] = not terminals[num_steps - 1]
    flags = {name: x[:num_steps] for name, x in flags.items()}
    flags['terminals'] = terminals[:num_steps]
    return {**flags, 'timeouts': timeouts}, num_steps
