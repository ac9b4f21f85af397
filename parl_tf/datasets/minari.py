"""Reads Minari 0.5 datasets with the HDF5 back end, without `minari`.

A dataset is a directory `data` with two files. `main_data.hdf5` has a group
`episode_<n>` for each episode, with `observations` (T + 1 rows for T steps),
`actions`, `rewards`, `terminations`, `truncations` and `infos`, whose `success`
may have T or T + 1 rows. Dict and tuple observations are nested groups; each
leaf becomes one column. Images are JPEG files, stored as one row of bytes each.
`metadata.json` has the numbers of episodes and steps.

If the last step has neither flag, it counts as truncated; if it has both, as
terminated.
"""

import os
import re
from typing import Any, Dict, Iterator, List, Mapping

import h5py
import numpy as np

from parl_tf.datasets import hdf5
from parl_tf.datasets import json_file
from parl_tf.datasets import rows as rows_lib

NAME = 'Minari'

_DATA = 'main_data.hdf5'
_METADATA = 'metadata.json'
_DATA_FORMAT = 'data_format'
_EPISODE = re.compile(r'episode_(0|[1-9]\d*)')
_FIELDS = {
    'actions': 'actions',
    'rewards': 'rewards',
    'terminals': 'terminations',
    'timeouts': 'truncations',
}
_SUCCESS_FIELD = 'infos/success'
_JPEG_START = b'\xff\xd8\xff'


def recognises(path: str) -> bool:
  """Returns whether a path is a dataset directory or its `data` directory."""
  return bool(_find_data(path))


def open_source(path: str, layout: rows_lib.Layout) -> rows_lib.RowSource:
  """Opens a dataset; see `formats.open_source`."""
  directory = _find_data(path)
  metadata = _read_metadata(os.path.join(directory, _METADATA))
  file_path = os.path.join(directory, _DATA)
  if not os.path.isfile(file_path):
    raise rows_lib.DamagedFileError(
        f'{file_path}: is required next to `{_METADATA}` but missing.'
    )
  return _Source(path, file_path, metadata, layout)


def _find_data(path: str) -> str:
  """Returns the directory of the two files, or '' if there is none."""
  for directory in (os.path.join(path, 'data'), path):
    if os.path.isfile(os.path.join(directory, _DATA)):
      return directory
    metadata_path = os.path.join(directory, _METADATA)
    # Other programs also write a `metadata.json`.
    if os.path.isfile(metadata_path):
      with open(metadata_path, encoding='utf-8', errors='replace') as file:
        if f'"{_DATA_FORMAT}"' in file.read():
          return directory
  return ''


def _read_metadata(path: str) -> Mapping[str, Any]:
  """Reads `metadata.json` and checks that the back end is supported."""
  metadata = json_file.read(path)
  data_format = metadata.get(_DATA_FORMAT, 'hdf5')
  if data_format != 'hdf5':
    raise rows_lib.DamagedFileError(
        f"{path}: `{_DATA_FORMAT}` must be 'hdf5', the only supported Minari"
        f' back end, got {data_format!r}.'
    )
  return metadata


class _Source(hdf5.Source):
  """Reads one episode at a time."""

  def __init__(self, path, file_path, metadata, layout):
    super().__init__(file_path)
    self.path = path
    self._file_path = file_path
    self._success_field = layout.success_field or _SUCCESS_FIELD
    self._fields = {**_FIELDS, 'success': self._success_field}
    if layout.every_episode_succeeds:
      del self._fields['rewards'], self._fields['success']
    self._keys = layout.observation_keys
    self._episodes: List[str] = []
    try:
      with hdf5.damage_named(file_path):
        self._look_through(metadata)
    except rows_lib.DamagedFileError:
      self.close()
      raise

  def read(self) -> Iterator[rows_lib.Rows]:
    for episode in self._episodes:
      with hdf5.damage_named(self._file_path):
        arrays = {
            name: _read(dataset)
            for name, dataset in self._datasets(episode).items()
        }
      yield self._rows(episode, arrays)

  def _look_through(self, metadata: Mapping[str, Any]) -> None:
    """Reads the headers of all episodes."""
    columns = rows_lib.EpisodeColumns(
        self._file_path,
        {
            **{x: y for x, y in self._fields.items() if x != 'success'},
            rows_lib.OBSERVATIONS: rows_lib.OBSERVATIONS,
        },
        has_last_observation=True,
    )
    self._episodes = self._find_episodes(columns)
    for number, episode in enumerate(self._episodes):
      datasets = self._datasets(episode, columns)
      columns.add(
          episode,
          {name: self._column(name, x, datasets) for name, x in
           datasets.items()},
      )
      for name, wanted in (
          ('id', number), ('total_steps', columns.num_steps[-1])
      ):
        seen = self.file[episode].attrs.get(name)
        if seen is not None and seen != wanted:
          columns.fault(f'{episode}.{name}', f'must be {wanted}, to match the'
                        f' group, got {seen}', kind=name)
    self.columns = columns.total()
    self.faults += columns.faults
    found = (len(self._episodes), sum(columns.num_steps))
    for name, wanted in zip(('total_episodes', 'total_steps'), found):
      if metadata.get(name, wanted) != wanted:
        self.faults.append(
            f'{os.path.join(os.path.dirname(self._file_path), _METADATA)}:'
            f' `{name}` must be {wanted}, as in `{_DATA}`, got'
            f' {metadata[name]}.'
        )

  def _find_episodes(self, columns: rows_lib.EpisodeColumns) -> List[str]:
    """Returns the groups of the episodes, ordered by number."""
    episodes = []
    # h5py returns corrupt names that are not valid text as bytes.
    for name in map(str, self.file):
      if _EPISODE.fullmatch(name) and isinstance(
          self.file.get(name), h5py.Group
      ):
        episodes.append(name)
      else:
        columns.fault(name, 'must be a complete group `episode_<n>`',
                      kind='no episode')
    if not episodes:
      columns.fault('episode_0', 'is required but missing')
    episodes.sort(key=lambda x: int(x.removeprefix('episode_')))
    for number, name in enumerate(episodes):
      if name != f'episode_{number}':
        columns.fault(f'episode_{number}', f'is missing before {name}',
                      kind='gap')
    return episodes

  def _datasets(self, episode, columns=None) -> Dict[str, h5py.Dataset]:
    """Returns the HDF5 datasets of an episode by column; reports faults."""
    group = self.file[episode]
    found = {}
    for name, field in self._fields.items():
      item = group.get(field)
      if isinstance(item, h5py.Dataset):
        found[name] = item
      elif item is not None and columns:
        columns.fault(
            f'{episode}/{field}', 'must be an HDF5 dataset, got a group',
            kind=f'group {name}',
        )
    observations = group.get(rows_lib.OBSERVATIONS)
    if isinstance(observations, h5py.Dataset):
      found[rows_lib.OBSERVATIONS] = observations
    elif observations is not None:
      for key, dataset in hdf5.leaves(observations):
        if self._keys is None or key in self._keys:
          found[f'{rows_lib.OBSERVATIONS}/{key}'] = dataset
    return found

  def _column(self, name, dataset, datasets) -> rows_lib.Column:
    shape, dtype = dataset.shape, dataset.dtype
    label = _FIELDS.get(name, name)
    if name == 'success':
      label = self._success_field
      rewards = datasets['rewards'].shape if 'rewards' in datasets else ()
      if shape and rewards and shape[0] == rewards[0] + 1:
        shape = (rewards[0], *shape[1:])  # The first row is the initial state.
    elif _is_images(dataset):
      first = _read(dataset, 1)
      shape, dtype = (*shape[:1], *first.shape[1:]), first.dtype
    return rows_lib.Column(shape, dtype, label)

  def _rows(self, episode, arrays) -> rows_lib.Rows:
    num_steps = len(arrays['actions'])
    rows = {}
    for name, array in arrays.items():
      if name.partition('/')[0] == rows_lib.OBSERVATIONS:
        rows[name] = array[:-1]
        rows[rows_lib.next_name(name)] = array[1:]
      else:
        rows[name] = array[-num_steps:]
    rows = rows_lib.flatten_scalars(rows)
    is_end = (rows['terminals'] != 0) | (rows['timeouts'] != 0)
    if np.any(is_end[:-1]):
      raise rows_lib.DamagedFileError(
          f'{self._file_path}: `{episode}/terminations` and'
          f' `{episode}/truncations` must be 0 before the last step, but step'
          f' {np.argmax(is_end)} of {num_steps} is set.'
      )
    timeouts = np.array(rows['timeouts'])
    if rows['terminals'][-1]:
      timeouts[-1] = 0
    elif not timeouts[-1]:
      timeouts[-1] = 1
    return {**rows, 'timeouts': timeouts}


def _is_images(dataset: h5py.Dataset) -> bool:
  """Returns whether each row is a JPEG file, of fixed or variable length."""
  if h5py.check_vlen_dtype(dataset.dtype) == np.uint8:
    return len(dataset) > 0
  return (
      dataset.dtype == np.uint8
      and len(dataset.shape) == 2
      and len(dataset) > 0
      and dataset[0, :len(_JPEG_START)].tobytes() == _JPEG_START
  )


def _read(dataset: h5py.Dataset, num_rows: int = -1) -> np.ndarray:
  """Reads the first `num_rows` rows, or all if negative; decodes images.

  Returns:
    `[rows, ...]`; for images, `[rows, height, width(, 3)]`.
  """
  array = dataset[()] if num_rows < 0 else dataset[:num_rows]
  if not _is_images(dataset):
    return array
  # Imported here: few datasets have encoded images.
  import tensorflow as tf

  try:
    frames = [
        # The default transform of other JPEG decoders.
        tf.io.decode_jpeg(x.tobytes(), dct_method='INTEGER_ACCURATE').numpy()
        for x in array
    ]
    frames = np.stack(frames)
  except (tf.errors.InvalidArgumentError, ValueError) as error:
    raise rows_lib.DamagedFileError(
        f'{dataset.file.filename}: `{dataset.name}` must contain complete JPEG'
        f' files of one size; one is corrupt ({error}).'
    ) from error
  return frames[..., 0] if frames.shape[-1] == 1 else frames
