"""Checks, before any work, that a policy keeps its protocol.

Those of parl_tf are tested; a policy of another module is checked in full.
"""

import contextlib
import inspect
import os
import traceback
from typing import Any, Callable, Iterator, List, Sequence

from absl import logging
import numpy as np
import tensorflow as tf
from tf_agents.utils import common

from parl_tf import randomness
from parl_tf import types

# Numbers of states and samples. Of a user's policy: unlike the usual sizes of
# actions, so that no axis is taken for another. Of those of parl_tf, which are
# tested: few.
_SIZES, _SMALL_SIZES = (11, 9), (2, 3)
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
    ValueError: If a result has another shape, an action is outside [-1, 1],
      there is nothing to train, a draw does not depend on seed and state alone,
      a call creates variables, or TensorFlow cannot trace a method.
  """
  name = type(policy).__name__
  if is_cloned and not policy.cloned.trainable_variables:
    raise ValueError(
        f'{name}.trainable_variables must not be empty after the constructor,'
        ' where optimizers read it.'
    )
  with creates_no_variables(name, policy):
    _check_calls(name, policy, observation_spec, action_size, is_cloned,
                 has_mask)


def _check_calls(
    name, policy, observation_spec, action_size, is_cloned, has_mask
):
  """Checks what the methods return."""
  is_own = not type(policy).__module__.startswith('parl_tf.')
  num_states, num_samples = _SIZES if is_own else _SMALL_SIZES
  observation = tf.nest.map_structure(
      lambda spec: tf.zeros([num_states, *spec.shape], spec.dtype),
      observation_spec,
  )
  seed = tf.constant([0, 0])
  actions = call(
      f'{name}.sample',
      'GenerativePolicy',
      policy.sample,
      observation,
      num_samples,
      seed,
      averaged=True,
      temperature=1.0,
  )
  shape = [num_states, num_samples, action_size]
  _check_result(f'{name}.sample', actions, shape, '[B, N, A]')
  # Zeros need not be a valid observation, so that NaN is no fault.
  if np.max(np.abs(actions)) > 1.0 + _TOLERANCE:
    raise ValueError(
        f'{name}.sample must return actions in [-1, 1], got'
        f' {np.min(actions):g} to {np.max(actions):g}.'
    )
  if is_own:
    _check_draws(name, policy, observation, np.asarray(actions))
    _check_trace(
        f'{name}.sample',
        lambda rows: policy.sample(
            rows, num_samples, seed, averaged=True, temperature=1.0
        ),
        observation,
    )
  if not is_cloned:
    return
  options = {'mask': tf.ones_like(actions[:, 0])} if has_mask else {}
  others = left_out(policy.cloned)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(others)
    loss = call(
        f'{name}.distillation_loss',
        'GenerativePolicy',
        policy.distillation_loss,
        observation,
        actions[:, 0],
        seed,
        **options,
    )
  _check_result(f'{name}.distillation_loss', loss, [num_states], '[B]')
  if not is_own:
    return
  _check_trace(
      f'{name}.distillation_loss',
      lambda rows: policy.distillation_loss(*rows[:2], seed, **rows[2]),
      (observation, actions[:, 0], options),
  )
  warn_of_untrained(name, others, tape.gradient(loss, others))


@contextlib.contextmanager
def creates_no_variables(name: str, module: tf.Module) -> Iterator[None]:
  """Checks that a module has the same variables before and after its calls.

  Args:
    name: Name of its class, for the message.
    module: Policy or critic that an agent holds.

  Raises:
    ValueError: If it has new ones, which no optimizer would train.
  """
  # Others, such as a counter, may come later: nothing trains them.
  known = {x.ref() for x in every_trainable(module)}
  yield
  created = [x.name for x in every_trainable(module) if x.ref() not in known]
  if created:
    raise ValueError(
        f'{name} must create its variables in its constructor, where optimizers'
        f' read them, but a first call created {", ".join(created)}. Build'
        ' Keras layers in the constructor: `layer.build([None, input_size])`.'
    )


def every_trainable(module: tf.Module) -> Sequence[tf.Variable]:
  """Returns all that a class might train, whatever it says that it trains."""
  return tf.Module.trainable_variables.fget(module)


def left_out(module: tf.Module) -> List[tf.Variable]:
  """Returns trainable variables that `trainable_variables` does not return."""
  known = {x.ref() for x in module.trainable_variables}
  return [x for x in every_trainable(module) if x.ref() not in known]


def warn_of_untrained(
    name: str, variables: Sequence[tf.Variable], gradients: Sequence[Any]
) -> None:
  """Warns of variables that a loss depends on but no optimizer trains.

  Args:
    name: Name of the class that lacks them.
    variables: What `left_out` returns.
    gradients: Gradients of the loss, None where it does not depend on one.
  """
  names = [x.name for x, y in zip(variables, gradients) if y is not None]
  if names:
    logging.warning(
        '%s.trainable_variables lacks %s, on which its loss depends: training'
        ' leaves them as they are.',
        name,
        ', '.join(names),
    )


def _check_trace(name, function, rows):
  """Traces a method for any number of rows, a nest of `[B, ...]`."""
  specs = tf.nest.map_structure(
      lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), rows
  )
  trace(name, function, specs)


def trace(name: str, function: Callable[..., Any], *specs: types.Nest) -> None:
  """Traces a method of a user's class into a graph; computes nothing.

  Args:
    name: Name of the method, for the message.
    function: Calls the method. Errors that it raises in this package's checks
      are passed on.
    *specs: Nests of `tf.TensorSpec`, its arguments.

  Raises:
    ValueError: If TensorFlow cannot trace it.
  """
  try:
    common.function(function).get_concrete_function(*specs)
  except Exception as error:
    frames = traceback.extract_tb(error.__traceback__)
    folder = os.path.dirname(__file__)
    if os.path.dirname(frames[-1].filename) == folder:
      raise
    # The author's, rather than the line of a library that they called.
    others = tuple(os.path.dirname(x) for x in (folder, *np.__path__))
    own = [x for x in frames if not x.filename.startswith(others)] or frames
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise ValueError(
        f'TensorFlow cannot trace {name}: {reason[-1].strip()}'
        f' ({own[-1].filename}, line {own[-1].lineno})'
    ) from error


def _check_draws(name, policy, observation, actions):
  """Checks that draws depend on the seed and, per row, on the state alone."""
  num_states, num_samples = actions.shape[:2]

  def sample(observation, seed):
    return np.asarray(
        policy.sample(
            observation,
            num_samples,
            tf.constant(seed),
            averaged=True,
            temperature=1.0,
        )
    )

  if not _are_equal(sample(observation, [0, 0]), actions):
    raise ValueError(
        f'{name}.sample must draw the same actions for the same seed: draw from'
        ' `seed`, with `parl_tf.randomness`.'
    )
  # A policy without noise draws the same action N times.
  if not _are_equal(actions[:, :1], actions) and _are_equal(
      sample(observation, [1, 1]), actions
  ):
    logging.warning(
        '%s.sample draws the same actions for another seed. If it should not,'
        ' draw from `seed`, with `parl_tf.randomness`.',
        name,
    )
  part = tf.nest.map_structure(lambda x: x[-1:], observation)
  with randomness.part_of_batch(
      tf.constant(num_states - 1), 1, num_states
  ):
    drawn = sample(part, [0, 0])
  if not _are_equal(drawn, actions[-1:]):
    raise ValueError(
        f'{name}.sample must draw the same actions for a state, whatever other'
        ' states are in the batch: the first axis of each draw of'
        ' `parl_tf.randomness` must be the batch, B rows, or B * N with those'
        ' of a state in succession.'
    )


def _are_equal(actions, others):
  return np.allclose(actions, others, atol=1e-3, equal_nan=True)


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
