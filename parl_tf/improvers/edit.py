"""Policy improvement of EXPO: imitation, and edits that raise the value."""

import math
from typing import Optional

import gin
import tensorflow as tf

from parl_tf import losses
from parl_tf import randomness
from parl_tf import types
from parl_tf.improvers import improver
from parl_tf.improvers import temperature
from parl_tf.policies import edited


@gin.configurable
class EditImprover(improver.PolicyImprover):
  """Trains an `EditedPolicy`: its base by imitation, its edits by SAC's loss.

  Implements Dong et al. (2025), arXiv:2507.07986: both losses use the replayed
  actions, which the edits change to raise the mean value over the critic's
  members.
  """

  def __init__(
      self,
      initial_temperature: float = 1.0,
      target_entropy: Optional[float] = None,
  ):
    """Initializes the improver.

    Args:
      initial_temperature: Initial value of the temperature.
      target_entropy: Entropy of the edits in nats that the temperature
        maintains, in the units of actions. None for -d/2 + d log beta, with
        dimension d, which is -d/2 for edits divided by beta.

    Raises:
      ValueError: If `initial_temperature` is not positive.
    """
    super().__init__()
    self._target_entropy = target_entropy
    self._log_temperature = temperature.make_log_temperature(
        initial_temperature
    )

  @property
  def trainable_variables(self):
    return (self._log_temperature,)

  def trained_variables(self, policy):
    if not isinstance(policy, edited.EditedPolicy):
      raise TypeError(
          '`EditImprover` needs an `EditedPolicy`, got '
          f'{type(policy).__name__}.'
      )
    return (*super().trained_variables(policy), *policy.improver_variables)

  def loss(self, transition, policy, critic, source, seed):
    del source  # The edits change the replayed actions.
    observation = transition.time_step.observation
    action = transition.action_step.action
    imitation = improver.supervised_loss(
        policy, transition, randomness.fold_in(seed, 'imitation')
    )
    changed, log_prob = policy.edit(
        observation, action[:, tf.newaxis], randomness.fold_in(seed, 'edit')
    )
    members = critic.bind(observation).members(changed)  # [E, B, 1]
    value = tf.reduce_mean(members, axis=0)[:, 0]
    log_prob = log_prob[:, 0]
    size = action.shape[-1]
    target = self._target_entropy
    if target is None:
      target = size * (math.log(policy.scale) - 0.5)
    edit = losses.soft_policy_loss(
        value, log_prob, self._log_temperature, target
    )
    metrics = {
        'losses/imitation': tf.reduce_mean(imitation),
        'losses/reparameterized': tf.reduce_mean(edit),
        'policy/temperature': tf.exp(self._log_temperature),
        'policy/entropy': -tf.reduce_mean(log_prob),
        'values/policy': tf.reduce_mean(value),
    }
    return types.ImproverLoss(imitation + edit, metrics)
