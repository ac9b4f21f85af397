"""Learning-rate schedules."""

from typing import Optional, Union

import gin
import tensorflow as tf

Rate = Union[float, tf.keras.optimizers.schedules.LearningRateSchedule]


@gin.configurable('WarmUpCosineDecay')
def make_warm_up_cosine_decay(
    learning_rate: float = gin.REQUIRED,
    num_warm_up_steps: int = 2000,
    num_decay_steps: Optional[int] = None,
    updates_per_step: int = 1,
) -> tf.keras.optimizers.schedules.CosineDecay:
  """Makes a linear warm-up, then a constant or half a cosine down to 0.

  Update i of W warm-up updates, counted from 1, uses i / W of the highest rate;
  the cosine begins with update W, which is `num_warm_up_steps` times
  `updates_per_step`. `WarmUpCosineDecay` in gin.

  Args:
    learning_rate: The highest rate.
    num_warm_up_steps: Training steps of the warm-up; 0 for none.
    num_decay_steps: Training steps, warm-up included, after which the rate is
      0; None stays constant.
    updates_per_step: Updates of the optimizer per training step, such as
      `PARLAgent.critic_utd`.

  Raises:
    ValueError: If a number is out of range.
  """
  if not learning_rate > 0:
    raise ValueError(f'`learning_rate` must be positive, got {learning_rate}.')
  if num_warm_up_steps < 0:
    raise ValueError(
        f'`num_warm_up_steps` must not be negative, got {num_warm_up_steps}.'
    )
  if num_decay_steps is not None and num_decay_steps <= num_warm_up_steps:
    raise ValueError(
        '`num_decay_steps` must exceed `num_warm_up_steps`, got '
        f'{num_decay_steps} and {num_warm_up_steps}.'
    )
  if updates_per_step < 1:
    raise ValueError(
        f'`updates_per_step` must be positive, got {updates_per_step}.'
    )
  num_warm_up_steps *= updates_per_step
  if num_decay_steps is not None:
    num_decay_steps *= updates_per_step
  # Keras counts updates from 0, and its warm-up ends before the highest rate.
  num_rising = max(num_warm_up_steps - 1, 0)
  num_falling = 1 if num_decay_steps is None else num_decay_steps - num_rising

  return tf.keras.optimizers.schedules.CosineDecay(
      learning_rate / (num_rising + 1),
      decay_steps=num_falling,
      alpha=1.0 if num_decay_steps is None else 0.0,
      warmup_target=learning_rate if num_rising else None,
      warmup_steps=num_rising,
  )


@gin.configurable
class RateByPhase(tf.keras.optimizers.schedules.LearningRateSchedule):
  """A learning rate with another schedule in the online phase.

  Both start at update 0, because the optimizers are reset for that phase. The
  phase is not in checkpoints: the phase sets it.
  """

  def __init__(
      self,
      offline: Rate = gin.REQUIRED,
      online: Rate = gin.REQUIRED,
  ):
    """Initializes the schedule.

    Args:
      offline: Rate or schedule before the online phase.
      online: Rate or schedule in the online phase.
    """
    self._offline, self._online = offline, online
    self._is_online = tf.Variable(False, trainable=False, name='is_online')

  def begin_online(self) -> None:
    """Switches to the schedule of the online phase."""
    self._is_online.assign(True)

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the rate of update `step`, counted from 0."""
    offline, online = (
        rate(step) if callable(rate) else tf.constant(rate, tf.float32)
        for rate in (self._offline, self._online)
    )
    return tf.where(self._is_online.read_value(), online, offline)

  def get_config(self):
    return {'offline': self._offline, 'online': self._online}
