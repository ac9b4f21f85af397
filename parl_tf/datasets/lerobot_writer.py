"""Writes LeRobot datasets, version 3.0, without torch.

A dataset is one Parquet file of frames and the metadata that LeRobot's training
program reads: features, statistics, episodes and tasks. The observation after
an episode's last action is not stored.

  observation  `observation.<key>`. An observation that is one vector becomes
               `observation.state` and, because LeRobot's diffusion policy and
               ACT need one, also `observation.environment_state`; our reader
               takes the first one, as `info.json` declares. A single
               image becomes `observation.image`. Images are stored as PNG.
  reward       `next.reward`
  success      `next.success`
  done         `next.done`, set where the task ended, not at a timeout. Our
               reader relies on it, which `info.json` declares.
"""

import json
import os
import shutil
from typing import Any, Dict, Iterable, List, Mapping, Tuple

import numpy as np
import tree

from parl_tf import action_range
from parl_tf import types
from parl_tf.datasets import images
from parl_tf.datasets import lerobot_metadata
from parl_tf.datasets import lerobot_statistics

STATE = 'observation.state'
ENVIRONMENT_STATE = 'observation.environment_state'
IMAGE = 'observation.image'

GROUP_BYTES = 32 * 2**20
"""Size of the groups of rows that are written at a time."""

_DATA = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
_FILE = {'chunk_index': 0, 'file_index': 0}


def write(
    path: str,
    episodes: Iterable[types.Episode],
    *,
    rate: int,
    instruction: str,
    action_bounds: Tuple[Any, Any] = (-1.0, 1.0),
    has_successes: bool = True,
) -> None:
  """Writes episodes to a new directory.

  All numbers are held in memory, but not the images. The directory appears at
  its path only when it is complete.

  Args:
    path: Directory to write, which must not exist.
    episodes: Episodes, iterated once.
    rate: Frames per second.
    instruction: Text of the task, for policies that read it.
    action_bounds: `(low, high)` in the units of the environment, each a number
      or `[A]`, to which -1 and 1 are mapped.
    has_successes: Whether success is defined. If not, it is left out, so that
      `success_reward` applies when the dataset is read.

  Raises:
    ImportError: If pyarrow is not installed.
    ValueError: If the directory exists, there is no episode, a number is not
      finite, or an observation is neither a vector nor an image `[height,
      width, 3]` of uint8, or differs from those of the first episode.
  """
  lerobot_metadata.import_pyarrow()
  if os.path.exists(path):
    raise ValueError(f'{path}: must not exist yet.')
  partial = os.path.normpath(path) + '.partial'
  has_one_observation = False
  raw_range = action_range.ActionRange(action_bounds, np.float64)
  shutil.rmtree(partial, ignore_errors=True)
  try:
    with _Frames(os.path.join(partial, _DATA.format(**_FILE)), rate) as frames:
      for episode in episodes:
        has_one_observation = not isinstance(episode.observation, Mapping)
        columns = _columns(episode, raw_range)
        if not has_successes:
          del columns['next.success']
        frames.append(columns)
      frames.flush()
    starts = np.cumsum([0, *frames.lengths])
    _write_episodes(partial, starts, instruction)
    _write_tasks(partial, instruction)
    _write_json(partial, 'meta/stats.json', frames.statistics())
    info = _describe(frames.features(), starts, rate)
    info[lerobot_metadata.ONE_OBSERVATION] = has_one_observation
    _write_json(partial, lerobot_metadata.INFO, info)
    os.rename(partial, path)
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    raise


class _Frames:
  """A Parquet file of frames, written in groups of episodes.

  Attributes:
    lengths: Frames of each episode so far.
  """

  def __init__(self, file: str, rate: int):
    """Initializes an empty file.

    Args:
      file: Path of the file.
      rate: Frames per second.
    """
    self.lengths: List[int] = []
    self._file = file
    self._rate = rate
    self._writer: Any = None
    self._pending: List[Dict[str, Any]] = []
    self._num_pending = 0  # bytes
    self._shapes: Dict[str, Tuple[int, ...]] = {}
    # For the statistics.
    self._numbers: List[Dict[str, np.ndarray]] = []
    self._histograms: Dict[str, np.ndarray] = {}

  def __enter__(self) -> '_Frames':
    return self

  def __exit__(self, *unused_exception) -> None:
    if self._writer is not None:
      self._writer.close()

  def append(self, columns: Dict[str, np.ndarray]) -> None:
    """Adds an episode: arrays `[frames, ...]` by name.

    Raises:
      ValueError: If the names or shapes differ from those of the first one.
    """
    number, length = len(self.lengths), len(columns['action'])
    shapes = {name: x.shape[1:] for name, x in columns.items()}
    if (self._shapes or shapes) != shapes:
      raise ValueError(
          f'Episode {number} must have the columns {_sorted(self._shapes)}, '
          f'got {_sorted(shapes)}.'
      )
    self._shapes = shapes
    encoded = {}
    for name, column in columns.items():
      if not np.all(np.isfinite(column)):
        raise ValueError(
            f'`{name}` of episode {number} must be finite, got NaN or infinity.'
        )
      if column.ndim == 4:
        self._histograms[name] = self._histograms.get(name, 0) + np.stack([
            np.bincount(column[..., channel].ravel(), minlength=256)
            for channel in range(column.shape[-1])
        ])
        encoded[name] = [images.encode(image) for image in column]
    numbers = {x: y for x, y in columns.items() if x not in encoded}
    numbers |= self._numbering(length)
    self.lengths.append(length)
    self._numbers.append(numbers)
    self._pending.append({**numbers, **encoded})
    self._num_pending += sum(x.nbytes for x in numbers.values())
    self._num_pending += sum(sum(map(len, x)) for x in encoded.values())
    if self._num_pending >= GROUP_BYTES:
      self.flush()

  def flush(self) -> None:
    """Writes the episodes that have not been written.

    Raises:
      ValueError: If there is no episode.
    """
    if not self.lengths:
      raise ValueError('There must be at least one episode, got none.')
    if not self._pending:
      return
    columns = {}
    for name, first in self._pending[0].items():
      parts = [episode[name] for episode in self._pending]
      columns[name] = (
          sum(parts, []) if isinstance(first, list) else np.concatenate(parts)
      )
    self._pending, self._num_pending = [], 0
    table = _table(columns)
    if self._writer is None:
      os.makedirs(os.path.dirname(self._file))
      self._writer = lerobot_metadata.import_pyarrow().parquet.ParquetWriter(
          self._file, table.schema
      )
    self._writer.write_table(table)

  def features(self) -> Dict[str, Dict[str, Any]]:
    """Returns the features of `info.json`."""
    numbers = self._numbers[0]
    features = {
        name: _feature(x.dtype.name, x.shape[1:] or (1,))
        for name, x in numbers.items()
    }
    for name in self._histograms:
      features[name] = _feature('image', self._shapes[name]) | {
          'names': ['height', 'width', 'channels']
      }
    return features

  def statistics(self) -> Dict[str, Any]:
    """Returns what LeRobot normalizes with, of each feature."""
    found = {
        name: lerobot_statistics.of_numbers(
            np.concatenate([x[name] for x in self._numbers])
        )
        for name in self._numbers[0]
    }
    for name, histogram in self._histograms.items():
      found[name] = lerobot_statistics.of_images(histogram)
    count = [sum(self.lengths)]
    return {
        name: {**{key: x.tolist() for key, x in kept.items()}, 'count': count}
        for name, kept in found.items()
    }

  def _numbering(self, length: int) -> Dict[str, np.ndarray]:
    """Returns the columns that number the frames of the next episode."""
    frames = np.arange(length)
    return {
        'episode_index': np.full_like(frames, len(self.lengths)),
        'frame_index': frames,
        'timestamp': (frames / self._rate).astype(np.float32),
        'index': sum(self.lengths) + frames,
        'task_index': np.zeros_like(frames),
    }


def _columns(
    episode: types.Episode, raw_range: action_range.ActionRange
) -> Dict[str, np.ndarray]:
  """Returns the columns of an episode's frames."""
  return {
      **_observations(episode.observation),
      'action': raw_range.to_raw(episode.action).astype(np.float32),
      'next.reward': episode.reward.astype(np.float32),
      'next.success': episode.success,
      'next.done': episode.discount == 0.0,
  }


def _observations(observation: types.Nest) -> Dict[str, np.ndarray]:
  """Returns the observations of the frames, without the last one."""
  if isinstance(observation, Mapping):
    named = {}
    for keys, array in tree.flatten_with_path(observation):
      # LeRobot's names must not contain slashes.
      name = 'observation.' + '.'.join(map(str, keys)).replace('/', '.')
      if name in named:
        raise ValueError(f'Two observations would have the name `{name}`.')
      named[name] = array
  elif observation.ndim == 4:
    named = {IMAGE: observation}
  else:
    named = {STATE: observation, ENVIRONMENT_STATE: observation}
  for name, array in named.items():
    is_image = array.dtype == np.uint8 and array.ndim == 4
    if array.ndim != 2 and not (is_image and array.shape[-1] == 3):
      raise ValueError(
          f'`{name}` must be a vector or an image [height, width, 3] of uint8, '
          f'got shape {array.shape[1:]} of {array.dtype}.'
      )
  return {name: array[:-1] for name, array in named.items()}


def _write_episodes(path, starts: np.ndarray, instruction: str) -> None:
  count = len(starts) - 1
  zeros = np.zeros([count], np.int64)
  _write_table(
      path,
      f'{lerobot_metadata.EPISODES}/chunk-000/file-000.parquet',
      {
          'episode_index': np.arange(count),
          'tasks': [[instruction]] * count,
          'length': np.diff(starts),
          'data/chunk_index': zeros,
          'data/file_index': zeros,
          'dataset_from_index': starts[:-1],
          'dataset_to_index': starts[1:],
          'meta/episodes/chunk_index': zeros,
          'meta/episodes/file_index': zeros,
      },
  )


def _write_tasks(path, instruction: str) -> None:
  """Writes the table of tasks, whose index in pandas is the text."""
  columns = [('task_index', 'int64'), ('task', 'unicode')]
  described = {
      'index_columns': ['task'],
      'column_indexes': [],
      'columns': [
          {
              'name': name,
              'field_name': name,
              'pandas_type': kind,
              'numpy_type': 'int64' if kind == 'int64' else 'object',
              'metadata': None,
          }
          for name, kind in columns
      ],
      'pandas_version': '2.2.0',
  }
  _write_table(
      path,
      'meta/tasks.parquet',
      {'task_index': np.zeros([1], np.int64), 'task': [instruction]},
      {'pandas': json.dumps(described)},
  )


def _write_table(
    path: str,
    name: str,
    columns: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
  table = _table(columns)
  if metadata:
    table = table.replace_schema_metadata(metadata)
  file = os.path.join(path, name)
  os.makedirs(os.path.dirname(file), exist_ok=True)
  lerobot_metadata.import_pyarrow().parquet.write_table(table, file)


def _table(columns: Mapping[str, Any]) -> Any:
  """Returns a table; lists of bytes are encoded images."""
  pyarrow = lerobot_metadata.import_pyarrow()
  image = pyarrow.struct(
      [('bytes', pyarrow.binary()), ('path', pyarrow.string())]
  )
  arrays = {}
  for key, column in columns.items():
    if isinstance(column, np.ndarray) and column.shape[1:] == (1,):
      column = column[:, 0]  # LeRobot takes shape (1,) for a single number.
    if isinstance(column, np.ndarray) and column.ndim == 2:
      values = pyarrow.array(np.ascontiguousarray(column).reshape(-1))
      column = pyarrow.FixedSizeListArray.from_arrays(values, column.shape[1])
    elif isinstance(column, list) and isinstance(column[0], bytes):
      column = pyarrow.array([{'bytes': x} for x in column], image)
    arrays[key] = column
  return pyarrow.table(arrays)


def _write_json(path: str, name: str, content: Mapping[str, Any]) -> None:
  with open(os.path.join(path, name), 'w', encoding='utf-8') as file:
    json.dump(content, file, indent=2, allow_nan=False)


def _sorted(shapes: Mapping[str, Tuple[int, ...]]) -> Dict[str, List[int]]:
  return {name: list(shapes[name]) for name in sorted(shapes)}


def _feature(dtype: str, shape: Tuple[int, ...]) -> Dict[str, Any]:
  return {'dtype': dtype, 'shape': list(shape), 'names': None}


def _describe(
    features: Mapping[str, Any], starts: np.ndarray, rate: int
) -> Dict[str, Any]:
  """Returns the contents of `info.json`."""
  num_episodes = len(starts) - 1
  return {
      'codebase_version': 'v3.0',
      'robot_type': None,
      'total_episodes': num_episodes,
      'total_frames': int(starts[-1]),
      'total_tasks': 1,
      'chunks_size': 1_000,  # files
      'data_files_size_in_mb': 100,
      'video_files_size_in_mb': 200,
      'fps': rate,
      'splits': {'train': f'0:{num_episodes}'},
      'data_path': _DATA,
      'video_path': None,
      'features': dict(features),
      lerobot_metadata.TASK_ENDS: True,
  }
