"""Small files in D4RL's layout."""

import h5py
import numpy as np


def make(ends='--T-t--', **changes):
  """Returns columns of a row each; T is terminal, t a time-out.

  Args:
    ends: One character a row.
    **changes: Columns to put in, None to leave one out.
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
