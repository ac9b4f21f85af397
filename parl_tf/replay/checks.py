"""Validation of episodes and stored steps before they are stored.

Every check raises a `ValueError` that names the source (a file or a table) and
the field. The message gives the actual and the expected shape, dtype or value.
"""

import collections.abc
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from parl_tf import types

OBSERVATION_DTYPES = (np.dtype(np.float32), np.dtype(np.uint8))


class FieldSpec(NamedTuple):
  """The `dtype` and `shape` of one field at one step."""

  dtype: np.dtype
  shape: Tuple[int, ...]


StepSpec = Mapping[str, FieldSpec]
"""Maps field names, such as `policy_info/success`, to their specs."""


def named_leaves(fields: Any) -> Iterator[Tuple[str, Any]]:
  """Yields the arrays of a named tuple of arrays or of flat mappings.

  Args:
    fields: NamedTuple whose values are arrays, specs, flat mappings of them, or
      `()`, which has no leaves.

  Yields:
    Pairs of name and leaf. The name is `field` or `field/key`, with the keys
    in sorted order.
  """
  for name, value in zip(fields._fields, fields):
    if isinstance(value, collections.abc.Mapping):
      for key in sorted(value):
        yield f'{name}/{key}', value[key]
    elif not (isinstance(value, tuple) and not value):
      yield name, value


def spec_of_steps(steps: Any) -> StepSpec:
  """Returns the spec of stored steps `[num_steps, ...]`."""
  return {
      name: FieldSpec(leaf.dtype, tuple(leaf.shape[1:]))
      for name, leaf in named_leaves(steps)
  }


def spec_of_signature(signature: Any) -> StepSpec:
  """Returns the spec of one step from its `tf.TensorSpec`s."""
  return {
      name: FieldSpec(
          np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape)
      )
      for name, spec in named_leaves(signature)
  }


def check_step_spec(source: str, seen: StepSpec, wanted: StepSpec) -> None:
  """Raises a `ValueError` if two specs differ.

  Args:
    source: The table or file to name in the message.
    seen: StepSpec of the new steps.
    wanted: StepSpec of the steps that are already stored.
  """
  missing, extra = set(wanted) - set(seen), set(seen) - set(wanted)
  if missing or extra:
    raise ValueError(
        f'{source}: fields must be {sorted(wanted)}; missing '
        f'{sorted(missing)}, unknown {sorted(extra)}.'
    )
  for name, want in wanted.items():
    if seen[name] != want:
      raise ValueError(
          f'{source}: field `{name}` must be {_describe(want)} at each step, '
          f'got {_describe(seen[name])}.'
      )


def check_steps(
    source: str,
    steps: Any,
    num_transitions: int,
    wanted: Optional[StepSpec] = None,
) -> StepSpec:
  """Checks stored steps before they are inserted.

  Args:
    source: The table to name in the message.
    steps: Stored steps, a trajectory of numpy arrays `[num_steps, ...]`.
    num_transitions: Number of leading steps that begin a transition.
    wanted: StepSpec of the steps already in the table, or None.

  Returns:
    The spec of `steps`.

  Raises:
    ValueError: If a shape, a dtype or a value is invalid.
  """
  leaves = dict(named_leaves(steps))
  num_steps = len(steps.reward)
  for name, leaf in leaves.items():
    _check_array(source, name, leaf, num_steps)
    if name.startswith('observation'):
      _check_observation(source, name, leaf)
  if not 0 <= num_transitions < max(num_steps, 1):
    raise ValueError(
        f'{source}: `num_transitions` must be in [0, {num_steps - 1}] for '
        f'{num_steps} stored steps, got {num_transitions}.'
    )
  _check_action(source, steps.action)
  seen = spec_of_steps(steps)
  if wanted is not None:
    check_step_spec(source, seen, wanted)
  return seen


def check_episode(source: str, episode: types.Episode) -> StepSpec:
  """Checks that an episode is complete and in range.

  Args:
    source: The destination file or table to name in the message.
    episode: T steps.

  Returns:
    The spec of one step of the episode.

  Raises:
    ValueError: If a shape, a dtype or a value is invalid.
  """
  num_steps = episode.num_steps
  if num_steps < 1:
    raise ValueError(f'{source}: an episode must have at least one step.')
  observation = {
      name: leaf
      for name, leaf in named_leaves(episode)
      if name.startswith('observation')
  }
  if not observation:
    raise ValueError(f'{source}: field `observation` is empty.')
  for name, leaf in observation.items():
    _check_array(source, name, leaf, num_steps + 1)
    _check_observation(source, name, leaf)
  steps = {name: getattr(episode, name) for name in types.EPISODE_STEP_DTYPES}
  for name, leaf in steps.items():
    _check_array(source, name, leaf, num_steps)
    if name != 'action':
      _check_scalars(source, name, leaf)
  _check_action(source, episode.action)
  _check_ends(source, episode)
  return {
      name: FieldSpec(leaf.dtype, tuple(leaf.shape[1:]))
      for name, leaf in {**observation, **steps}.items()
  }


def _check_scalars(source: str, name: str, leaf: np.ndarray) -> None:
  """Checks the dtype and rank of a field with one number per step."""
  dtype = np.dtype(types.EPISODE_STEP_DTYPES[name])
  if leaf.dtype != dtype or leaf.ndim != 1:
    raise ValueError(
        f'{source}: field `{name}` must be {dtype} of shape [{len(leaf)}], '
        f'got {leaf.dtype} of shape {list(leaf.shape)}.'
    )


def _check_ends(source: str, episode: types.Episode) -> None:
  """Checks the discounts and the flag of the last transition."""
  step = types.wrong_discount(episode.discount)
  if step is not None:
    raise ValueError(
        f'{source}: field `discount` must be 1, except in the last step, where'
        f' it may be 0; got {episode.discount[step]} in step {step} of'
        f' {episode.num_steps}. `Critic.gamma` discounts.'
    )
  if not episode.has_last_transition and episode.discount[-1] == 0:
    raise ValueError(
        f'{source}: field `has_last_transition` must be true if the last '
        'step is terminal (discount 0), got false. A terminal transition does '
        'not need the next observation.'
    )


def _check_array(source: str, name: str, leaf: Any, length: int) -> None:
  """Checks that `leaf` is a finite array of `length` steps."""
  if not isinstance(leaf, np.ndarray):
    raise ValueError(
        f'{source}: field `{name}` must be a numpy array, got {type(leaf)}.'
    )
  if leaf.ndim < 1 or len(leaf) != length:
    raise ValueError(
        f'{source}: field `{name}` must have {length} steps, got shape '
        f'{list(leaf.shape)}.'
    )
  if leaf.dtype.kind == 'f' and not np.isfinite(leaf).all():
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(leaf))[0])
    raise ValueError(
        f'{source}: field `{name}` must be finite, got {leaf[first]} at '
        f'{list(first)} of shape {list(leaf.shape)}.'
    )


def _check_observation(source: str, name: str, leaf: np.ndarray) -> None:
  """Checks the dtype of an observation."""
  if leaf.dtype not in OBSERVATION_DTYPES:
    raise ValueError(
        f'{source}: field `{name}` must be float32 or uint8, got {leaf.dtype}.'
    )


def _check_action(source: str, action: np.ndarray) -> None:
  """Checks that actions are `[steps, A]` float32 in [-1, 1]."""
  if action.ndim != 2 or action.dtype != np.float32:
    raise ValueError(
        f'{source}: field `action` must be float32 of shape '
        f'[{len(action)}, A], got {action.dtype} of shape '
        f'{list(action.shape)}.'
    )
  outside = np.abs(action) > 1
  if outside.any():
    first = tuple(int(i) for i in np.argwhere(outside)[0])
    raise ValueError(
        f'{source}: field `action` must be in [-1, 1], got {action[first]} at '
        f'{list(first)} of shape {list(action.shape)}.'
    )


def _describe(spec: FieldSpec) -> str:
  """Formats a spec for an error message."""
  return f'{spec.dtype} of shape {list(spec.shape)}'
