"""A critic of the policy's expected value, learned by expected SARSA."""

import gin
import tensorflow as tf

from parl_tf import losses
from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import critic


@gin.configurable(denylist=['spec'])
class ExpectedCritic(critic.Critic):
  """Regresses Q(s, a) on r + gamma * discount * E[Q_target(s', a')].

  The expectation is a mean over samples a' of the policy.
  """

  def __init__(self, spec, *, num_samples=8, **kwargs):
    super().__init__(spec, **kwargs)
    if num_samples < 1:
      raise ValueError(f'`num_samples` must be positive, got {num_samples}.')
    self._num_samples = num_samples

  @property
  def num_policy_actions(self):
    return self._num_samples

  def loss(self, transition, source, seed):
    next_time_step = transition.next_time_step
    next_value_fn = self.bind_target(
        next_time_step.observation, randomness.fold_in(seed, 'target members')
    )
    next_values = next_value_fn(self._samples(source.next))  # [B, N]
    target = losses.td_target(  # [B], a constant for the gradient
        next_time_step.reward,
        self._discount(next_time_step),
        tf.reduce_mean(next_values, axis=1),
        self.gamma,
    )
    value_fn = self.bind(transition.time_step.observation)
    action = transition.action_step.action
    outputs = value_fn.outputs(action[:, tf.newaxis])[:, :, 0]  # [E, B, bins]
    loss = tf.reduce_mean(self._regression(outputs, target), axis=0)
    return types.CriticLoss(
        loss,
        {
            'losses/td': tf.reduce_mean(loss),
            'values/mean': tf.reduce_mean(value_fn.values(outputs)),
            'values/target': tf.reduce_mean(target),
            'values/spread': tf.reduce_mean(
                tf.math.reduce_std(next_values, axis=1)
            ),
        },
    )

  def advantage(self, observation, action, source, seed):
    del seed  # The source draws.
    value_fn = self.bind(observation)
    expected = tf.reduce_mean(value_fn(self._samples(source.here)), axis=1)
    return value_fn(action[:, tf.newaxis])[:, 0] - expected

  def _samples(self, state_actions):
    """Returns at most `num_samples` actions of the policy, `[B, N, A]`."""
    return state_actions.base()[:, : self._num_samples]
