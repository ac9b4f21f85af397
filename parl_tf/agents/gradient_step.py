"""One gradient step of one part of an agent."""

from typing import Callable, Optional, Sequence, Tuple

import tensorflow as tf
from tf_agents.utils import common

from parl_tf import replicas
from parl_tf import types


def take(
    name: str,
    loss_fn: Callable[..., types.CriticLoss],
    rows: types.Nest,
    seed: tf.Tensor,
    weights: Optional[tf.Tensor],
    variables: Sequence[tf.Variable],
    optimizer: tf.keras.optimizers.Optimizer,
) -> Tuple[types.CriticLoss, tf.Tensor]:
  """Takes a step; watches only the variables that it updates.

  Args:
    name: Of the loss, for an error.
    loss_fn: Maps rows, seed and the tape to a loss with `per_example` `[B]`.
    rows: What it is computed of.
    seed: `[2]` int32.
    weights: `[B]` of the examples, or None.
    variables: What is updated.
    optimizer: Built with them.

  Returns:
    The loss, and its mean.

  Raises:
    tf.errors.InvalidArgumentError: If the loss is not finite.
  """
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(variables)
    loss = loss_fn(rows, seed, tape)
    total = mean_loss(loss.per_example, weights)
  tf.debugging.check_numerics(total, f'The {name} loss is not finite.')
  gradients = _sum_over_replicas(tape.gradient(total, variables))
  optimizer.apply_gradients(
      zip(gradients, variables), skip_gradients_aggregation=True
  )
  return loss, total


def run(update: Callable[..., types.Nest], *args) -> types.Nest:
  """Runs an update that is a compiled function of its own.

  Replicas exchange gradients, which they cannot do within such a function:
  where there are several, the update becomes a part of what is being traced.

  Args:
    update: A `tf.function`.
    *args: Of it.

  Returns:
    What it returns.
  """
  if replicas.are_several():
    update = update.python_function
  return update(*args)


def mean_loss(
    per_example: tf.Tensor, weights: Optional[tf.Tensor]
) -> tf.Tensor:
  """Returns this replica's share of the mean of a loss `[B]`."""
  return common.aggregate_losses(
      per_example_loss=per_example, sample_weight=weights
  ).total_loss


def _sum_over_replicas(gradients):
  """Sums each gradient on its own.

  Keras would join all of them in one operation first. TensorFlow's graph
  optimizer takes it for a dependence of every update on every gradient, drops
  the control edges which that makes superfluous, and parts the operation: a
  target could then be read after its update.
  """
  context = tf.distribute.get_replica_context()
  if context.num_replicas_in_sync == 1:
    return gradients
  return [context.all_reduce(tf.distribute.ReduceOp.SUM, x) for x in gradients]
