"""Actions as OpenVLA reads and writes them, in NumPy.

An action is scaled so that the 1st and 99th percentile of each dimension become
-1 and 1, and each dimension is one of the last 256 tokens of the vocabulary
(Kim et al., 2024, arXiv:2406.09246, section 3.2).

Axis: A action dimension.
"""

import json
from typing import Any, Mapping, Optional

import numpy as np


class ActionTokens:
  """The tokens of scaled actions.

  As in OpenVLA's weights, 256 edges divide [-1, 1] into 255 bins. The bins are
  counted from the end of the vocabulary: its last token is the lowest bin. The
  first of the 256 tokens is exactly 1, and decodes like the highest bin.

  Attributes:
    first: Id of the first action token.
    num_tokens: Number of action tokens.
  """

  def __init__(self, vocabulary_size: int, num_tokens: int = 256):
    """Initializes the bins.

    Args:
      vocabulary_size: Number of ids, those that only pad the embedding
        excluded.
      num_tokens: Number of action tokens.

    Raises:
      ValueError: If the vocabulary has fewer tokens.
    """
    if not 3 <= num_tokens <= vocabulary_size:
      raise ValueError(
          '`num_tokens` must be at least 3 and at most `vocabulary_size` '
          f'({vocabulary_size}), got {num_tokens}.'
      )
    self.first = vocabulary_size - num_tokens
    self.num_tokens = num_tokens
    self._edges = np.linspace(-1.0, 1.0, num_tokens)
    self._centers = (self._edges[:-1] + self._edges[1:]) / 2.0

  def encode(self, actions: np.ndarray) -> np.ndarray:
    """Returns the ids of actions in [-1, 1]; others get the nearest bin."""
    bins = np.digitize(np.clip(actions, -1.0, 1.0), self._edges)
    return (self.first + self.num_tokens - bins).astype(np.int64)

  def decode(self, ids: np.ndarray) -> np.ndarray:
    """Returns the centers of the bins of ids, in [-1, 1].

    Raises:
      ValueError: If an id is not an action token.
    """
    bins = self.first + self.num_tokens - np.asarray(ids)
    if np.any((bins < 1) | (bins > self.num_tokens)):
      raise ValueError(
          f'Action tokens must be in [{self.first}, '
          f'{self.first + self.num_tokens}), got {np.unique(ids)}.'
      )
    return self._centers[np.minimum(bins - 1, len(self._centers) - 1)]


class Percentiles:
  """Scales actions by the percentiles of a dataset.

  Attributes:
    low: `[A]`, the 1st percentile.
    high: `[A]`, the 99th percentile.
    is_scaled: `[A]`; other dimensions, such as a gripper, are left alone.
  """

  def __init__(
      self,
      low: np.ndarray,
      high: np.ndarray,
      is_scaled: Optional[np.ndarray] = None,
  ):
    """Initializes the percentiles.

    Args:
      low: `[A]`, the 1st percentile in the units of the robot.
      high: `[A]`, the 99th percentile.
      is_scaled: `[A]`; None scales all dimensions.

    Raises:
      ValueError: If the shapes differ or a dimension to scale has no range.
    """
    self.low = np.asarray(low, np.float64)
    self.high = np.asarray(high, np.float64)
    if is_scaled is None:
      is_scaled = np.ones(self.low.shape)
    self.is_scaled = np.asarray(is_scaled, np.bool_)
    shapes = {x.shape for x in (self.low, self.high, self.is_scaled)}
    if len(shapes) != 1 or self.low.ndim != 1:
      raise ValueError(
          'The percentiles must have one shape [A], got '
          f'{self.low.shape}, {self.high.shape} and {self.is_scaled.shape}.'
      )
    if np.any(self.is_scaled & ~(self.low < self.high)):
      raise ValueError(
          'The 1st percentile must be below the 99th, got '
          f'{self.low.tolist()} and {self.high.tolist()}.'
      )

  @classmethod
  def from_statistics(
      cls, statistics: Mapping[str, Any], dataset: str
  ) -> 'Percentiles':
    """Reads the percentiles of a dataset.

    Args:
      statistics: Contents of OpenVLA's `dataset_statistics.json`, or
        `norm_stats` of its `config.json`.
      dataset: Name of the dataset.

    Raises:
      ValueError: If they lack the dataset or its percentiles.
    """
    if dataset not in statistics:
      raise ValueError(
          f'`dataset` must be one of {sorted(statistics)}, got {dataset!r}.'
      )
    action = statistics[dataset].get('action', {})
    if 'q01' not in action or 'q99' not in action:
      raise ValueError(
          f'The statistics of {dataset!r} must have the percentiles `q01` and '
          f'`q99` of `action`, got {sorted(action)}.'
      )
    return cls(action['q01'], action['q99'], action.get('mask'))

  @property
  def action_size(self) -> int:
    """A."""
    return len(self.low)

  def scale(self, actions: np.ndarray) -> np.ndarray:
    """Returns actions `[..., A]` of the robot in [-1, 1]."""
    share = (actions - self.low) / self._range
    scaled = np.clip(2.0 * share - 1.0, -1.0, 1.0)
    return np.where(self.is_scaled, scaled, actions)

  def unscale(self, scaled: np.ndarray) -> np.ndarray:
    """Returns actions `[..., A]` of the robot; see `scale`."""
    actions = (scaled + 1.0) / 2.0 * self._range + self.low
    return np.where(self.is_scaled, actions, scaled)

  @property
  def _range(self) -> np.ndarray:
    return np.where(self.is_scaled, self.high - self.low, 1.0)


def read_statistics(path: str) -> Mapping[str, Any]:
  """Returns the contents of a file such as `dataset_statistics.json`."""
  with open(path, encoding='utf-8') as file:
    return json.load(file)
