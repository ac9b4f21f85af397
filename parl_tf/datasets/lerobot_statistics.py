"""The statistics of a feature with which LeRobot normalizes."""

from typing import Dict

import numpy as np

_QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def of_numbers(column: np.ndarray) -> Dict[str, np.ndarray]:
  """Returns the statistics of numbers `[frames, ...]`, each `[size]`."""
  values = column.reshape(len(column), -1).astype(np.float64)
  found = {
      'min': values.min(axis=0),
      'max': values.max(axis=0),
      'mean': values.mean(axis=0),
      'std': values.std(axis=0),
  }
  for level in _QUANTILES:
    found[_quantile_name(level)] = np.quantile(values, level, axis=0)
  return found


def of_images(histogram: np.ndarray) -> Dict[str, np.ndarray]:
  """Returns the statistics of pixels in [0, 1], each `[3, 1, 1]`.

  Args:
    histogram: `[3, 256]`, number of pixels of each channel and value.
  """
  values = np.arange(256) / 255.0
  num_pixels = histogram.sum(axis=1, keepdims=True)
  share = histogram / num_pixels
  mean = share @ values
  found = {
      'min': values[np.argmax(histogram > 0, axis=1)],
      'max': values[255 - np.argmax(histogram[:, ::-1] > 0, axis=1)],
      'mean': mean,
      'std': np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0)),
  }
  for level in _QUANTILES:
    reached = np.cumsum(histogram, axis=1) >= level * num_pixels
    found[_quantile_name(level)] = values[np.argmax(reached, axis=1)]
  return {name: x[:, np.newaxis, np.newaxis] for name, x in found.items()}


def _quantile_name(level: float) -> str:
  return f'q{round(100 * level):02d}'
