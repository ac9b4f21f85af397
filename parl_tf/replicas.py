"""What the replicas of a step have in common.

Under a distribution strategy each replica has a share of a batch's rows and a
copy of every variable. Where there is one replica, or none is running, all of
this is the plain operation.
"""

from typing import Optional, Sequence

import tensorflow as tf


def are_several() -> bool:
  """Whether this is one of several replicas of a step."""
  return _context() is not None


def mean(value: tf.Tensor) -> tf.Tensor:
  """Returns the mean over the batch, given that over the replica's rows."""
  context = _context()
  if context is None:
    return value
  return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def move_towards(
    targets: Sequence[tf.Variable], sources: Sequence[tf.Variable], rate: float
) -> None:
  """Moves each target by `rate` of its way towards its source, on every device.

  Args:
    targets: What is moved.
    sources: As many, of the same shapes.
    rate: In (0, 1].
  """
  pairs = list(zip(targets, sources))

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


def sum_each(gradients: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
  """Sums gradients over replicas, each in an operation of its own.

  Keras would join all of them in one operation first. TensorFlow's graph
  optimizer then treats every update as dependent on every gradient, drops the
  control edges that this makes redundant, and splits the operation again: a
  target could be read after its update.

  Args:
    gradients: Those of this replica.
  """
  context = _context()
  if context is None:
    return gradients
  return [context.all_reduce(tf.distribute.ReduceOp.SUM, x) for x in gradients]


def _context() -> Optional[tf.distribute.ReplicaContext]:
  """The context of one of several replicas, else None."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return None
  return context
