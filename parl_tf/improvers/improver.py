"""The policy improver protocol: a loss of the policy on a batch."""

import abc
from typing import Mapping, Optional, Sequence

import tensorflow as tf

from parl_tf import types


def action_mask(transition) -> Optional[tf.Tensor]:
  """Returns the mask `[B, A]`, 0 past the end of an episode, or None."""
  info = transition.action_step.info
  return info.get('action_mask') if isinstance(info, dict) else None


def supervised_loss(policy, transition, seed: tf.Tensor) -> tf.Tensor:
  """Computes the policy's supervised loss `[B]` on the dataset actions."""
  mask = action_mask(transition)
  # Policies without chunks need not accept a mask.
  options = {} if mask is None else {'mask': mask}
  return policy.distillation_loss(
      transition.time_step.observation,
      transition.action_step.action,
      seed,
      **options,
  )


class PolicyImprover(tf.Module, abc.ABC):
  """Base class of policy improvers, which compute the policy's loss.

  Attributes:
    adds_rewards: Whether `augment_reward` adds a reward at s'; a class that
      overrides the method must set it. With n-step returns, the decisions
      between s and s' would lack theirs.
  """

  adds_rewards = False

  @abc.abstractmethod
  def loss(
      self, transition, policy, critic, source, seed: tf.Tensor
  ) -> types.ImproverLoss:
    """Computes the policy's loss; changes no state.

    Args:
      transition: TF-Agents `Transition` of `[B, ...]`.
      policy: `GenerativePolicy` to improve.
      critic: `Critic`; None for imitation.
      source: `ActionSource` of the batch.
      seed: `[2]` int32.

    Returns:
      Per-example loss `[B]` and metrics.
    """

  def augment_reward(self, transition, critic, source):
    """Returns the critic's transition, with the improver's own reward terms.

    By default, returns the transition unchanged.

    Args:
      transition: TF-Agents `Transition` of `[B, ...]`.
      critic: `Critic` that learns from the transition.
      source: `ActionSource` of the batch.
    """
    del critic, source
    return transition

  @property
  def trainable_variables(self) -> Sequence[tf.Variable]:
    """The improver's own variables, such as a temperature."""
    return ()

  def check_critic(self, critic) -> None:
    """Raises TypeError if the loss cannot use the critic.

    By default, it can use any.

    Args:
      critic: `Critic` of the agent, or None.
    """
    del critic

  def check_policy(self, policy) -> None:
    """Raises ValueError if the policy has a part that the loss does not train.

    Args:
      policy: `GenerativePolicy` of the agent.
    """
    trained = {variable.ref() for variable in self.trained_variables(policy)}
    if not trained.issuperset(x.ref() for x in policy.improver_variables):
      raise ValueError(
          f'A {type(policy).__name__} has a part that a {type(self).__name__}'
          ' does not train. Use another policy, or its own method'
          ' (methods/expo.gin, methods/ibrl.gin or methods/dsrl.gin).'
      )

  def trained_variables(self, policy) -> Sequence[tf.Variable]:
    """Returns all variables that the loss trains.

    By default, those of the policy's supervised loss and the improver's own.

    Args:
      policy: `GenerativePolicy` to improve.
    """
    return (*policy.trainable_variables, *self.trainable_variables)

  def update_average(self, policy) -> None:
    """Moves the averaged weights that follow the loss's updates, if any.

    By default, all of the policy's.

    Args:
      policy: `GenerativePolicy` to improve.
    """
    policy.update_average()

  def update(self, metrics: Mapping[str, tf.Tensor]) -> None:
    """Updates running statistics from the loss's metrics after its update."""
