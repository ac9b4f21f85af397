"""Cal-QL: temporal differences with a calibrated conservative penalty."""

from typing import Optional

import gin
import tensorflow as tf

from parl_tf import losses
from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import critic
from parl_tf.critics import td

_FORMS = ('logsumexp', 'expectation')


@gin.configurable(denylist=['spec'])
class CalQLCritic(td.TDCritic):
  """Adds a calibrated conservative penalty to the TD loss.

  Implements L = L_TD + alpha * penalty of Nakamoto et al. (2023),
  arXiv:2303.05479; PA-RL, arXiv:2412.06685, equation (3.3). `calibrate=False`
  is CQL.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      conservative_weight: float = 0.005,
      online_conservative_weight: Optional[float] = None,
      conservative_temperature: float = 1.0,
      num_conservative_actions: int = 10,
      conservative_form: str = 'logsumexp',
      calibrate: bool = True,
      calibrate_random_actions: bool = False,
      **kwargs,
  ):
    """Initializes the critic.

    Args:
      spec: See `types.ModelSpec`.
      conservative_weight: alpha, constant in a phase.
      online_conservative_weight: alpha of the online phase; None keeps
        `conservative_weight`. With 0 that phase has no penalty, and does not
        compute it.
      conservative_temperature: Temperature of the logsumexp.
      num_conservative_actions: n, the number of uniform actions. The policy's
        actions for s' and for s each count as n columns.
      conservative_form: 'logsumexp', or 'expectation' for E max(Q, V) - Q(data)
        as printed in the paper.
      calibrate: Whether the dataset's return bounds the values of policy
        actions from below.
      calibrate_random_actions: Whether it also bounds the values of uniform
        actions, as in the released code of Cal-QL.
      **kwargs: Arguments of `TDCritic`.

    Raises:
      ValueError: If a number is out of range or an option is unknown.
    """
    super().__init__(spec, **kwargs)
    if conservative_form not in _FORMS:
      raise ValueError(
          f'`conservative_form` must be one of {_FORMS}, got '
          f'{conservative_form!r}.'
      )
    if online_conservative_weight is None:
      online_conservative_weight = conservative_weight
    for name, weight in (
        ('conservative_weight', conservative_weight),
        ('online_conservative_weight', online_conservative_weight),
    ):
      if weight < 0:
        raise ValueError(f'`{name}` must not be negative, got {weight}.')
    if conservative_temperature <= 0:
      raise ValueError(
          '`conservative_temperature` must be positive, got '
          f'{conservative_temperature}.'
      )
    if num_conservative_actions < 1:
      raise ValueError(
          '`num_conservative_actions` must be positive, got '
          f'{num_conservative_actions}.'
      )
    self._weight = critic.NumberByPhase(
        conservative_weight, online_conservative_weight
    )
    self._may_end = conservative_weight > 0.0 == online_conservative_weight
    self._temperature = conservative_temperature
    self._num_actions = num_conservative_actions
    self._form = conservative_form
    self.reads_densities = conservative_form != 'expectation'
    self._calibrate = calibrate
    self._calibrate_random = calibrate and calibrate_random_actions

  def begin_online(self) -> None:
    self._weight.begin_online()

  @property
  def num_policy_actions(self) -> Optional[int]:
    is_own = type(self).loss is CalQLCritic.loss
    if self.num_backup_actions is None or not is_own:
      return None
    return max(self.num_backup_actions, self._num_actions)

  @property
  def samples_both_states(self) -> bool:
    return not self._may_end

  def loss(self, transition, source, seed) -> types.CriticLoss:
    features = self.encode(transition.time_step.observation)
    td_loss, td_metrics = self._td_loss(features, transition, source, seed)
    weight = self._weight.read()

    def compute():
      penalty, metrics = self._penalty(features, transition, source, seed)
      return weight * penalty, metrics

    if self._may_end:
      # Both branches have the same metrics.
      name = 'losses/conservative'
      penalty, metrics = tf.cond(
          weight > 0.0,
          lambda: _with_only(name, *compute()),
          lambda: (tf.zeros_like(td_loss), {name: 0.0}),
      )
    else:
      penalty, metrics = compute()
    return types.CriticLoss(td_loss + penalty, {**metrics, **td_metrics})

  def _penalty(self, features, transition, source, seed):
    """Computes the conservative term `[B]`; evaluates all actions at s."""
    action = transition.action_step.action
    batch_size = tf.shape(action)[0]
    random_actions = randomness.uniform(
        randomness.fold_in(seed, 'random actions'),
        [batch_size, self._num_actions, action.shape[-1]],
        low=-1.0,
        high=1.0,
    )
    next_, current = (
        actions.optimized(
            self._num_actions,
            'penalty',
            at_most=True,
            with_densities=self.reads_densities,
        )
        for actions in (source.next, source.here)
    )
    members = self._draw_members(randomness.fold_in(seed, 'penalty members'))
    value_fn = self.bind_features(features, selection=members)
    columns = [
        random_actions, next_.actions, current.actions, action[:, tf.newaxis]
    ]
    if self._form == 'expectation':  # Reads no values of the first two.
      columns[:2] = [random_actions[:, :0], next_.actions[:, :0]]
    values = value_fn.members(tf.concat(columns, axis=1))
    random_values, next_values, current_values, data_values = tf.split(
        values, [x.shape[1] for x in columns], axis=-1
    )
    data_values = tf.squeeze(data_values, axis=-1)  # [M, B]
    metrics = {'values/policy': tf.reduce_mean(current_values)}
    if self._form != 'expectation':
      metrics['values/random'] = tf.reduce_mean(random_values)
    if self._calibrate:
      bound = types.stored(transition.action_step.info, 'monte_carlo_return')
      metrics['values/below_return'] = tf.reduce_mean(
          tf.cast(current_values < bound[tf.newaxis, :, tf.newaxis], tf.float32)
      )
      next_values = losses.calibrated_values(next_values, bound)
      current_values = losses.calibrated_values(current_values, bound)
      if self._calibrate_random:
        random_values = losses.calibrated_values(random_values, bound)
    if self._form == 'expectation':
      penalty = tf.reduce_mean(current_values, axis=-1) - data_values
    else:
      log_densities = None
      if current.log_probs is not None:
        uniform = tf.fill(
            [batch_size, self._num_actions],
            action.shape[-1] * tf.math.log(0.5),
        )
        log_densities = (uniform, next_.log_probs, current.log_probs)
      penalty = losses.conservative_penalty(
          random_values,
          next_values,
          current_values,
          data_values,
          self._temperature,
          log_densities,
      )
    penalty = tf.reduce_mean(penalty, axis=0)  # [M, B] -> [B]
    metrics['losses/conservative'] = tf.reduce_mean(penalty)
    return penalty, metrics


def _with_only(name, loss, metrics):
  return loss, {name: metrics[name]}
