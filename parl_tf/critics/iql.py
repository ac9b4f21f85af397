"""IQL: expectile regression of values, without actions outside the dataset."""

from typing import Optional

import gin
import numpy as np
import tensorflow as tf

from parl_tf import losses
from parl_tf import types
from parl_tf.critics import critic


@gin.configurable(denylist=['spec'])
class IQLCritic(critic.Critic):
  """Fits V by expectile regression and Q by TD learning with targets from V.

  Implements Kostrikov et al. (2021), arXiv:2110.06169; PA-RL, equations (3.4)
  and (3.5). V regresses on the minimum of Q_target(s, a_data) over members with
  the expectile loss, and Q regresses on r + gamma * discount * V(s'). Both
  share an observation encoder.
  """

  draws_actions = False

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      expectile: float = 0.7,
      online_expectile: Optional[float] = None,
      tau: float = 0.002,
      online_tau: Optional[float] = None,
      **kwargs,
  ):
    """Initializes both networks.

    Args:
      spec: See `types.ModelSpec`.
      expectile: Level in (0, 1); 0.9 for AntMaze.
      online_expectile: Level in the online phase; None keeps `expectile`. At
        0.5, V is the value of the replayed behavior; the higher the level, the
        closer V is to the value of its best actions.
      tau: Step size of the target.
      online_tau: Step size in the online phase; None keeps `tau`.
      **kwargs: Arguments of `Critic`.

    Raises:
      ValueError: If a level is not in (0, 1), a step size not in (0, 1], or an
        argument of `Critic` is invalid.
    """
    super().__init__(spec, tau=tau, **kwargs)
    self._tau_by_phase: Optional[critic.NumberByPhase] = None
    if online_tau is not None:
      if not 0.0 < online_tau <= 1.0:
        raise ValueError(
            f'`online_tau` must be in (0, 1], got {online_tau}.'
        )
      self._tau_by_phase = critic.NumberByPhase(tau, online_tau)
    if online_expectile is None:
      online_expectile = expectile
    for name, level in (
        ('expectile', expectile), ('online_expectile', online_expectile)
    ):
      if not 0.0 < level < 1.0:
        raise ValueError(f'`{name}` must be in (0, 1), got {level}.')
    self._expectile = critic.NumberByPhase(expectile, online_expectile)
    # The head's output is in units of half the histogram's range, so that the
    # first updates already move V on the scale of the returns.
    self._value_center, self._value_scale = 0.0, 1.0
    if self._distribution is not None:
      low, high = self._distribution.min_value, self._distribution.max_value
      self._value_center = (low + high) / 2.0
      self._value_scale = (high - low) / 2.0
    self._value_network = self._network_ctor(
        self._encoder.size,
        0,
        1,
        spec.seed + 1,
        num_members=1,
    )
    if self._initial_value is not None:
      self.start_at(self._initial_value)

  def start_at(self, value):
    super().start_at(value)
    self._value_network.set_head_bias(
        np.array([(value - self._value_center) / self._value_scale])
    )

  @property
  def trainable_variables(self):
    return (
        self._network.trainable_variables
        + self._value_network.trainable_variables
        + self._encoder.trainable_variables
    )

  def begin_online(self) -> None:
    self._expectile.begin_online()
    if self._tau_by_phase is not None:
      self._tau_by_phase.begin_online()

  def _target_step(self):
    if self._tau_by_phase is None:
      return super()._target_step()
    return self._tau_by_phase.read()

  def value(self, observation: types.Nest) -> tf.Tensor:
    """Returns V(s) `[B]` of observations, a nest of `[B, ...]`."""
    return self._value(self.encode(observation))

  def _value(self, features):
    output = self._value_network.context(features)()
    return self._value_center + self._value_scale * output[0, :, 0, 0]

  def loss(self, transition, source, seed) -> types.CriticLoss:
    del source, seed  # IQL draws no actions.
    observation = transition.time_step.observation
    action = transition.action_step.action
    next_time_step = transition.next_time_step
    features = self.encode(observation)
    # V regresses on the target critic, which is constant here.
    difference = tf.stop_gradient(
        self._least_target_value(observation, action)
    ) - self._value(features)
    value_loss = losses.expectile_loss(difference, self._expectile.read())
    target = losses.td_target(
        next_time_step.reward,
        self._discount(next_time_step),
        self.value(next_time_step.observation),
        self.gamma,
    )
    value_fn = self.bind_features(features)
    outputs = value_fn.outputs(action[:, tf.newaxis])[:, :, 0]
    td_loss = tf.reduce_mean(self._regression(outputs, target), axis=0)
    # In units of the head's output, so that both networks learn at one rate.
    value_loss /= self._value_scale**2
    values = value_fn.values(outputs)  # [E, B]
    metrics = {
        'losses/td': tf.reduce_mean(td_loss),
        'losses/value': tf.reduce_mean(value_loss),
        'values/mean': tf.reduce_mean(values),
        'values/target': tf.reduce_mean(target),
        'values/disagreement': tf.reduce_mean(
            tf.math.reduce_std(values, axis=0)
        ),
        'values/advantage': tf.reduce_mean(difference),
    }
    return types.CriticLoss(td_loss + value_loss, metrics)

  def advantage(self, observation, action, source, seed) -> tf.Tensor:
    del source, seed
    return self._least_target_value(observation, action) - self.value(
        observation
    )

  def _least_target_value(self, observation, action):
    value_fn = self.bind(observation, target=True)
    return tf.reduce_min(value_fn.members(action[:, tf.newaxis]), axis=0)[:, 0]
