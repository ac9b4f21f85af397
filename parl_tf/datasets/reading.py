"""Episodes of a data set of any format."""

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from absl import logging
import gin
import numpy as np
import tree

from parl_tf import types
from parl_tf.datasets import formats
from parl_tf.datasets import inspection
from parl_tf.datasets import rows as rows_lib


@gin.configurable('dataset', denylist=['observation_spec', 'action_spec'])
def make_layout(
    observation_spec: Any = None,
    action_spec: Any = None,
    *,
    action_bounds: Tuple = (-1.0, 1.0),
    clip_actions: bool = False,
    reward_values: Optional[Tuple[float, ...]] = None,
    success_field: Optional[str] = None,
    success_reward: float = 0.0,
    is_binary: bool = False,
) -> rows_lib.Layout:
  """Returns what a task wants of a data set.

  Args:
    observation_spec: Spec of the task's observation, an array or a flat dict of
      them, of which no others are then read; None for any.
    action_spec: Spec of the task's action; None for any.
    action_bounds: `(low, high)` of the file's actions, each a number or `[A]`;
      they are mapped to -1 and 1.
    clip_actions: Whether to clip actions outside the bounds; else they are an
      error.
    reward_values: The only values that raw rewards may have; None for any.
    success_field: The file's name of flags that tell of success after each
      step; None for the format's own where it has one, else by the reward.
    success_reward: Without such flags, rewards above it are successes.
    is_binary: Whether the reward is 1 where the task is solved, which ends the
      episode, and 0 before, whatever rewards the file has. What the file has
      after a success is left out.
  """
  return rows_lib.Layout(
      observation_shape=_shape_of(observation_spec),
      action_shape=_shape_of(action_spec),
      action_bounds=action_bounds,
      clip_actions=clip_actions,
      reward_values=reward_values,
      success_field=success_field,
      success_reward=success_reward,
      is_binary=is_binary,
      observation_keys=(
          tuple(observation_spec)
          if isinstance(observation_spec, Mapping)
          else None
      ),
  )


def read_episodes(path: str, **options: Any) -> Iterator[types.Episode]:
  """Yields the episodes of a data set, after a check of the whole.

  Rows after the last end make an episode that stops as by a time-out. Memory
  holds some thousand rows and one episode.

  Args:
    path: File or directory; `formats` tells which ones are known.
    **options: Of `make_layout`.

  Returns:
    Iterator of episodes, numbered in the order of the file.

  Raises:
    ValueError: If the data set has a fault; the message names all, with path,
      field, row, what must hold and what was seen.
  """
  layout = make_layout(**options)
  found = inspection.inspect(path, layout)
  if found.faults:
    raise ValueError('\n'.join(found.faults))
  if found.num_trailing_rows:
    logging.warning(
        '%s: the last %d rows have no end; they are taken as timed out.',
        path, found.num_trailing_rows,
    )
  return _episodes(path, layout)


def _shape_of(spec: Any) -> Any:
  """Returns the shape of a spec, or those of a dict of them."""
  if isinstance(spec, Mapping):
    return {name: tuple(part.shape) for name, part in spec.items()}
  return None if spec is None else tuple(spec.shape)


def _episodes(
    path: str, layout: rows_lib.Layout
) -> Iterator[types.Episode]:
  """Yields the episodes of a data set without fault."""
  pieces: List[rows_lib.Rows] = []
  number = 0
  with formats.open_source(path, layout) as source:
    for rows in source.read():
      start = 0
      for end in rows_lib.find_ends(rows) + 1:
        pieces.append(_slice(rows, start, end))
        yield _make_episode(pieces, layout, number)
        pieces, number, start = [], number + 1, end
      if start < len(rows['rewards']):
        pieces.append(_slice(rows, start, None))
  if pieces:
    yield _make_episode(pieces, layout, number)


def _slice(rows, start, end) -> Dict[str, np.ndarray]:
  return {name: array[start:end] for name, array in rows.items()}


def _make_episode(pieces, layout, number) -> types.Episode:
  """Makes an episode of consecutive rows."""
  # Copies, so that an episode does not keep its neighbours in memory.
  rows = {
      name: np.concatenate([piece[name] for piece in pieces])
      for name in pieces[0]
  }
  success = rows_lib.find_successes(rows, layout)
  if layout.is_binary:
    num_steps = int(np.argmax(success)) + 1 if success.any() else len(success)
    rows, success = _slice(rows, 0, num_steps), success[:num_steps]
    rows = {**rows, 'rewards': success, 'terminals': success}
  is_terminal = rows['terminals'].astype(np.bool_)
  observation = rows_lib.nest_of(rows, rows_lib.OBSERVATIONS)
  knows_last = bool(rows_lib.part_names(rows, rows_lib.NEXT_OBSERVATIONS))
  following = rows_lib.nest_of(rows, rows_lib.NEXT_OBSERVATIONS)

  def join(array, after):
    joined = np.concatenate([array, after[-1:]])
    return joined if joined.dtype == np.uint8 else joined.astype(np.float32)

  return types.Episode(
      observation=tree.map_structure(
          join, observation, following if knows_last else observation
      ),
      action=rows_lib.scale_actions(rows['actions'], layout).clip(-1.0, 1.0),
      reward=rows['rewards'].astype(np.float32),
      discount=1.0 - is_terminal.astype(np.float32),
      success=success,
      episode_id=number,
      has_last_transition=knows_last or bool(is_terminal[-1]),
  )
