"""Demonstrations in robomimic's HDF5 layout, read without `robomimic`.

The file has a group `data/demo_<n>` for each demonstration, with `obs/<key>`,
`next_obs/<key>` (may be missing), `actions`, `rewards`, `dones` and attribute
`num_samples`. Simulator states are not read, and all demonstrations are,
whatever lists of them `mask` has.

`dones` mark success, or the end of the demonstration, or both, as the file was
made. Here a step is terminal that is done and a success, which the reward tells
unless a field of flags is named. Demonstrators go on for some steps after that;
those steps, in which the task is over, are left out. A demonstration without a
terminal step is timed out at its last one.
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
  """Returns whether a path is a file with group `data` and no columns."""
  try:
    with h5py.File(path, 'r') as file:
      return rows_lib.OBSERVATIONS not in file and isinstance(
          file.get(_DATA), h5py.Group
      )
  except (OSError, RuntimeError):
    return False  # A directory, damaged, or of another format.


def open_source(path: str, layout: rows_lib.Layout) -> rows_lib.RowSource:
  """Opens a file; see `formats.open_source`."""
  return _Source(path, layout)


class _Source(hdf5.Source):
  """The steps of one demonstration after another."""

  def __init__(self, path, layout):
    super().__init__(path)
    self._layout = layout
    self._fields = dict(_FIELDS)
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
        flags = rows_lib.flatten_scalars({
            name: datasets.pop(name)[()]
            for name in ('rewards', 'terminals', 'success')
            if name in datasets
        })
        flags, num_steps = self._cut(episode, flags)
        rows = {name: x[:num_steps] for name, x in datasets.items()}
      yield {**rows, **flags}

  def _look_through(self) -> None:
    """Finds out what each demonstration holds, without reading it."""
    columns = rows_lib.EpisodeColumns(
        self.path,
        {**_FIELDS, rows_lib.OBSERVATIONS: 'obs'},
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
        columns.fault(f'{episode}.{_LENGTH}', f'must be {num_steps}, as the'
                      f' group tells, got {seen}', kind=_LENGTH)
    self.columns = columns.total()
    if 'terminals' in self.columns:
      # The other ends are told by the same flags.
      self.columns['timeouts'] = self.columns['terminals']
    self.faults += columns.faults

  def _find_episodes(self, columns: rows_lib.EpisodeColumns) -> List[str]:
    """Returns the groups of the demonstrations, by number."""
    data = self.file[_DATA]
    names = []
    # Names that are no text, by damage, come as bytes.
    for name in map(str, data):
      if _EPISODE.fullmatch(name) and isinstance(data.get(name), h5py.Group):
        names.append(name)
      else:
        columns.fault(f'{_DATA}/{name}', 'must be a whole group `demo_<n>`, as'
                      ' all are', kind='no episode')
    if not names:
      columns.fault(f'{_DATA}/demo_0', 'must be in the file, as the first'
                    ' demonstration; there is none')
    # Numbers may be left out: files of chosen demonstrations keep theirs.
    names.sort(key=lambda x: int(_EPISODE.fullmatch(x)[1]))
    return [f'{_DATA}/{name}' for name in names]

  def _datasets(self, episode, columns=None) -> Dict[str, h5py.Dataset]:
    """Returns what is read of a demonstration, and notes what is not."""
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
        columns.fault(f'{episode}/{self._label(name)}', 'must be a data set,'
                      ' and is a group', kind=f'group {name}')
    return {
        name: item for name, item in found.items()
        if isinstance(item, h5py.Dataset)
    }

  def _label(self, name: str) -> str:
    """Returns a column's name in the file."""
    field, _, key = name.partition('/')
    if field in _OBSERVATIONS:
      return _OBSERVATIONS[field] + (key and f'/{key}')
    return self._fields[name]

  def _cut(self, episode, flags):
    """Returns rewards and flags up to the first terminal step, and their rows.

    Raises:
      rows.DamagedFileError: If the flags `dones` are none, or contradict the
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
          f' {len(dones)} has 1 and reward {flags["rewards"][first]}.'
      )
    timeouts = np.zeros([num_steps], np.bool_)
    timeouts[-1] = not terminals[num_steps - 1]
    flags = {name: x[:num_steps] for name, x in flags.items()}
    flags['terminals'] = terminals[:num_steps]
    return {**flags, 'timeouts': timeouts}, num_steps
