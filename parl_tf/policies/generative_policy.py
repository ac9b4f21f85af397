"""What every policy is: it samples actions and fits given ones."""

import abc
from typing import Optional, Sequence, Tuple

import tensorflow as tf

from parl_tf import types


def sum_of_costs(
    costs: tf.Tensor, mask: Optional[tf.Tensor]
) -> tf.Tensor:
  """Sums the costs `[B, A]` of an action's numbers; a mask leaves some out."""
  return tf.reduce_sum(costs if mask is None else mask * costs, axis=-1)


class GenerativePolicy(tf.Module, abc.ABC):
  """A conditional generative model of actions.

  PA-RL asks no more of a policy than this: samples, and the supervised loss it
  is pre-trained with (section 4.3 of arXiv:2412.06685).
  """

  has_density = False
  """Whether `sample_with_log_prob` is defined."""

  jit_compile_sampling = False
  """Whether XLA compiles `sample` where it may; set it where that pays."""

  @abc.abstractmethod
  def sample(
      self,
      observation: types.Nest,
      num_samples: int,
      seed: tf.Tensor,
      averaged: bool = True,
      temperature: float = 1.0,
  ) -> tf.Tensor:
    """Draws actions.

    Args:
      observation: Nest of `[B, ...]`, raw.
      num_samples: N.
      seed: `[2]` int32.
      averaged: Whether the moving-average weights draw, where there are such.
      temperature: Scale of the noise; 0 gives the mode, where one exists.

    Returns:
      `[B, N, A]` actions in [-1, 1].
    """

  def sample_with_log_prob(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ) -> Tuple[tf.Tensor, tf.Tensor]:
    """Draws actions `[B, N, A]` with their log densities `[B, N]`.

    Raises:
      ValueError: If the policy has no density.
    """
    raise ValueError(f'{type(self).__name__} has no density.')

  @abc.abstractmethod
  def distillation_loss(
      self,
      observation: types.Nest,
      action: tf.Tensor,
      seed: tf.Tensor,
      mask: Optional[tf.Tensor] = None,
  ) -> tf.Tensor:
    """Computes the supervised loss of given actions.

    Args:
      observation: Nest of `[B, ...]`, raw.
      action: `[B, A]` in [-1, 1].
      seed: `[2]` int32.
      mask: `[B, A]`, 0 for numbers that stand for no action and cost nothing (a
        chunk at the end of an episode); None where all count.

    Returns:
      `[B]` per-example loss.
    """

  @property
  @abc.abstractmethod
  def trainable_variables(self) -> Sequence[tf.Variable]:
    """What the agent's policy optimizer updates."""

  def update_average(self) -> None:
    """Moves the averaged weights after an update; nothing where none exist."""
