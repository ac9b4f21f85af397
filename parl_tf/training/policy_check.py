"""Checks, before any work, that a policy keeps the protocol of `sample`."""

import inspect
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types

_NUM_STATES, _NUM_SAMPLES = 2, 3
_TOLERANCE = 1e-5  # Of rounding, as in datasets.


def check(
    policy: Any,
    observation_spec: types.Nest,
    action_size: int,
    *,
    is_cloned: bool = True,
    has_mask: bool = False,
) -> None:
  """Draws a few actions and computes their loss, for observations of zeros.

  Args:
    policy: `GenerativePolicy` of this process.
    observation_spec: Nest of `tf.TensorSpec`.
    action_size: Size A of an action or chunk.
    is_cloned: Whether the run trains the policy by its loss; otherwise it need
      not be trainable.
    has_mask: Whether the run's rows have a mask, which its loss then takes.

  Raises:
    TypeError: If `sample` or `distillation_loss` does not take its arguments.
    ValueError: If a result has another shape, an action is outside [-1, 1], or
      there is nothing to train.
  """
  name = type(policy).__name__
  observation = tf.nest.map_structure(
      lambda spec: tf.zeros([_NUM_STATES, *spec.shape], spec.dtype),
      observation_spec,
  )
  seed = tf.constant([0, 0])
  actions = call(
      f'{name}.sample',
      'GenerativePolicy',
      policy.sample,
      observation,
      _NUM_SAMPLES,
      seed,
      averaged=True,
      temperature=1.0,
  )
  shape = [_NUM_STATES, _NUM_SAMPLES, action_size]
  _check_result(f'{name}.sample', actions, shape, '[B, N, A]')
  # Zeros need not be a valid observation, so that NaN is no fault.
  if np.max(np.abs(actions)) > 1.0 + _TOLERANCE:
    raise ValueError(
        f'{name}.sample must return actions in [-1, 1], got'
        f' {np.min(actions):g} to {np.max(actions):g}.'
    )
  # The tests of parl_tf's own policies compare whole batches.
  if not type(policy).__module__.startswith('parl_tf.'):
    _check_parts(name, policy, observation, seed, np.asarray(actions))
  if not is_cloned:
    return
  if not policy.cloned.trainable_variables:
    raise ValueError(f'{name}.trainable_variables must not be empty.')
  options = {'mask': tf.ones_like(actions[:, 0])} if has_mask else {}
  loss = call(
      f'{name}.distillation_loss',
      'GenerativePolicy',
      policy.distillation_loss,
      observation,
      actions[:, 0],
      seed,
      **options,
  )
  _check_result(f'{name}.distillation_loss', loss, [_NUM_STATES], '[B]')


def _check_parts(name, policy, observation, seed, actions):
  """Checks that the draws for a part of a batch are those of the whole."""
  part = tf.nest.map_structure(lambda x: x[1:], observation)
  with randomness.part_of_batch(tf.constant(1), 1, _NUM_STATES):
    drawn = policy.sample(
        part, _NUM_SAMPLES, seed, averaged=True, temperature=1.0
    )
  if not np.allclose(drawn, actions[1:], atol=1e-3, equal_nan=True):
    raise ValueError(
        f'{name}.sample must draw the same actions for a state, whatever other'
        ' states are in the batch: the first axis of each draw of'
        ' `parl_tf.randomness` must be the batch, B rows, or B * N with those'
        ' of a state in succession.'
    )


def call(
    name: str, base: str, function: Callable[..., Any], *args, **kwargs
) -> Any:
  """Calls a method of a user's class with the arguments of its base class.

  Args:
    name: Name of the method, for the message.
    base: Name of the base class, for the message.
    function: The method.
    *args: Its positional arguments.
    **kwargs: Its keyword arguments.

  Raises:
    TypeError: If it does not take them.
  """
  try:
    inspect.signature(function).bind(*args, **kwargs)
  except TypeError as error:
    raise TypeError(
        f'{name} must have the arguments of `{base}`: {error}.'
    ) from error
  return function(*args, **kwargs)


def _check_result(name, result, shape, described):
  result = tf.convert_to_tensor(result)
  if list(result.shape) != shape or result.dtype != tf.float32:
    raise ValueError(
        f'{name} must return float32 of shape {described}, here {shape}, got'
        f' {result.dtype.name} of {list(result.shape)}.'
    )
