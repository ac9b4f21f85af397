"""Frozen policies in SavedModels of any origin, for `steering` to sample.

A SavedModel with the signature `serving_default` is called by it. Otherwise it
must have TF-Agents' function `action`, as `PolicySaver` writes it.
"""

import functools
from typing import Any, Mapping, Union

import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from parl_tf import randomness
from parl_tf import types
from parl_tf.training import export
from parl_tf.training import saved_model_check

_SIGNATURE = saved_model_check.SIGNATURE
_ACTION, _CHUNK = 'action', 'chunk'
_SEED, _NOISE = 'seed', 'noise'


class SignatureBase(tf.Module):
  """A policy that is called by its signature `serving_default`.

  The signature takes the observation by name, and either a `seed` int32 `[2]`,
  or standard normal `noise` `[B, ...]`, or neither, if it draws nothing. It
  returns the raw `action` `[B, A]`, or a `chunk` `[B, H, A]` too. It must draw
  each row of a batch independently.

  Attributes:
    chunk_length: H, the number of actions that it draws at once.
    action_size: A.
  """

  def __init__(self, model: Any, path: str, observation_spec: types.Nest):
    """Initializes the policy.

    Args:
      model: The loaded SavedModel.
      path: Its directory, for messages.
      observation_spec: Nest of `tf.TensorSpec` of one observation.

    Raises:
      ValueError: If the signature differs.
    """
    super().__init__()
    self._model = model
    self._act = model.signatures[_SIGNATURE]
    _, inputs = self._act.structured_input_signature
    self._random = next((x for x in (_NOISE, _SEED) if x in inputs), None)
    wanted = _batched(observation_spec)
    if self._random == _SEED:
      wanted[_SEED] = randomness.SEED_SPEC
    elif self._random == _NOISE:
      wanted[_NOISE] = tf.TensorSpec([None, *inputs[_NOISE].shape[1:]])
    where = f'{path}: signature {_SIGNATURE!r}'
    hint = ''
    if self._random is None:
      hint = f' (and {_SEED!r} or {_NOISE!r}, if it draws)'
    _check_inputs(where, inputs, wanted, hint)
    outputs = self._act.structured_outputs
    if _ACTION not in outputs:
      raise ValueError(
          f'{where}: the outputs must have {_ACTION!r}, got {sorted(outputs)}.'
      )
    _check_action(where, outputs[_ACTION])
    if _CHUNK in outputs:
      _check_chunk(where, outputs[_CHUNK], outputs[_ACTION].shape[-1])
    if self._random == _NOISE:
      self._noise_shape = inputs[_NOISE].shape[1:]
    self.chunk_length = outputs[_CHUNK].shape[1] if _CHUNK in outputs else 1
    self.action_size = outputs[_ACTION].shape[-1]

  def __call__(self, observation: types.Nest, seed: tf.Tensor) -> tf.Tensor:
    """Draws raw chunks `[B, H, A]` for observations `[B, ...]`."""
    random = {}
    if self._random == _SEED:
      random[_SEED] = seed
    elif self._random == _NOISE:
      size = tf.shape(tf.nest.flatten(observation)[0])[:1]
      shape = tf.concat([size, self._noise_shape.as_list()], axis=0)
      random[_NOISE] = tf.random.stateless_normal(shape, seed)
    outputs = self._act(**export.by_name(observation), **random)
    if _CHUNK in outputs:
      return outputs[_CHUNK]
    return outputs[_ACTION][:, tf.newaxis]

  def is_repeatable(self, observation: types.Nest) -> bool:
    """Whether the seed determines the chunks at observations `[B, ...]`."""
    del observation
    return True


class AgentsBase(tf.Module):
  """A policy that is called by TF-Agents' `action(time_step, policy_state)`.

  It may have no state: the candidates at a state are draws of the policy there,
  whatever happened before. Each observation is passed as the first of an
  episode, with reward 0 and discount 1. TF-Agents' policies draw from
  TensorFlow's generators, which no seed of a call determines.

  Attributes:
    chunk_length: 1.
    action_size: A.
  """

  chunk_length = 1

  def __init__(self, model: Any, path: str, observation_spec: types.Nest):
    """Initializes the policy.

    Args:
      model: The loaded SavedModel.
      path: Its directory, for messages.
      observation_spec: Nest of `tf.TensorSpec` of one observation.

    Raises:
      ValueError: If the policy has a state, or the specs of the observation or
        the action differ.
    """
    super().__init__()
    # Its type is known only where TensorFlow Probability is imported.
    if hasattr(model, 'distribution'):
      del model.distribution
    self._model = model
    where = f"{path}: function 'action'"
    function = model.action.concrete_functions[0]
    inputs, _ = function.structured_input_signature
    if len(inputs) < 2 or not hasattr(inputs[0], 'observation'):
      raise ValueError(
          f'{where} must take a time step and a policy state, got {inputs}.'
      )
    spec, state, *_ = inputs
    if tf.nest.flatten(state):
      raise ValueError(
          f'{where} must have no policy state, because it is called at each '
          f'state on its own, got {_texts(state)}. A policy whose state is not '
          f'a memory can be saved with the signature {_SIGNATURE!r} instead.'
      )
    _check_inputs(
        where,
        export.by_name(spec.observation),
        _batched(observation_spec),
    )
    action = function.structured_outputs.action
    _check_action(where, action)
    self.action_size = action.shape[-1]
    # A partial function, as a module would wrap the structure of the spec.
    self._time_step = functools.partial(_first_time_step, spec)

  def __call__(self, observation: types.Nest, seed: tf.Tensor) -> tf.Tensor:
    """Draws raw chunks `[B, 1, A]` for observations `[B, ...]`.

    Args:
      observation: `[B, ...]`.
      seed: Unused.
    """
    del seed  # The policy has its own generator.
    step = self._model.action(self._time_step(observation), ())
    return step.action[:, tf.newaxis]

  def is_repeatable(self, observation: types.Nest) -> bool:
    """Whether it draws the same chunks twice, as a greedy policy does."""
    first, second = (
        self(observation, tf.zeros([2], tf.int32)) for _ in range(2)
    )
    return bool(tf.reduce_all(first == second))


def load(
    path: str, observation_spec: types.Nest
) -> Union[SignatureBase, AgentsBase]:
  """Loads the SavedModel of a policy.

  Args:
    path: Directory of the SavedModel.
    observation_spec: Nest of `tf.TensorSpec` of one observation.

  Raises:
    ValueError: If there is no SavedModel, or its functions do not fit.
  """
  if not tf.saved_model.contains_saved_model(path):
    raise ValueError(f'{path} must be the directory of a SavedModel.')
  model = tf.saved_model.load(path)
  if _SIGNATURE in model.signatures:
    return SignatureBase(model, path, observation_spec)
  if hasattr(model, _ACTION) and hasattr(model, 'get_initial_state'):
    return AgentsBase(model, path, observation_spec)
  raise ValueError(
      f"{path} must have the signature {_SIGNATURE!r}, or TF-Agents' functions "
      "'action' and 'get_initial_state', got the signatures "
      f'{sorted(model.signatures)}.'
  )


def _first_time_step(spec, observation):
  flat = tf.nest.flatten(observation)
  size = tf.shape(flat[0])[:1]
  return ts.TimeStep(
      step_type=tf.fill(size, ts.StepType.FIRST),
      reward=tf.zeros(
          tf.concat([size, spec.reward.shape[1:]], axis=0), spec.reward.dtype
      ),
      discount=tf.ones(size, spec.discount.dtype),
      observation=tf.nest.pack_sequence_as(spec.observation, flat),
  )


def _batched(observation_spec):
  return {
      name: tf.TensorSpec([None, *spec.shape], spec.dtype)
      for name, spec in export.by_name(observation_spec).items()
  }


def _check_inputs(
    where: str,
    seen: Mapping[str, tf.TensorSpec],
    wanted: Mapping[str, tf.TensorSpec],
    hint: str = '',
) -> None:
  """Raises `ValueError` unless the function takes batches of any size."""
  if sorted(seen) != sorted(wanted):
    raise ValueError(
        f'{where}: the inputs must be {sorted(wanted)}{hint}, got'
        f' {sorted(seen)}.'
    )
  for name, spec in wanted.items():
    # `is_compatible_with` would accept a fixed batch size.
    if not (
        isinstance(seen[name], tf.TensorSpec)
        and seen[name].dtype == spec.dtype
        and spec.shape.is_subtype_of(seen[name].shape)
    ):
      raise ValueError(
          f'{where}: input {name!r} must be {_texts(spec)}, got '
          f'{_texts(seen[name])}.'
      )


def _check_action(where, spec):
  if not (
      isinstance(spec, tf.TensorSpec)
      and spec.dtype == tf.float32
      and spec.shape.rank == 2
  ):
    raise ValueError(
        f"{where}: output 'action' must be one array float32 (None, A), got "
        f'{_texts(spec)}.'
    )


def _check_chunk(where, spec, action_size):
  if not (
      spec.dtype == tf.float32
      and spec.shape.rank == 3
      and spec.shape[1] is not None
      and spec.shape[2] == action_size
  ):
    raise ValueError(
        f"{where}: output 'chunk' must be one array float32 (None, H,"
        f' {action_size}) with a known H, got {_texts(spec)}.'
    )


def _texts(nest):
  """Returns the specs of a nest as text."""
  return ', '.join(
      f'{spec.dtype.name} {spec.shape}' for spec in tf.nest.flatten(nest)
  )
