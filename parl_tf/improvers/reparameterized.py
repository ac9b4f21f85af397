"""Policy improvement by the critic's gradient through policy samples."""

from typing import Optional

import gin
import tensorflow as tf

from parl_tf import losses
from parl_tf import randomness
from parl_tf import replicas
from parl_tf import types
from parl_tf.improvers import improver
from parl_tf.improvers import temperature


@gin.configurable
class ReparameterizedImprover(improver.PolicyImprover):
  """Maximizes Q(s, a) by the gradient through the policy's sample a.

  The loss is imitation_weight * L(s, a_data) - value_weight * Q(s, a) -
  entropy. PA-RL does not need this gradient; the baselines of its paper do.

  With a learned temperature this is the actor of SAC, Haarnoja et al. (2018),
  arXiv:1812.05905, equations (7) and (18), for a policy with a density. With an
  imitation term and values divided by their mean magnitude it is Diffusion
  Q-learning, Wang et al. (2022), arXiv:2208.06193, equation (3); the gradient
  passes through the whole denoising chain. With the imitation term of
  `OneStepFlowPolicy` it is FQL, Park et al. (2025), arXiv:2502.02538.
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
      normalize_values: Whether to divide values by the batch's mean |Q|.
      imitation_weight: Weight of the policy's supervised loss on the dataset.
      learn_temperature: Whether to reward entropy with a learned temperature;
        needs a policy with a density.
      entropy_backup: Whether the critic's values include entropy, as in SAC;
        needs `learn_temperature` and target actions without a search.
      initial_temperature: Initial value of the temperature.
      target_entropy: Entropy in nats that the temperature maintains; None for
        minus the dimension of the action.

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
    self._value_weight = value_weight
    self._normalize_values = normalize_values
    self._imitation_weight = imitation_weight
    self._target_entropy = target_entropy
    self.adds_rewards = entropy_backup
    log_temperature = temperature.make_log_temperature(initial_temperature)
    self._log_temperature = log_temperature if learn_temperature else None

  @property
  def trainable_variables(self):
    return () if self._log_temperature is None else (self._log_temperature,)

  def loss(self, transition, policy, critic, source, seed):
    del source  # The loss differentiates its own samples.
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
    weighted = self._value_weight * values / scale
    per_example, entropy_metrics = self._value_loss(weighted, log_prob, action)
    metrics.update(entropy_metrics)
    if self._imitation_weight:
      imitation = improver.supervised_loss(
          policy, transition, randomness.fold_in(seed, 'imitation')
      )
      metrics['losses/imitation'] = tf.reduce_mean(imitation)
      per_example += self._imitation_weight * imitation
    metrics['losses/reparameterized'] = tf.reduce_mean(per_example)
    return types.ImproverLoss(per_example, metrics)

  def augment_reward(self, transition, critic, source):
    """Adds the discounted entropy at s' to the reward.

    Implements the soft value of Haarnoja et al. (2018), arXiv:1812.05905,
    equations (2) and (3). The critic's target becomes r + gamma * discount *
    (Q(s', a') - temperature * log pi(a' | s')), where a' is the action that the
    critic backs up.

    Raises:
      ValueError: If the source's actions have no density, or the critic infers
        terminal steps from rewards or backs up the best of several actions.
    """
    if not self.adds_rewards:
      return transition
    if critic.terminals_from_reward:
      raise ValueError(
          '`Critic.terminals_from_reward` must be False with `entropy_backup`.'
      )
    if critic.num_backup_actions != 1:
      raise ValueError(
          '`TDCritic.num_backup_actions` must be 1 with `entropy_backup`, got '
          f'{critic.num_backup_actions}: the entropy is that of one action.'
      )
    log_probs = source.next.optimized(1, with_densities=True).log_probs
    if log_probs is None:
      raise ValueError(
          '`entropy_backup` needs a policy with a density and, for training, a '
          '`Search` without optimizer: optimized actions have no density.'
      )
    following = transition.next_time_step
    entropy = -tf.exp(self._log_temperature) * log_probs[:, 0]
    reward = following.reward + critic.gamma * following.discount * entropy
    return transition._replace(
        next_time_step=following._replace(reward=tf.stop_gradient(reward))
    )

  def _sample(self, policy, observation, seed):
    """Draws a differentiable action per state `[B, 1, A]` and its density."""
    if self._log_temperature is None:
      return policy.sample(observation, 1, seed, averaged=False), None
    if not policy.has_density:
      raise ValueError(
          '`learn_temperature` needs a policy with a density, got '
          f'{type(policy).__name__}.'
      )
    action, log_prob = policy.sample_with_log_prob(
        observation, 1, seed, averaged=False
    )
    return action, log_prob[:, 0]

  def _value_loss(self, value, log_prob, action):
    """Computes the loss `[B]` of values, and of entropy with a temperature."""
    if log_prob is None:
      return -value, {}
    target = self._target_entropy
    if target is None:
      target = -float(action.shape[-1])
    loss = losses.soft_policy_loss(
        value, log_prob, self._log_temperature, target
    )
    return loss, {
        'policy/temperature': tf.exp(self._log_temperature),
        'policy/entropy': -tf.reduce_mean(log_prob),
    }
