"""Writes small files in D4RL's layout."""

import h5py
import numpy as np

from parl_tf import types
from parl_tf.datasets import d4rl_writer


def make(ends='--T-t--', **changes):
  """Returns columns with one row per character of `ends`.

  Args:
    ends: One character per row: T is terminal, t a timeout, - neither.
    **changes: Columns to replace; None removes a column.
  """
  rows = len(ends)
  columns = {
      'observations': np.arange(2 * rows, dtype=np.float32).reshape(rows, 2),
      'actions': np.linspace(-1, 1, rows, dtype=np.float32)[:, None],
      'rewards': np.array([end == 'T' for end in ends], np.float32),
      'terminals': np.array([end == 'T' for end in ends]),
      'timeouts': np.array([end == 't' for end in ends]),
  }
  columns.update(changes)
  return {name: x for name, x in columns.items() if x is not None}


def write(path, columns):
  with h5py.File(path, 'w') as file:
    for name, array in columns.items():
      file[name] = array


def write_episodes(path, episodes, **kwargs):
  with d4rl_writer.EpisodeFile(path, **kwargs) as file:
    for episode in episodes:
      file.append(episode)


def make_episode(observation, success_at_end, episode_id=0, **changes):
  """Returns an episode of observations `[T + 1]`, each repeated twice."""
  observation = np.array(observation, np.float32)[:, None].repeat(2, axis=1)
  steps = len(observation) - 1
  success = np.zeros([steps], np.bool_)
  success[-1] = success_at_end
  episode = types.Episode(
      observation=observation,
      action=np.linspace(-0.5, 0.5, steps, dtype=np.float32)[:, None],
      reward=success.astype(np.float32),
      discount=1 - success.astype(np.float32),
      success=success,
      episode_id=episode_id,
  )
  return episode._replace(**changes)
