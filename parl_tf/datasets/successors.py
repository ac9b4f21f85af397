"""Compares next observations with the observations of the next rows."""

import numpy as np

_MAX_ERROR = 1e-4
_MAX_SHARE = 1e-2  # of the observations, where that is less
# The columns may have different dtypes.
_ROUNDING = 1e-6  # as a share of the observations
# Pictures take eight times their memory as float64.
_ROWS_PER_COMPARISON = 64


def mean_errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Returns the mean absolute difference of each row, `[rows]`."""
  errors = np.empty([len(first)])
  for start in range(0, len(first), _ROWS_PER_COMPARISON):
    part = slice(start, start + _ROWS_PER_COMPARISON)
    error = np.abs(first[part].astype(np.float64) - second[part])
    errors[part] = error.reshape([len(error), -1]).mean(axis=1)
  return errors


def tolerance(observations: np.ndarray) -> float:
  """Returns the largest error that is none, by the size of the numbers."""
  size = float(np.mean(np.abs(observations), dtype=np.float64))
  return min(_MAX_ERROR, _MAX_SHARE * size) + _ROUNDING * size
