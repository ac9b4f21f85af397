"""Policy samples under XLA, in parts of the batch that run in parallel."""

import functools
from typing import Any, Callable, Dict, Optional, Tuple

import tensorflow as tf

from parl_tf import randomness
from parl_tf import replicas
from parl_tf import types
from parl_tf.networks import observation_encoder
from parl_tf.search import xla

# Samples for a large batch are drawn in parts that run in parallel. The number
# of parts is the same on all machines, and with it the rounding.
_NUM_PARTS = 2
_MIN_PART_SAMPLES = 256
# A batch of unknown size comes from acting, often at a single state. If the
# samples cost enough, the parts are halves of each state's samples. Measured by
# benchmarks/halved_samples.py.
_MIN_COST_OF_HALVES = 2.0**27


class CompiledSampling:
  """Draws a policy's samples; all calls with a policy share a function."""

  def __init__(
      self,
      num_samples: int,
      temperature: float,
      *,
      in_parts: bool,
      jit_compile: bool,
  ):
    """Initializes the sampling; compiles nothing yet.

    Args:
      num_samples: N, the number of actions per state.
      temperature: Temperature of the samples, as in the policy's `sample`.
      in_parts: Whether large batches are drawn in parts.
      jit_compile: Whether XLA compiles `sample` if the policy requests it.
    """
    self._num_samples = num_samples
    self._temperature = temperature
    self._in_parts = in_parts
    self._jit_compile = jit_compile
    self._functions: Dict[Any, Callable[..., tf.Tensor]] = {}

  def draw(
      self, policy, observation: types.Nest, seed: tf.Tensor
  ) -> tf.Tensor:
    """Draws actions `[B, N, A]` at observations `[B, ...]`.

    Does not compile policies with image observations, because XLA makes
    convolutions several times slower on a CPU.
    """
    batch_size = tf.nest.flatten(observation)[0].shape[0]
    if tf.executing_eagerly():
      return self._draw(policy, observation, seed, self._num_samples)
    is_compiled = self._compiles(policy, observation)
    has_parts = self._has_parts(batch_size)
    if not has_parts and not is_compiled:
      return self._draw(policy, observation, seed, self._num_samples)
    if policy not in self._functions:
      draw = functools.partial(self._draw_part, policy)
      self._functions[policy] = (
          xla.function(draw)
          if is_compiled
          else tf.function(draw, autograph=False)
      )
    run = functools.partial(self._functions[policy], seed=seed)
    if has_parts:
      return _in_parts(run, observation, self._num_samples)
    whole = functools.partial(run, observation, num_samples=self._num_samples)
    if batch_size is not None or not self._can_halve(policy):
      return whole()
    halves = functools.partial(self._in_halves, run, observation)
    # Bytes of weights times samples: a measure of the arithmetic of a state.
    cost = sum(v.shape.num_elements() * v.dtype.size for v in policy.variables)
    cost = float(cost * self._num_samples)
    if cost >= _MIN_COST_OF_HALVES:
      return halves()
    num_states = tf.shape(tf.nest.flatten(observation)[0])[0]
    is_large = cost * tf.cast(num_states, tf.float32) >= _MIN_COST_OF_HALVES
    return tf.cond(is_large, halves, whole)

  def _in_halves(self, run, observation):
    """Draws as for twice as many states with half of the samples each."""
    observation = tf.nest.map_structure(
        lambda x: tf.repeat(x, _NUM_PARTS, axis=0), observation
    )
    actions = _in_parts(run, observation, self._num_samples // _NUM_PARTS)
    return tf.reshape(actions, [-1, self._num_samples, actions.shape[-1]])

  def _draw(self, policy, observation, seed, num_samples):
    return policy.sample(
        observation, num_samples, seed, temperature=self._temperature
    )

  def _draw_part(
      self,
      policy,
      observation: types.Nest,
      part: Optional[Tuple[tf.Tensor, Any]] = None,
      *,
      seed: tf.Tensor,
      num_samples: int,
  ):
    """Draws a part, given its first row and the size of the whole batch."""
    if part is None:
      return self._draw(policy, observation, seed, num_samples)
    first = tf.nest.flatten(observation)[0]
    size = first.shape[0] or tf.shape(first)[0]
    with randomness.part_of_batch(part[0], size, part[1]):
      return self._draw(policy, observation, seed, num_samples)

  def _compiles(self, policy, observation):
    return (
        self._jit_compile
        and policy.jit_compile_sampling
        and not observation_encoder.has_images(observation, num_batch_axes=1)
    )

  def _can_halve(self, policy):
    """Returns whether halves of a state's samples may run in parallel."""
    return (
        self._in_parts
        and policy.has_equal_samples
        and self._num_samples % _NUM_PARTS == 0
        and not xla.is_in_program()
        and not replicas.are_several()
    )

  def _has_parts(self, batch_size):
    """Returns whether to draw for the parts of a batch in parallel."""
    if batch_size is None or batch_size % _NUM_PARTS or not self._in_parts:
      return False
    if batch_size * self._num_samples < _MIN_PART_SAMPLES * _NUM_PARTS:
      return False
    return not replicas.are_several()


def _in_parts(run, observation, num_samples):
  """Draws for equal parts of a batch in parallel."""
  first = tf.nest.flatten(observation)[0]
  batch_size = first.shape[0] or tf.shape(first)[0]
  size = batch_size // _NUM_PARTS
  parts = [
      run(
          tf.nest.map_structure(
              lambda x: x[i * size : (i + 1) * size],  # pylint: disable=cell-var-from-loop
              observation,
          ),
          (tf.constant(i) * size, batch_size),
          num_samples=num_samples,
      )
      for i in range(_NUM_PARTS)
  ]
  return tf.concat(parts, axis=0)
