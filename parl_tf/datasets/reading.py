"""Reads the episodes of a dataset of any format."""

import os
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Tuple,
    Union,
)

from absl import logging
import gin
import numpy as np
import tree

from parl_tf import picture_store
from parl_tf import types
from parl_tf.datasets import formats
from parl_tf.datasets import inspection
from parl_tf.datasets import rows as rows_lib


@gin.configurable(
    'dataset',
    denylist=[
        'observation_spec',
        'action_spec',
        'task',
        'ends_at_success',
        'concatenated_keys',
        'raw_action_bounds',
        'reward_range',
        'checks_actions',
        'max_episode_steps',
        'expects_success',
    ],
)
def make_layout(
    observation_spec: Any = None,
    action_spec: Any = None,
    task: Optional[int] = None,
    ends_at_success: bool = True,
    concatenated_keys: Optional[Tuple[str, ...]] = None,
    raw_action_bounds: Optional[Tuple[np.ndarray, np.ndarray]] = None,
    reward_range: Optional[Tuple[float, float]] = None,
    checks_actions: bool = True,
    max_episode_steps: Optional[int] = None,
    expects_success: bool = True,
    *,
    action_bounds: Tuple = (-1.0, 1.0),
    clip_actions: bool = False,
    reward_values: Optional[Tuple[float, ...]] = None,
    success_field: Optional[str] = None,
    success_reward: float = 0.0,
    is_binary: bool = False,
    every_episode_succeeds: bool = False,
) -> rows_lib.Layout:
  """Returns the layout a task expects of its dataset.

  Args:
    observation_spec: Observation spec of the task, an array spec or a flat dict
      of array specs. With a dict, only its keys are read. None accepts any
      observation.
    action_spec: Action spec of the task; None accepts any action.
    task: Zero-based index of the task whose rewards and successes to read from
      a play dataset, see `d4rl`; None reads the standard columns.
    ends_at_success: Whether success in `task` ends the episode, so that the
      later rows form another one.
    concatenated_keys: Parts of a nested observation to concatenate to one
      array, in this order, as the task does; None keeps them.
    raw_action_bounds: `(low, high)` of the task's actions in its own units,
      each `[A]`; None if they are unknown.
    reward_range: Lowest and highest raw reward of a row; None if unknown.
    checks_actions: Whether actions outside the bounds are a fault at all; False
      if their units are unknown.
    max_episode_steps: Time limit of the task, in steps, with which episode ends
      are compared; None if it is unknown.
    expects_success: False if the task is judged by its return. Then no reward
      is a success unless `success_reward` is bound, and data without success
      are no reason for a warning.
    action_bounds: `(low, high)` of the stored actions, each a number or `[A]`;
      mapped to -1 and 1. Ignored for datasets with actions in [-1, 1] that the
      library wrote.
    clip_actions: Whether to clip actions outside the bounds. If False, such
      actions are a fault.
    reward_values: Allowed values of the raw reward; None allows any.
    success_field: Name of the stored flags that mark success after each step.
      None uses the format's own flags if there are any, otherwise the reward.
    success_reward: Without success flags, steps with a reward above this value
      are successes.
    is_binary: Whether to replace the stored reward with 1 at the first success,
      which ends the episode, and 0 before it. Later rows of the episode are
      dropped. All other ends are time limits, whatever the file says.
    every_episode_succeeds: Whether the last step of each episode solves the
      task and ends it, whatever the stored rewards and flags, which may be
      absent. The reward of that step is the highest of `reward_range`, that of
      the others the lowest; 1 and 0 if the range is None.

  Raises:
    ValueError: If `every_episode_succeeds` is set with another definition of
      success.
  """
  if every_episode_succeeds and (success_field or success_reward or is_binary):
    raise ValueError(
        '`dataset.every_episode_succeeds` must be the only definition of'
        f' success, got `success_field` = {success_field!r}, `success_reward` ='
        f' {success_reward} and `is_binary` = {is_binary}. After the file that'
        ' binds these, bind them to None, 0.0 and False.'
    )
  if not (expects_success or success_reward):
    success_reward = np.inf
  return rows_lib.Layout(
      observation_shape=_shape_of(observation_spec),
      observation_dtype=_dtype_of(observation_spec),
      action_shape=_shape_of(action_spec),
      action_bounds=action_bounds,
      clip_actions=clip_actions,
      checks_actions=checks_actions,
      reward_values=reward_values,
      reward_range=reward_range,
      success_field=success_field,
      success_reward=success_reward,
      is_binary=is_binary,
      every_episode_succeeds=every_episode_succeeds,
      observation_keys=(
          tuple(observation_spec)
          if isinstance(observation_spec, Mapping)
          else None
      ),
      task=task,
      ends_at_success=ends_at_success,
      concatenated_keys=concatenated_keys,
      raw_action_bounds=raw_action_bounds,
      max_episode_steps=max_episode_steps,
  )


def read_episodes(
    path: Union[str, os.PathLike],
    *,
    make_store: Optional[Callable[[int], picture_store.PictureStore]] = None,
    **options: Any,
) -> Iterator[types.Episode]:
  """Validates a dataset and yields its episodes.

  Rows after the last episode end form a final episode, which ends with a
  timeout. Memory usage is bounded by a few thousand rows and one episode.

  Args:
    path: File or directory in a format of `formats`.
    make_store: Makes the store of the episodes' pictures, given a bound on
      their number per camera; None leaves them in the episodes.
    **options: Arguments of `make_layout`.

  Returns:
    Iterator of episodes, numbered in file order.

  Raises:
    ImportError: If the format requires a package that is not installed.
    ValueError: If the dataset has faults. The message lists the first fault of
      each kind, with path, field, row, expected and actual value.
  """
  layout = make_layout(**options)
  found = inspection.inspect(path, layout)
  if found.faults:
    raise ValueError('\n'.join(found.faults))
  if found.num_trailing_rows:
    logging.warning(
        '%s: the last %d rows have no episode end; treating them as an episode'
        ' that timed out.',
        path, found.num_trailing_rows,
    )
  for hint in (*found.end_hints, found.success_hint, found.action_hint):
    if hint:
      logging.warning('%s: %s', path, hint)
  episodes = read_inspected(path, layout)
  if make_store is None:
    return episodes
  return map(make_store(found.num_rows + len(found.lengths)).keep, episodes)


def read_inspected(
    path: Union[str, os.PathLike], layout: rows_lib.Layout
) -> Iterator[types.Episode]:
  """Yields the episodes of a dataset in which `inspection` found no fault."""
  pieces: List[rows_lib.Rows] = []
  number = 0
  with formats.open_source(path, layout) as source:
    layout = source.fit(layout)
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


def _shape_of(spec: Any) -> Any:
  """Returns the shape of a spec, or a dict of shapes for a dict of specs."""
  if isinstance(spec, Mapping):
    return {name: tuple(part.shape) for name, part in spec.items()}
  return None if spec is None else tuple(spec.shape)


def _dtype_of(spec: Any) -> Any:
  """Returns the dtype of a spec, or a dict of dtypes for a dict of specs."""
  if isinstance(spec, Mapping):
    return {name: part.dtype for name, part in spec.items()}
  return None if spec is None else spec.dtype


def _actions(stored: np.ndarray, layout: rows_lib.Layout) -> np.ndarray:
  actions = rows_lib.scale_actions(stored, layout)
  return actions.clip(-1.0, 1.0) if layout.checks_actions else actions


def _slice(rows, start, end) -> Dict[str, np.ndarray]:
  return {name: array[start:end] for name, array in rows.items()}


def _make_episode(pieces, layout, number) -> types.Episode:
  """Makes an episode from consecutive rows."""
  # Copy, so that the episode does not keep the whole batch in memory.
  rows = {
      name: np.concatenate([piece[name] for piece in pieces])
      for name in pieces[0]
  }
  success = rows_lib.find_successes(rows, layout)
  is_continued = rows_lib.CONTINUED in rows and rows[rows_lib.CONTINUED][-1]
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
      action=_actions(rows['actions'], layout),
      reward=rows['rewards'].astype(np.float32),
      discount=1.0 - is_terminal.astype(np.float32),
      success=success,
      episode_id=number,
      has_last_transition=knows_last or bool(is_terminal[-1]),
      is_continued=bool(is_continued),
  )
