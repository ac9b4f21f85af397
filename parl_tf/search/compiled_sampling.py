"""Policy samples under XLA, in parts of the batch that run in parallel."""

import functools
from typing import Any, Callable, Dict, Optional, Tuple

import tensorflow as tf

from parl_tf import randomness
from parl_tf import replicas
from parl_tf import types
from parl_tf.networks import observation_encoder
from parl_tf.search import xla

# Samples for a large batch, or of an acting policy, are drawn in parts that run
# in parallel. The number of parts is the same on all machines, and with it the
# rounding.
_NUM_PARTS = 2
_MIN_PART_SAMPLES = 256


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

    A batch of unknown size comes from acting, often with a single state. It has
    no parts, so each state counts as two with half of the samples.

    Does not compile policies with image observations, because XLA makes
    convolutions several times slower on a CPU.
    """
    batch_size = tf.nest.flatten(observation)[0].shape[0]
    if tf.executing_eagerly():
      return self._draw(policy, observation, seed)
    num_parts = self._num_parts(batch_size)
    is_compiled = self._compiles(policy, observation)
    num_samples = self._num_samples
    if is_compiled and self._divides_samples(policy, batch_size):
      num_parts, num_samples = _NUM_PARTS, num_samples // _NUM_PARTS
      observation = tf.nest.map_structure(
          lambda x: tf.repeat(x, _NUM_PARTS, axis=0), observation
      )
      batch_size = tf.shape(tf.nest.flatten(observation)[0])[0]
    if num_parts == 1 and not is_compiled:
      return self._draw(policy, observation, seed)
    if policy not in self._functions:
      draw = functools.partial(self._draw_part, policy)
      self._functions[policy] = (
          xla.function(draw)
          if is_compiled
          else tf.function(draw, autograph=False)
      )
    run = functools.partial(self._functions[policy], num_samples=num_samples)
    if num_parts == 1:
      return run(observation, seed)
    size = batch_size // num_parts
    parts = [
        run(
            tf.nest.map_structure(
                lambda x: x[i * size : (i + 1) * size],  # pylint: disable=cell-var-from-loop
                observation,
            ),
            seed,
            (tf.constant(i) * size, batch_size),
        )
        for i in range(num_parts)
    ]
    actions = tf.concat(parts, axis=0)
    return tf.reshape(actions, [-1, self._num_samples, actions.shape[-1]])

  def _draw(self, policy, observation, seed, num_samples=None):
    return policy.sample(
        observation,
        num_samples or self._num_samples,
        seed,
        temperature=self._temperature,
    )

  def _draw_part(
      self,
      policy,
      observation: types.Nest,
      seed: tf.Tensor,
      part: Optional[Tuple[tf.Tensor, Any]] = None,
      *,
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

  def _divides_samples(self, policy, batch_size):
    """Returns whether to draw the halves of a state's samples in parallel."""
    return (
        batch_size is None
        and self._in_parts
        and policy.has_equal_samples
        and self._num_samples % _NUM_PARTS == 0
        and not xla.is_in_program()
    )

  def _num_parts(self, batch_size):
    """Returns the number of equal parts in which to draw for a batch."""
    if batch_size is None or batch_size % _NUM_PARTS or not self._in_parts:
      return 1
    if batch_size * self._num_samples < _MIN_PART_SAMPLES * _NUM_PARTS:
      return 1
    return 1 if replicas.are_several() else _NUM_PARTS
