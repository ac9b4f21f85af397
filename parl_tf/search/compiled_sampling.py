"""Policy samples under XLA, in parts of the batch that run in parallel."""

import functools
from typing import Any, Callable, Dict

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
      return self._draw(policy, observation, seed)
    num_parts = self._num_parts(batch_size)
    is_compiled = self._compiles(policy, observation)
    if num_parts == 1 and not is_compiled:
      return self._draw(policy, observation, seed)
    if policy not in self._functions:
      draw = functools.partial(self._draw_part, policy)
      self._functions[policy] = (
          xla.function(draw)
          if is_compiled
          else tf.function(draw, autograph=False)
      )
    run = self._functions[policy]
    if num_parts == 1:
      return run(observation, seed)
    size = batch_size // num_parts
    parts = [
        run(
            tf.nest.map_structure(lambda x: x[i : i + size], observation),  # pylint: disable=cell-var-from-loop
            seed,
            tf.constant(i),
            batch_size,
        )
        for i in range(0, batch_size, size)
    ]
    return tf.concat(parts, axis=0)

  def _draw(self, policy, observation, seed):
    return policy.sample(
        observation, self._num_samples, seed, temperature=self._temperature
    )

  def _draw_part(self, policy, observation, seed, start=None, batch_size=None):
    if start is None:
      return self._draw(policy, observation, seed)
    size = tf.nest.flatten(observation)[0].shape[0]
    with randomness.part_of_batch(start, size, batch_size):
      return self._draw(policy, observation, seed)

  def _compiles(self, policy, observation):
    return (
        self._jit_compile
        and policy.jit_compile_sampling
        and not observation_encoder.has_images(observation, num_batch_axes=1)
    )

  def _num_parts(self, batch_size):
    """Returns the number of equal parts in which to draw for a batch."""
    if batch_size is None or batch_size % _NUM_PARTS or not self._in_parts:
      return 1
    if batch_size * self._num_samples < _MIN_PART_SAMPLES * _NUM_PARTS:
      return 1
    return 1 if replicas.are_several() else _NUM_PARTS
