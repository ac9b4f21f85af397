"""TD learning: the critic of RLPD and the base class of Cal-QL."""

from typing import Mapping, Optional, Tuple

import gin
import numpy as np
import tensorflow as tf

from parl_tf import losses
from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import critic


@gin.configurable(denylist=['spec'])
class TDCritic(critic.Critic):
  """Regresses all members on r + gamma * discount * Q_target(s', a').

  With ten members, subsets of two and ten updates per step it is the critic of
  RLPD, Ball et al. (2023), arXiv:2302.02948. The backup has no entropy term.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      num_backup_actions: Optional[int] = 1,
      target_aggregation: str = 'min',
      target_noise: float = 0.0,
      return_floor: bool = False,
      **kwargs,
  ):
    """Initializes the critic.

    Args:
      spec: See `types.ModelSpec`.
      num_backup_actions: Number of next actions; the target backs up the best.
        With optimized targets, these are draws from the found actions; a greedy
        search has one, its best.
        None takes all that the search draws.
      target_aggregation: 'mean' or 'min' over the target's members.
      target_noise: Standard deviation of Gaussian noise on the next actions, in
        units of [-1, 1]; in each dimension at most that of the data's actions,
        so that a constant one stays constant. Fujimoto et al. (2018,
        arXiv:1802.09477) smooth targets with 0.2. A larger one makes the critic
        evaluate a policy that acts less precisely. Such a policy cannot repair
        a bad action at once, so that the values of a state's actions differ by
        more than the critic errs, however good the policy has become.
      return_floor: Whether a target is at least the return that the data had
        from this state and action, the bound of Cal-QL's calibration. One
        success then gives all of its states their values at once, instead of
        update by update. In a deterministic task with failures valued as
        endless (`returns.monte_carlo_returns`), a return is a lower bound of
        the optimal value (He et al., 2017, arXiv:1611.01606; Oh et al., 2018,
        arXiv:1806.05635), but not where it is extrapolated past a time limit:
        in tasks that go on after success, or whose failures have no known
        value. With random dynamics, the targets become those of the luckiest
        episodes.
      **kwargs: Arguments of `Critic`.

    Raises:
      ValueError: If a number is out of range or an option is unknown.
    """
    super().__init__(spec, **kwargs)
    if num_backup_actions is not None and num_backup_actions < 1:
      raise ValueError(
          f'`num_backup_actions` must be positive, got {num_backup_actions}.'
      )
    if target_aggregation not in critic.AGGREGATIONS:
      raise ValueError(
          '`target_aggregation` must be one of '
          f'{sorted(critic.AGGREGATIONS)}, got {target_aggregation!r}.'
      )
    if not target_noise >= 0.0:
      raise ValueError(
          f'`target_noise` must not be negative, got {target_noise}.'
      )
    self._target_noise = _limited_noise(target_noise, spec)
    self._return_floor = return_floor
    self.num_backup_actions = num_backup_actions
    self._target_aggregate = critic.AGGREGATIONS[target_aggregation]

  @property
  def num_policy_actions(self) -> Optional[int]:
    # A subclass with a loss of its own may read more of them.
    is_own = type(self).loss is TDCritic.loss
    return self.num_backup_actions if is_own else None

  def loss(self, transition, source, seed) -> types.CriticLoss:
    features = self.encode(transition.time_step.observation)
    return types.CriticLoss(*self._td_loss(features, transition, source, seed))

  def advantage(self, observation, action, source, seed) -> tf.Tensor:
    del seed  # The source draws.
    value_fn = self.bind(observation)
    # One sample, as in PA-RL's comparison (arXiv:2412.06685, appendix B.2).
    sample = source.here.base()[:, :1]
    values = value_fn(tf.concat([action[:, tf.newaxis], sample], axis=1))
    return values[:, 0] - values[:, 1]

  def _td_loss(
      self, features, transition, source, seed
  ) -> Tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Computes the TD loss `[B]`, a mean over members, and its metrics."""
    target = self._target(transition, source, seed)
    if self._return_floor:
      info = transition.action_step.info
      target = tf.maximum(target, types.stored(info, 'monte_carlo_return'))
    value_fn = self.bind_features(features)
    action = transition.action_step.action
    outputs = value_fn.outputs(action[:, tf.newaxis])[:, :, 0]  # [E, B, bins]
    td_loss = tf.reduce_mean(self._regression(outputs, target), axis=0)
    values = value_fn.values(outputs)
    return td_loss, {
        'losses/td': tf.reduce_mean(td_loss),
        'values/mean': tf.reduce_mean(values),
        'values/target': tf.reduce_mean(target),
        'values/disagreement': tf.reduce_mean(
            tf.math.reduce_std(values, axis=0)
        ),
    }

  def _target(self, transition, source, seed):
    """Computes the target: the critic searches at s', its target evaluates."""
    next_time_step = transition.next_time_step
    next_actions = source.next.optimized(
        self.num_backup_actions, 'target'
    ).actions
    if np.any(self._target_noise):
      noise = randomness.normal(
          randomness.fold_in(seed, 'target noise'), tf.shape(next_actions)
      )
      next_actions = tf.clip_by_value(
          next_actions + self._target_noise * noise, -1.0, 1.0
      )
    value_fn = self.bind(
        next_time_step.observation,
        target=True,
        selection=self._draw_members(
            randomness.fold_in(seed, 'target members')
        ),
    )
    next_value = losses.backup_value(
        value_fn.members(next_actions), self._target_aggregate
    )
    discount = self._discount(next_time_step)
    return losses.td_target(
        next_time_step.reward, discount, next_value, self.gamma
    )


def _limited_noise(target_noise: float, spec: types.ModelSpec) -> np.ndarray:
  """Returns the deviations `[H * A]` of the noise on the next actions."""
  noise = np.full(spec.action.shape, target_noise, np.float32)
  statistics = spec.normalization
  if statistics is not None and statistics.action_deviation is not None:
    # Nothing teaches the critic the values of actions that no data contain.
    noise = np.minimum(noise, statistics.action_deviation)
  return np.tile(noise, spec.chunk_length)
