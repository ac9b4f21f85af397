"""Writes LeRobot datasets, version 3.0, without torch.

A dataset is one Parquet file of frames and the metadata that LeRobot's training
program reads: features, statistics, episodes and tasks. The observation after
an episode's last action is not stored.

  observation  `observation.<key>`. An observation that is one array becomes
               `observation.state` and, because LeRobot's diffusion policy and
               ACT need one, also `observation.environment_state`.
  reward       `next.reward`
  success      `next.success`
  done         `next.done`, set where the task ended, not at a timeout.
"""

import json
import os
import shutil
from typing import Any, Dict, Iterable, List, Mapping, Tuple

import numpy as np
import tree

from parl_tf import types
from parl_tf.datasets import lerobot_metadata

STATE = 'observation.state'
ENVIRONMENT_STATE = 'observation.environment_state'

_DATA = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
_FILE = {'chunk_index': 0, 'file_index': 0}
_QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def write(
    path: str,
    episodes: Iterable[types.Episode],
    *,
    rate: int,
    instruction: str,
    action_bounds: Tuple[Any, Any] = (-1.0, 1.0),
) -> None:
  """Writes episodes to a new directory.

  All numbers are held in memory. The directory appears at its path only when it
  is complete.

  Args:
    path: Directory to write, which must not exist.
    episodes: Episodes, iterated once.
    rate: Frames per second.
    instruction: Text of the task, for policies that read it.
    action_bounds: `(low, high)` in the units of the environment, each a number
      or `[A]`, to which -1 and 1 are mapped.

  Raises:
    ImportError: If pyarrow is not installed.
    ValueError: If the directory exists, there is no episode, or an observation
      is an image or differs in keys from the first.
  """
  lerobot_metadata.import_pyarrow()
  if os.path.exists(path):
    raise ValueError(f'{path}: must not exist yet.')
  columns, lengths = _concatenate(episodes, action_bounds)
  rows = np.arange(sum(lengths))
  starts = np.cumsum([0, *lengths])
  columns['episode_index'] = np.repeat(np.arange(len(lengths)), lengths)
  columns['frame_index'] = rows - np.repeat(starts[:-1], lengths)
  columns['timestamp'] = (columns['frame_index'] / rate).astype(np.float32)
  columns['index'] = rows
  columns['task_index'] = np.zeros_like(rows)

  partial = path + '.partial'
  shutil.rmtree(partial, ignore_errors=True)
  _write_table(partial, _DATA.format(**_FILE), columns)
  _write_episodes(partial, starts, instruction)
  _write_tasks(partial, instruction)
  _write_json(partial, 'meta/stats.json', _statistics(columns))
  _write_json(
      partial, lerobot_metadata.INFO, _describe(columns, len(lengths), rate)
  )
  os.rename(partial, path)


def _concatenate(
    episodes, action_bounds
) -> Tuple[Dict[str, np.ndarray], List[int]]:
  """Returns the columns of all frames, and the lengths of the episodes."""
  low, high = (np.asarray(bound, np.float64) for bound in action_bounds)
  pieces: List[Mapping[str, np.ndarray]] = []
  for episode in episodes:
    action = (low + high) / 2.0 + (high - low) / 2.0 * episode.action
    piece = {
        **_observations(episode.observation),
        'action': action.astype(np.float32),
        'next.reward': episode.reward.astype(np.float32),
        'next.success': episode.success,
        'next.done': episode.discount == 0.0,
    }
    if pieces and set(piece) != set(pieces[0]):
      raise ValueError(
          f'Episode {len(pieces)} must have the columns {sorted(pieces[0])}, '
          f'got {sorted(piece)}.'
      )
    pieces.append(piece)
  if not pieces:
    raise ValueError('There must be at least one episode, got none.')
  columns = {
      name: np.concatenate([piece[name] for piece in pieces])
      for name in pieces[0]
  }
  return columns, [len(piece['action']) for piece in pieces]


def _observations(observation: types.Nest) -> Dict[str, np.ndarray]:
  """Returns the observations of the frames, without the last one."""
  if not isinstance(observation, Mapping):
    named = {STATE: observation, ENVIRONMENT_STATE: observation}
  else:
    named = {
        'observation.' + '.'.join(map(str, keys)): array
        for keys, array in tree.flatten_with_path(observation)
    }
  for name, array in named.items():
    if array.ndim != 2:
      raise ValueError(
          f'`{name}` must be a vector: images are not written to LeRobot '
          f'datasets. Got shape {array.shape[1:]}.'
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
  pyarrow = lerobot_metadata.import_pyarrow()
  arrays = {}
  for key, column in columns.items():
    if isinstance(column, np.ndarray) and column.ndim == 2:
      values = pyarrow.array(np.ascontiguousarray(column).reshape(-1))
      column = pyarrow.FixedSizeListArray.from_arrays(values, column.shape[1])
    arrays[key] = column
  table = pyarrow.table(arrays)
  if metadata:
    table = table.replace_schema_metadata(metadata)
  file = os.path.join(path, name)
  os.makedirs(os.path.dirname(file), exist_ok=True)
  pyarrow.parquet.write_table(table, file)


def _write_json(path: str, name: str, content: Mapping[str, Any]) -> None:
  with open(os.path.join(path, name), 'w', encoding='utf-8') as file:
    json.dump(content, file, indent=2, allow_nan=False)


def _statistics(columns: Mapping[str, np.ndarray]) -> Dict[str, Any]:
  """Returns what LeRobot normalizes with, of each feature."""
  statistics = {}
  for name, column in columns.items():
    values = column.reshape(len(column), -1).astype(np.float64)
    found = {
        'min': values.min(axis=0),
        'max': values.max(axis=0),
        'mean': values.mean(axis=0),
        'std': values.std(axis=0),
    }
    for level in _QUANTILES:
      found[f'q{round(100 * level):02d}'] = np.quantile(values, level, axis=0)
    statistics[name] = {key: x.tolist() for key, x in found.items()}
    statistics[name]['count'] = [len(values)]
  return statistics


def _describe(
    columns: Mapping[str, np.ndarray], num_episodes: int, rate: int
) -> Dict[str, Any]:
  """Returns the contents of `info.json`."""
  return {
      'codebase_version': 'v3.0',
      'robot_type': None,
      'total_episodes': num_episodes,
      'total_frames': len(columns['index']),
      'total_tasks': 1,
      'chunks_size': 1_000,  # files
      'data_files_size_in_mb': 100,
      'video_files_size_in_mb': 200,
      'fps': rate,
      'splits': {'train': f'0:{num_episodes}'},
      'data_path': _DATA,
      'video_path': None,
      'features': {
          name: {
              'dtype': column.dtype.name,
              'shape': list(column.shape[1:] or (1,)),
              'names': None,
          }
          for name, column in columns.items()
      },
  }
