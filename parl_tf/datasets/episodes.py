"""Validates episodes and computes their statistics."""

from typing import Any, Iterable, Mapping, NamedTuple

import numpy as np
import tree

from parl_tf import types


class Recording(NamedTuple):
  """An episode with additional information about each step.

  Attributes:
    episode: Episode of T steps.
    infos: Arrays `[T, ...]` that describe the state before each action.
  """

  episode: types.Episode
  infos: Mapping[str, np.ndarray]


def check_episode(
    episode: types.Episode, observation_spec: Any, action_spec: Any, source: str
) -> None:
  """Checks an episode against the specs of a task.

  Args:
    episode: The episode.
    observation_spec: `dm_env` array spec, or a nest of them.
    action_spec: `dm_env` bounded array spec.
    source: Origin of the episode, used in error messages.

  Raises:
    ValueError: If a field has the wrong shape, dtype or value.
  """
  where = f'{source}, episode {episode.episode_id}'
  num_steps = len(episode.reward)
  if not num_steps:
    raise ValueError(f'{where}: an episode must have at least one step.')
  try:
    tree.assert_same_structure(episode.observation, observation_spec)
  except (TypeError, ValueError) as error:
    raise ValueError(
        f'{where}: `observation` must have the structure {observation_spec}:'
        f' {error}'
    ) from error

  def check_observation(path, array, spec):
    field = '/'.join(('observation',) + tuple(str(key) for key in path))
    _check_array(array, (num_steps + 1,) + spec.shape, spec.dtype, field, where)

  tree.map_structure_with_path(
      check_observation, episode.observation, observation_spec
  )
  steps = (num_steps,)
  _check_array(
      episode.action, steps + action_spec.shape, np.float32, 'action', where
  )
  for field, dtype in (
      ('reward', np.float32), ('discount', np.float32), ('success', np.bool_)
  ):
    _check_array(getattr(episode, field), steps, dtype, field, where)
  _check_rows(np.abs(episode.action) <= 1, 'action', 'in [-1, 1]', where)
  _check_rows(
      (episode.discount == 1) | (episode.discount == 0),
      'discount',
      '0 or 1',
      where,
  )
  _check_rows(
      episode.discount[:-1] == 1, 'discount', '1 before the last step', where
  )
  if not episode.has_last_transition and episode.discount[-1] == 0:
    raise ValueError(
        f'{where}: `has_last_transition` must be True if the last step is'
        ' terminal.'
    )


def normalization(episodes: Iterable[types.Episode]) -> types.Normalization:
  """Returns the mean and standard deviation of the observations.

  The last observation of each episode is excluded, because no action follows
  it. Constant entries get a standard deviation of 1. Image observations have
  no statistics; their entries are None.

  Args:
    episodes: Episodes, iterated once.

  Raises:
    ValueError: If `episodes` is empty.
  """
  count = 0
  mean = squares = None
  for episode in episodes:
    # Parallel update of Chan et al. (1979), in float64.
    batch = [
        np.asarray(x[:-1], np.float64)
        for x in tree.flatten(episode.observation)
        if not _are_pictures(x)
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
        lambda x: None if _are_pictures(x) else next(vectors),
        episode.observation,
    )

  return types.Normalization(
      mean=restore(m.astype(np.float32) for m in mean),
      standard_deviation=restore(map(deviation, squares)),
  )


def _are_pictures(array: np.ndarray) -> bool:
  return array.ndim == 4 and array.dtype == np.uint8


def _check_array(array, shape, dtype, field, where) -> None:
  if not isinstance(array, np.ndarray):
    raise ValueError(
        f'{where}: `{field}` must be a numpy array, got {type(array).__name__}.'
    )
  if array.shape != shape:
    raise ValueError(
        f'{where}: `{field}` must have shape {shape}, got {array.shape}.'
    )
  if array.dtype != dtype:
    raise ValueError(
        f'{where}: `{field}` must be {np.dtype(dtype)}, got {array.dtype}.'
    )
  if array.dtype.kind == 'f':
    _check_rows(np.isfinite(array), field, 'finite', where)


def _check_rows(is_right, field, wanted, where) -> None:
  if not np.all(is_right):
    row = int(np.argwhere(~is_right)[0][0])
    raise ValueError(f'{where}: `{field}` must be {wanted}, at step {row}.')
