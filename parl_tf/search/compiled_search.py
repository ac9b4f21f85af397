"""A search that XLA compiles, in parts that run side by side."""

from typing import Optional

import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import value_function

# Candidates of one part. Its arrays stay near a core, its matrix products are
# still large enough to run at full speed; measured by benchmarks/hot_path.py.
_ROWS_PER_PART = 4_096
# Of one layer of all members. Less fits in a cache: nothing is gained.
_MIN_BYTES = 2 * 2**20


class CompiledSearch:
  """Runs an optimizer on a critic's values, member by member.

  Between its matrix products a search makes many passes over its arrays; XLA
  joins them. Each part's size is compiled for once, and all calls share it.

  What an optimizer draws depends on the parts, which are others where several
  devices share a batch: there it is another draw of the same law.
  """

  def __init__(self, optimizer):
    """Initializes the search; nothing is compiled yet.

    Args:
      optimizer: Has `optimize`, as `ActionOptimizer`.
    """
    self._optimizer = optimizer
    self._functions = {}

  def is_for(
      self, candidates: tf.Tensor, value_fn: value_function.ValueFunction
  ) -> bool:
    """Whether candidates `[B, N, A]` are of a known number, large enough."""
    batch_size, num_samples, _ = candidates.shape
    if batch_size is None or num_samples is None:
      return False
    num_members, _, width = value_fn.context.state.shape
    num_bytes = 4 * batch_size * num_samples * num_members * width
    return num_bytes >= _MIN_BYTES and not tf.executing_eagerly()

  def optimize(
      self,
      candidates: tf.Tensor,
      value_fn: value_function.ValueFunction,
      dataset_action: Optional[tf.Tensor],
      seed: tf.Tensor,
  ) -> types.Candidates:
    """Does what the optimizer's `optimize` does, to rounding."""
    batch_size, num_samples, _ = candidates.shape
    num_parts = _num_parts(batch_size, num_samples)
    size = batch_size // num_parts
    run = self._function(value_fn)
    parts = []
    for i in range(num_parts):
      rows = slice(i * size, (i + 1) * size)
      parts.append(
          run(
              candidates[rows],
              value_fn.context.states(i * size, size),
              None if dataset_action is None else dataset_action[rows],
              randomness.fold_in(seed, i),
          )
      )
    return tf.nest.map_structure(lambda *leaves: tf.concat(leaves, 0), *parts)

  def _function(self, value_fn):
    """The compiled function; what is no tensor distinguishes them."""
    key = value_fn.static
    if key not in self._functions:

      def run(candidates, context, dataset_action, seed):
        return self._optimizer.optimize(
            candidates,
            value_function.MemberwiseValueFunction(context, *key),
            dataset_action,
            seed,
        )

      self._functions[key] = tf.function(
          run, autograph=False, jit_compile=True
      )
    return self._functions[key]


def _num_parts(batch_size, num_samples):
  """The least number of equal parts that are small enough, if there is one."""
  least = -(-batch_size * num_samples // _ROWS_PER_PART)
  for num_parts in range(least, 2 * least):
    if batch_size % num_parts == 0:
      return num_parts
  return 1
