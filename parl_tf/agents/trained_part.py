"""One part of an agent that a training step updates."""

from typing import Callable, Optional, Sequence, Tuple, Union

import tensorflow as tf
from tf_agents.utils import common

from parl_tf import randomness
from parl_tf import replicas
from parl_tf import types

Loss = Union[types.CriticLoss, types.ImproverLoss]


class TrainedPart:
  """Variables, the loss that they minimize, and their optimizer.

  Attributes:
    name: Field of `Experience` that has the part's rows.
    loss: Maps rows, a seed and, optionally, a tape to the loss.
  """

  def __init__(
      self,
      name: str,
      loss_fn: Callable[..., Loss],
      variables: Sequence[tf.Variable],
      optimizer: tf.keras.optimizers.Optimizer,
      *,
      purposes: Sequence[Tuple[Union[str, int], ...]],
      finish: Callable[..., None],
  ):
    """Builds the optimizer.

    Args:
      name: Field of `Experience` that has the part's rows.
      loss_fn: Maps rows, a seed `[2]` and a tape to a loss with `per_example`
        `[B]`. The tape is for what must not be recorded.
      variables: The variables to update.
      optimizer: Their optimizer.
      purposes: What the seed of each update of a training step is folded with,
        one for each update.
      finish: Called with the metrics of the loss after each gradient step.
    """
    self.name = name
    self.loss = loss_fn
    self._variables = tuple(variables)
    self._optimizer = optimizer
    self._purposes = tuple(purposes)
    self._finish = finish
    # A function of its own is traced once; the learner traces its step twice.
    self._compiled = common.function(self._step)
    optimizer.build(self._variables)

  def slices(
      self, experience: types.Experience, seed: tf.Tensor
  ) -> Sequence[Tuple[types.Nest, tf.Tensor]]:
    """Returns the rows and the seed of each update; none without rows.

    Args:
      experience: Rows `[num_updates * B, ...]`, update after update.
      seed: `[2]` int32, of the training step.

    Raises:
      ValueError: If the rows cannot be split evenly.
    """
    rows = getattr(experience, self.name)
    if not tf.nest.flatten(rows):
      return []
    seeds = [randomness.fold_in(seed, *purpose) for purpose in self._purposes]
    if len(seeds) == 1:
      return [(rows, seeds[0])]
    size = rows.reward.shape[0]
    if size is None or size % len(seeds):
      raise ValueError(
          f'{len(seeds)} updates a step need a static number of rows that is a '
          f'multiple of it, got {size}.'
      )
    size //= len(seeds)
    return [
        (
            tf.nest.map_structure(lambda x: x[i * size : (i + 1) * size], rows),  # pylint: disable=cell-var-from-loop
            update_seed,
        )
        for i, update_seed in enumerate(seeds)
    ]

  def update(
      self, rows: types.Nest, seed: tf.Tensor, weights: Optional[tf.Tensor]
  ) -> Tuple[tf.Tensor, types.Nest]:
    """Takes one gradient step, compiled.

    Args:
      rows: Nest of `[B, ...]`.
      seed: `[2]` int32.
      weights: `[B]` of the examples, or None.

    Returns:
      The mean loss of this replica's share, and the metrics.

    Raises:
      tf.errors.InvalidArgumentError: If the loss is not finite.
    """
    if replicas.are_several():
      # Replicas cannot exchange gradients within a function of its own: the
      # step becomes a part of the function that is being traced.
      return self._step(rows, seed, weights)
    return self._compiled(rows, seed, weights)

  def _step(self, rows, seed, weights):
    # Only the variables that are updated get gradients.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(self._variables)
      loss = self.loss(rows, seed, tape)
      total = mean_loss(loss.per_example, weights)
    tf.debugging.check_numerics(total, f'The {self.name} loss is not finite.')
    gradients = replicas.sum_each(tape.gradient(total, self._variables))
    self._optimizer.apply_gradients(
        zip(gradients, self._variables), skip_gradients_aggregation=True
    )
    self._finish(loss.metrics)
    return total, loss.metrics


def mean_loss(
    per_example: tf.Tensor, weights: Optional[tf.Tensor]
) -> tf.Tensor:
  """Returns this replica's share of the mean of a loss `[B]`."""
  return common.aggregate_losses(
      per_example_loss=per_example, sample_weight=weights
  ).total_loss
