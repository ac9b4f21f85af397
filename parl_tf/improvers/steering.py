"""Policy improvement of DSRL: SAC over the noise of a fixed flow policy."""

from typing import Optional

import gin
import tensorflow as tf

from parl_tf import losses
from parl_tf import types
from parl_tf.improvers import improver
from parl_tf.improvers import temperature
from parl_tf.policies import steered


@gin.configurable
class SteeringImprover(improver.PolicyImprover):
  """Trains the actor of a `SteeredPolicy` by SAC's loss; the flow is fixed.

  Implements Wagenmaker et al. (2025), arXiv:2506.15799, with the values Q_w of
  a `NoiseAliasedCritic`. No gradient flows through the flow.
  """

  def __init__(
      self,
      initial_temperature: float = 1.0,
      target_entropy: Optional[float] = None,
  ):
    """Initializes the improver.

    Args:
      initial_temperature: Initial value of the temperature.
      target_entropy: Entropy in nats of noise / bound that the temperature
        maintains; None for minus its dimension.

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

  def check_critic(self, critic):
    if not hasattr(critic, 'noise_value'):
      raise TypeError(
          '`SteeringImprover` needs a `NoiseAliasedCritic`, got'
          f' {type(critic).__name__}.'
      )

  def trained_variables(self, policy):
    if not isinstance(policy, steered.SteeredPolicy):
      raise TypeError(
          '`SteeringImprover` needs a `SteeredPolicy`, got '
          f'{type(policy).__name__}.'
      )
    return (*policy.improver_variables, self._log_temperature)

  def update_average(self, policy):
    policy.begin_steering()

  def loss(self, transition, policy, critic, source, seed):
    del source  # The loss differentiates the actor's own noise.
    observation = transition.time_step.observation
    noise, log_prob = policy.choose_noise(observation, 1, seed)
    value = critic.noise_value(observation, noise)[:, 0]
    log_prob = log_prob[:, 0]
    target = self._target_entropy
    if target is None:
      target = -float(noise.shape[-1])
    loss = losses.soft_policy_loss(
        value, log_prob, self._log_temperature, target
    )
    metrics = {
        'losses/reparameterized': tf.reduce_mean(loss),
        'policy/temperature': tf.exp(self._log_temperature),
        'policy/entropy': -tf.reduce_mean(log_prob),
        'values/policy': tf.reduce_mean(value),
    }
    return types.ImproverLoss(loss, metrics)
