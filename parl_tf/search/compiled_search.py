"""Action search under XLA; on a CPU, in parts that run in parallel."""

from typing import Any, Callable, Dict, Optional

import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import critic
from parl_tf.critics import value_layouts
from parl_tf.search import xla

# Number of candidates in a part. The arrays of a part stay in a core's cache,
# and its matrix products are large enough to run at full speed. Measured by
# benchmarks/hot_path.py.
_ROWS_PER_PART = 4_096
# Minimum size of one layer's outputs over all members. Below it, XLA gains less
# than its compilation takes.
_MIN_BYTES = 2**18


class CompiledSearch:
  """Runs an action optimizer under XLA.

  XLA fuses the many passes over arrays between the matrix products of a search.
  It compiles once per part size, and all calls share the result. On a CPU, a
  program evaluates one ensemble member after another.

  Random draws of an optimizer depend on the division into parts. With several
  devices the parts differ, so the draws differ as well, but have the same
  distribution.
  """

  def __init__(self, optimizer, *, in_parts: bool):
    """Initializes the search; compiles nothing yet.

    Args:
      optimizer: Action optimizer, such as `ActionOptimizer`.
      in_parts: Whether to divide batches and evaluate one member at a time, so
        that arrays fit in a CPU's caches.
    """
    self._optimizer = optimizer
    self._in_parts = in_parts
    self._value_fn = (
        value_layouts.MemberwiseValueFunction
        if in_parts
        else critic.ValueFunction
    )
    self._functions: Dict[Any, Callable[..., types.Candidates]] = {}

  def is_for(
      self, candidates: tf.Tensor, value_fn: critic.ValueFunction
  ) -> bool:
    """Returns whether candidates `[B, N, A]` have a static and large shape.

    On a GPU, any size is large enough, because XLA saves many launches.
    """
    batch_size, num_samples, _ = candidates.shape
    if batch_size is None or num_samples is None:
      return False
    num_members, _, width = value_fn.context.state.shape
    num_bytes = 4 * batch_size * num_samples * num_members * width
    is_large = num_bytes >= _MIN_BYTES or not self._in_parts
    return is_large and not tf.executing_eagerly()

  def optimize(
      self,
      candidates: tf.Tensor,
      value_fn: critic.ValueFunction,
      dataset_action: Optional[tf.Tensor],
      seed: tf.Tensor,
  ) -> types.Candidates:
    """Returns the result of the optimizer's `optimize`, up to rounding."""
    batch_size, num_samples, _ = candidates.shape
    num_parts = _num_parts(batch_size, num_samples) if self._in_parts else 1
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
    """Returns the compiled function for the value function's static parts."""
    key = value_fn.static
    if key not in self._functions:

      def run(candidates, context, dataset_action, seed):
        return self._optimizer.optimize(
            candidates,
            self._value_fn(context, *key),
            dataset_action,
            seed,
        )

      self._functions[key] = xla.function(run)
    return self._functions[key]


def _num_parts(batch_size, num_samples):
  """Returns the smallest number of equal parts that are small enough, or 1."""
  least = -(-batch_size * num_samples // _ROWS_PER_PART)
  for num_parts in range(least, 2 * least):
    if batch_size % num_parts == 0:
      return num_parts
  return 1
