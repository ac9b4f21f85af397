"""What every policy improver is: a loss of the policy on a batch."""

import abc
from typing import Mapping, Optional, Sequence

import tensorflow as tf

from parl_tf import types


def action_mask(transition) -> Optional[tf.Tensor]:
  """Returns `[B, A]`, 0 where a chunk has no action; None without chunks."""
  info = transition.action_step.info
  return info.get('action_mask') if isinstance(info, dict) else None


def supervised_loss(policy, transition, seed: tf.Tensor) -> tf.Tensor:
  """Returns the policy's own loss `[B]` on the data's actions."""
  mask = action_mask(transition)
  # A policy that knows nothing of chunks need not take it.
  options = {} if mask is None else {'mask': mask}
  return policy.distillation_loss(
      transition.time_step.observation,
      transition.action_step.action,
      seed,
      **options,
  )


class PolicyImprover(tf.Module, abc.ABC):
  """Turns transitions, a critic and an action source into a policy loss."""

  @abc.abstractmethod
  def loss(
      self, transition, policy, critic, source, seed: tf.Tensor
  ) -> types.ImproverLoss:
    """Computes the policy's loss; changes no state.

    Args:
      transition: TF-Agents `Transition` of `[B, ...]`.
      policy: `GenerativePolicy` that is improved.
      critic: `Critic`, or None for imitation.
      source: `ActionSource` of the batch.
      seed: `[2]` int32.

    Returns:
      Per-example loss `[B]` and metrics.
    """

  def augment_reward(self, transition, critic, source):
    """Returns the critic's transition, its reward that of the improver's goal.

    It is the task's, unless the policy is to be rewarded for more.

    Args:
      transition: TF-Agents `Transition` of `[B, ...]`.
      critic: `Critic` that learns from it.
      source: `ActionSource` of the batch.
    """
    del critic, source
    return transition

  @property
  def trainable_variables(self) -> Sequence[tf.Variable]:
    """Variables of the improver's own, such as a temperature."""
    return ()

  def update(self, metrics: Mapping[str, tf.Tensor]) -> None:
    """Updates running state from the loss's metrics, after the step."""
