"""Recordings of episodes, and statistics of their observations."""

from typing import Any, Iterable, Mapping, NamedTuple, Tuple

import numpy as np
import tree

from parl_tf import types


class Recording(NamedTuple):
  """An episode with additional information about each step.

  Attributes:
    episode: Episode of T steps.
    infos: Arrays `[T, ...]` of additional values: of the state before each
      action, of the controller, or of the step.
  """

  episode: types.Episode
  infos: Mapping[str, np.ndarray]


def normalization(episodes: Iterable[types.Episode]) -> types.Normalization:
  """Returns the mean and standard deviation of the observations.

  The last observation of each episode is excluded, because no action follows
  it. Constant entries get a standard deviation of 1. Images have no statistics;
  their entries are None.

  Args:
    episodes: Episodes, iterated once.

  Raises:
    ValueError: If `episodes` is empty.
  """
  count = 0
  mean: Any = None
  squares: Any = None
  for episode in episodes:
    # Parallel update of Chan et al. (1979), in float64.
    batch = [
        np.asarray(x[:-1], np.float64)
        for x in tree.flatten(episode.observation)
        if not _are_images(x)
    ]
    size = len(episode.reward)
    total = count + size
    batch_mean = tree.map_structure(lambda x: x.mean(axis=0), batch)
    batch_squares = tree.map_structure(
        lambda x: x.var(axis=0) * len(x), batch
    )
    if mean is None:
      mean, squares = batch_mean, batch_squares
    else:
      shift = tree.map_structure(np.subtract, batch_mean, mean)
      squares = tree.map_structure(
          lambda s, b, d: s + b + d * d * (count * size / total),  # pylint: disable=cell-var-from-loop
          squares, batch_squares, shift,
      )
      mean = tree.map_structure(
          lambda m, d: m + d * (size / total), mean, shift  # pylint: disable=cell-var-from-loop
      )
    count = total
  if mean is None:
    raise ValueError('`episodes` must not be empty.')

  def deviation(square_sum):
    value = np.sqrt(square_sum / count)
    return np.where(value < 1e-6, 1.0, value).astype(np.float32)

  def restore(vectors):
    vectors = iter(vectors)
    return tree.map_structure(
        lambda x: None if _are_images(x) else next(vectors),
        episode.observation,
    )

  return types.Normalization(
      mean=restore(m.astype(np.float32) for m in mean),
      standard_deviation=restore(map(deviation, squares)),
  )


def action_range(
    episodes: Iterable[types.Episode],
) -> Tuple[np.ndarray, np.ndarray]:
  """Returns the 1st and 99th percentile of each action dimension, `[A]` each.

  These are the ends of OpenVLA's bins (Kim et al., 2024, arXiv:2406.09246).
  Grippers keep [-1, 1]: dimensions with at most two values, those whose
  percentiles span less than a tenth of their values, and those with at least
  0.1 % of the values further from the nearest percentile than the percentiles
  are from each other, because a gripper may be noisy and open in less than 1 %
  of the steps.

  Args:
    episodes: Episodes, iterated once.

  Raises:
    ValueError: If `episodes` is empty.
  """
  actions = [episode.action for episode in episodes]
  if not actions:
    raise ValueError('`episodes` must not be empty.')
  actions = np.concatenate(actions)
  low, high = np.quantile(actions, [0.01, 0.99], axis=0).astype(np.float32)
  for i, column in enumerate(actions.T):
    span = high[i] - low[i]
    is_narrow = span < 0.1 * (column.max() - column.min())
    is_far = (column > high[i] + span) | (column < low[i] - span)
    if len(np.unique(column)) <= 2 or is_narrow or np.mean(is_far) >= 1e-3:
      low[i], high[i] = -1.0, 1.0
  return low, high


def action_deviation(episodes: Iterable[types.Episode]) -> np.ndarray:
  """Returns the standard deviation `[A]` of each action dimension.

  Args:
    episodes: Episodes, iterated once.

  Raises:
    ValueError: If `episodes` is empty.
  """
  actions = [episode.action for episode in episodes]
  if not actions:
    raise ValueError('`episodes` must not be empty.')
  actions = np.concatenate(actions).astype(np.float64)
  return actions.std(axis=0).astype(np.float32)


def _are_images(array: np.ndarray) -> bool:
  return array.ndim == 4 and array.dtype == np.uint8
