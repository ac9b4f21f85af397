"""Operations across the replicas of a training step.

Under a distribution strategy each replica has a share of a batch's rows and a
copy of every variable. With one replica, or outside a replica context, these
functions reduce to the plain operations.
"""

from typing import Dict, Mapping, Optional, Sequence, Union

import tensorflow as tf


def are_several() -> bool:
  """Returns whether several replicas share the current step."""
  return _context() is not None


def mean(value: tf.Tensor) -> tf.Tensor:
  """Averages over the batch, given the mean over this replica's rows."""
  context = _context()
  if context is None:
    return value
  return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def share(metrics: Mapping[str, tf.Tensor]) -> Dict[str, tf.Tensor]:
  """Divides metrics by the number of replicas, as the learner sums them."""
  count = tf.distribute.get_strategy().num_replicas_in_sync
  return {name: value / count for name, value in metrics.items()}


def move_towards(
    targets: Sequence[tf.Variable],
    sources: Sequence[tf.Variable],
    rate: Union[float, tf.Tensor],
) -> None:
  """Moves each target a fraction `rate` towards its source, on every device.

  Args:
    targets: Variables to update.
    sources: One variable for each target, of the same shape.
    rate: Fraction in (0, 1].
  """
  pairs = list(zip(targets, sources, strict=True))

  def move(target, source):
    return target.assign_add(rate * (source - target))

  def move_copies(strategy):
    for target, source in pairs:
      strategy.extended.update(target, move, args=(source,), group=False)

  context = _context()
  if context is not None:
    context.merge_call(move_copies)
    return
  for target, source in pairs:
    move(target, source)


def sum_each(
    gradients: Sequence[Optional[tf.Tensor]],
) -> Sequence[Optional[tf.Tensor]]:
  """Sums gradients over replicas, with one operation for each gradient.

  Keras would fuse them into a single operation. TensorFlow's graph optimizer
  then treats every update as dependent on every gradient, drops the control
  edges that this makes redundant, and splits the operation again. As a result,
  a target could be read after its update.

  Args:
    gradients: Gradients of this replica; None where the loss does not depend
      on a variable.
  """
  context = _context()
  if context is None:
    return gradients
  total = tf.distribute.ReduceOp.SUM
  return [
      x if x is None else context.all_reduce(total, x) for x in gradients
  ]


def _context() -> Optional[tf.distribute.ReplicaContext]:
  """Returns the replica context if there are several replicas, or None."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return None
  return context
