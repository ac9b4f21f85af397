"""What a served policy takes and returns.

Axes: B states, N samples of a state, T actions of a chunk, A action dimension.
Observations are flat dicts of raw arrays, and actions are in the units of the
environment.
"""

import dataclasses
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np

PROTOCOL = 1
"""Version of the protocol extension, sent in a server's metadata."""

SINGLE = 'observation'
"""Key of an observation that is a single array."""

_TEXT = 'str'


class ArraySpec(NamedTuple):
  """Shape and dtype of an array in an observation.

  Attributes:
    shape: Sizes of the axes, without batch axes.
    dtype: NumPy's name, or 'str' for text of any length.
  """

  shape: Tuple[int, ...]
  dtype: str = 'float32'


@dataclasses.dataclass(frozen=True)
class PolicySpec:
  """Inputs, outputs and limits of a served policy.

  Attributes:
    observation: Arrays of an observation by name; empty if the policy checks
      its observations itself.
    action_size: A.
    chunk_length: T, the number of actions that the policy predicts at once.
    action_low: `[A]` lower bounds of an action; None if unknown.
    action_high: `[A]` upper bounds.
    max_batch: Maximum number of states in one call.
    stochastic: Whether samples at the same state differ.
    seedable: Whether equal seeds give equal samples.
    has_temperature: Whether `sample` takes a `temperature`.
    normalization: Statistics with which the policy normalizes, as arrays by
      name; informational only.

  Raises:
    ValueError: If a number is not positive or a bound has the wrong shape.
  """

  observation: Mapping[str, ArraySpec]
  action_size: int
  chunk_length: int = 1
  action_low: Optional[np.ndarray] = None
  action_high: Optional[np.ndarray] = None
  max_batch: int = 256
  stochastic: bool = True
  seedable: bool = True
  has_temperature: bool = False
  normalization: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    for name in ('action_size', 'chunk_length', 'max_batch'):
      if getattr(self, name) < 1:
        raise ValueError(
            f'`{name}` must be positive, got {getattr(self, name)}.'
        )
    for name in ('action_low', 'action_high'):
      bound = getattr(self, name)
      if bound is not None and np.shape(bound) != (self.action_size,):
        raise ValueError(
            f'`{name}` must have shape [{self.action_size}], got '
            f'{list(np.shape(bound))}.'
        )

  def to_message(self) -> Dict[str, Any]:
    """Returns the entries of the metadata's key `parl`."""
    entries = {
        field.name: getattr(self, field.name)
        for field in dataclasses.fields(self)
    }
    entries['observation'] = {
        name: {'shape': list(spec.shape), 'dtype': spec.dtype}
        for name, spec in self.observation.items()
    }
    for name in ('action_low', 'action_high'):
      if entries[name] is not None:
        entries[name] = np.asarray(entries[name], np.float32)
    return entries

  @classmethod
  def from_message(cls, entries: Mapping[str, Any]) -> 'PolicySpec':
    """Reads the entries of the metadata's key `parl`.

    Raises:
      ValueError: If an entry is missing or out of range.
    """
    try:
      # Servers of earlier versions do not mention temperatures.
      entries = {'has_temperature': False, **entries}
      fields = {field.name: entries[field.name] for field in
                dataclasses.fields(cls)}
      fields['observation'] = {
          name: ArraySpec(tuple(spec['shape']), spec['dtype'])
          for name, spec in fields['observation'].items()
      }
      return cls(**fields)
    except (AttributeError, KeyError, TypeError) as error:
      raise ValueError(
          f'The metadata of the policy server has an invalid spec: {error!r}.'
      ) from error

  def checked_observation(
      self, observation: Mapping[str, Any], num_batch_axes: int
  ) -> Dict[str, Any]:
    """Returns the arrays that the policy takes, cast to their dtypes.

    Drops other entries. Without a spec of the observation, returns all entries
    unchecked.

    Args:
      observation: Arrays `[B, ...]` or `[...]` by name.
      num_batch_axes: 1 or 0.

    Raises:
      ValueError: If an array is missing, is not finite, or has the wrong shape,
        dtype or number of states.
    """
    if not self.observation:
      return dict(observation)
    missing = sorted(set(self.observation) - set(observation))
    if missing:
      raise ValueError(
          f'The observation must have {sorted(self.observation)}, got '
          f'{sorted(map(str, observation))}: {missing} missing. In parl_tf,'
          ' `RemotePolicy.keys` renames observations.'
      )
    checked = {
        name: _checked_array(name, observation[name], spec, num_batch_axes)
        for name, spec in self.observation.items()
    }
    if num_batch_axes:
      num_states(checked)
    return checked

  def checked_actions(
      self, actions: Any, batch: Tuple[int, ...], source: str
  ) -> np.ndarray:
    """Validates actions and returns them as float32.

    Args:
      actions: `[*batch, T, A]`.
      batch: Sizes of the batch axes.
      source: What returned the actions, for error messages.

    Raises:
      ValueError: If they are no array for NumPy, the shape is wrong or a value
        is not finite.
    """
    try:
      actions = np.asarray(actions, np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
      raise ValueError(
          f'{source}: actions must be a float32 array of NumPy, got'
          f' {type(actions).__name__}: {error}'
      ) from error
    shape = (*batch, self.chunk_length, self.action_size)
    if actions.shape != shape:
      raise ValueError(
          f'{source}: actions must have shape {list(shape)}, got '
          f'{list(actions.shape)}.'
      )
    if not np.isfinite(actions).all():
      raise ValueError(f'{source}: actions must be finite.')
    return actions


def num_states(observation: Mapping[str, Any]) -> int:
  """Returns B of an observation `[B, ...]`.

  Raises:
    ValueError: If it has no arrays, or they have different numbers of states.
  """
  sizes = {name: len(array) for name, array in observation.items()}
  if len(set(sizes.values())) != 1:
    raise ValueError(
        'The arrays of an observation must have the same batch size, got'
        f' {sizes}.'
    )
  return next(iter(sizes.values()))


def _checked_array(
    name: str, value: Any, spec: ArraySpec, num_batch_axes: int
) -> np.ndarray:
  array = np.asarray(value)
  shape = array.shape[num_batch_axes:]
  if array.ndim < num_batch_axes or shape != tuple(spec.shape):
    wanted = ', '.join(['B'] * num_batch_axes + [str(x) for x in spec.shape])
    raise ValueError(
        f'observation {name!r} must have shape [{wanted}], got '
        f'{list(array.shape)}.{_hint(shape, tuple(spec.shape))}'
    )
  if spec.dtype == _TEXT:
    if array.dtype.kind != 'U':
      raise ValueError(
          f'observation {name!r} must be text, got {array.dtype}.'
      )
    return array
  if not np.can_cast(array.dtype, spec.dtype, 'same_kind'):
    raise ValueError(
        f'observation {name!r} must be {spec.dtype}, got {array.dtype}.'
    )
  if _wraps_around(array, spec.dtype):
    raise ValueError(
        f'observation {name!r} must be {spec.dtype}, got {array.dtype} with'
        f' values from {array.min()} to {array.max()}, which do not fit.'
    )
  array = array.astype(spec.dtype, copy=False)
  if array.dtype.kind == 'f' and not np.isfinite(array).all():
    place = np.argwhere(~np.isfinite(array))[0]
    raise ValueError(
        f'observation {name!r} must be finite, got {array[tuple(place)]} at'
        f' {place.tolist()} of shape {list(array.shape)}.'
    )
  return array


def _wraps_around(array: np.ndarray, dtype: str) -> bool:
  """Returns whether a cast to another integer dtype changes a value."""
  if np.dtype(dtype).kind not in 'iu' or np.can_cast(array.dtype, dtype):
    return False
  limits = np.iinfo(dtype)
  return bool(np.any((array < limits.min) | (array > limits.max)))


def _hint(seen: Tuple[int, ...], wanted: Tuple[int, ...]) -> str:
  """Returns a sentence if a policy may want more observations, or ''."""
  if seen and wanted and seen[:-1] == wanted[:-1] and seen[-1]:
    factor, rest = divmod(wanted[-1], seen[-1])
    if factor > 1 and not rest:
      return (
          f' If the policy sees a history, send the last {factor} observations,'
          ' oldest first, joined along the last axis; in parl_tf,'
          f' `build_agent.num_frames` must be {factor} times its present value.'
      )
  return ''
