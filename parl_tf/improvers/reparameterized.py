"""Improvement by the critic's gradient through the policy's own samples."""

import math
from typing import Optional

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import replicas
from parl_tf import types
from parl_tf.improvers import improver


@gin.configurable
class ReparameterizedImprover(improver.PolicyImprover):
  """imitation_weight * L(s, a_data) - value_weight * Q(s, a) - entropy.

  a is the policy's sample, through which the gradient flows: what PA-RL does
  without, kept for the methods that it is compared with. With a learned
  temperature it is the actor of SAC, Haarnoja et al. (2018), arXiv:1812.05905,
  equation (7) and (18), for a policy with a density. With an imitation term and
  values divided by their mean size it is Diffusion Q-learning, Wang et al.
  (2022), arXiv:2208.06193, equation (3), the gradient passing through the whole
  denoising chain.
  """

  def __init__(
      self,
      value_weight: float = 1.0,
      normalize_values: bool = False,
      imitation_weight: float = 0.0,
      learn_temperature: bool = True,
      entropy_backup: bool = False,
      initial_temperature: float = 1.0,
      target_entropy: Optional[float] = None,
  ):
    """Initializes the improver.

    Args:
      value_weight: eta, the weight of the values.
      normalize_values: Whether values are divided by the batch's mean |Q|.
      imitation_weight: Weight of the policy's supervised loss on the data.
      learn_temperature: Whether the entropy is rewarded, by a temperature that
        is learned; needs a policy with a density.
      entropy_backup: Whether the critic's values have the entropy in them, as
        those of SAC; needs `learn_temperature` and targets without a search.
      initial_temperature: What it begins with.
      target_entropy: Entropy in nats that the temperature holds; minus the
        action's size where None.

    Raises:
      ValueError: If a number is out of range.
    """
    super().__init__()
    if value_weight <= 0:
      raise ValueError(f'`value_weight` must be positive, got {value_weight}.')
    if imitation_weight < 0:
      raise ValueError(
          f'`imitation_weight` must not be negative, got {imitation_weight}.'
      )
    if entropy_backup and not learn_temperature:
      raise ValueError('`entropy_backup` needs `learn_temperature`, got False.')
    if initial_temperature <= 0:
      raise ValueError(
          '`initial_temperature` must be positive, got '
          f'{initial_temperature}.'
      )
    self._value_weight = value_weight
    self._normalize_values = normalize_values
    self._imitation_weight = imitation_weight
    self._target_entropy = target_entropy
    self._entropy_backup = entropy_backup
    self._log_temperature = None
    if learn_temperature:
      self._log_temperature = tf.Variable(
          math.log(initial_temperature), name='log_temperature'
      )

  @property
  def trainable_variables(self):
    return () if self._log_temperature is None else (self._log_temperature,)

  def loss(self, transition, policy, critic, source, seed):
    del source  # These draws are differentiated.
    observation = transition.time_step.observation
    action, log_prob = self._sample(
        policy, observation, randomness.fold_in(seed, 'action')
    )
    values = critic.bind(observation)(action)[:, 0]  # [B, 1, A] -> [B]
    metrics = {'values/policy': tf.reduce_mean(values)}
    scale = 1.0
    if self._normalize_values:
      mean = tf.stop_gradient(tf.reduce_mean(tf.abs(values)))
      scale = replicas.mean(mean) + 1e-6
    per_example = -self._value_weight * values / scale
    if self._imitation_weight:
      imitation = improver.supervised_loss(
          policy, transition, randomness.fold_in(seed, 'imitation')
      )
      metrics['losses/imitation'] = tf.reduce_mean(imitation)
      per_example += self._imitation_weight * imitation
    if log_prob is not None:
      entropy_loss, entropy_metrics = self._entropy_loss(
          log_prob, action.shape[-1]
      )
      per_example += entropy_loss
      metrics.update(entropy_metrics)
    metrics['losses/reparameterized'] = tf.reduce_mean(per_example)
    return types.ImproverLoss(per_example, metrics)

  def augment_reward(self, transition, critic, source):
    """Adds what the entropy at s' is worth, one step later.

    The soft value of Haarnoja et al. (2018), arXiv:1812.05905, equations (2)
    and (3): a critic's target becomes r + gamma * discount * (Q(s', a') -
    temperature * log pi(a' | s')), a' the action that it backs up.

    Raises:
      ValueError: If the source's actions have no density, or the critic reads
        ends off rewards.
    """
    if not self._entropy_backup:
      return transition
    if critic.terminals_from_reward:
      raise ValueError(
          '`Critic.terminals_from_reward` must be False with `entropy_backup`.'
      )
    log_probs = source.next.optimized(1).log_probs
    if log_probs is None:
      raise ValueError(
          '`entropy_backup` needs a policy with a density and, of training, a '
          '`Search` without optimizer, whose actions have none.'
      )
    following = transition.next_time_step
    entropy = -tf.exp(self._log_temperature) * log_probs[:, 0]
    reward = following.reward + critic.gamma * following.discount * entropy
    return transition._replace(
        next_time_step=following._replace(reward=tf.stop_gradient(reward))
    )

  def _sample(self, policy, observation, seed):
    """One differentiable action a state `[B, 1, A]`, of the trained weights."""
    if self._log_temperature is None:
      return policy.sample(observation, 1, seed, averaged=False), None
    if not policy.has_density:
      raise ValueError(
          '`learn_temperature` needs a policy with a density, which '
          f'{type(policy).__name__} has not.'
      )
    action, log_prob = policy.sample_with_log_prob(
        observation, 1, seed, averaged=False
    )
    return action, log_prob[:, 0]

  def _entropy_loss(self, log_prob, action_size):
    """The entropy's share of the loss `[B]`, and the temperature's own loss."""
    target = self._target_entropy
    if target is None:
      target = -float(action_size)
    temperature = tf.exp(self._log_temperature)
    # Below its target entropy a policy must pay more for density: the gradient
    # by the log of the temperature is the gap.
    gap = tf.stop_gradient(log_prob + target)
    loss = tf.stop_gradient(temperature) * log_prob
    loss += -self._log_temperature * gap
    metrics = {
        'policy/temperature': temperature,
        'policy/entropy': -tf.reduce_mean(log_prob),
    }
    return loss, metrics
