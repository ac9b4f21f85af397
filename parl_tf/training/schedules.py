"""Learning-rate schedules."""

from typing import Optional, Union

import gin
import tensorflow as tf

Rate = Union[float, tf.keras.optimizers.schedules.LearningRateSchedule]


@gin.configurable
class WarmUpCosineDecay(tf.keras.optimizers.schedules.LearningRateSchedule):
  """A linear warm-up, then a constant or half a cosine down to 0.

  Lengths are in training steps, which may have several updates of the
  optimizer. Update i of W warm-up updates, counted from 1, uses i / W of the
  highest rate; the cosine begins with update W.
  """

  def __init__(
      self,
      learning_rate: float = gin.REQUIRED,
      num_warm_up_steps: int = 2000,
      num_decay_steps: Optional[int] = None,
  ):
    """Initializes the schedule for one update per training step.

    Args:
      learning_rate: The highest rate.
      num_warm_up_steps: Training steps of the warm-up; 0 for none.
      num_decay_steps: Training steps, warm-up included, after which the rate is
        0; None stays constant.

    Raises:
      ValueError: If a number is out of range.
    """
    if not learning_rate > 0:
      raise ValueError(
          f'`learning_rate` must be positive, got {learning_rate}.'
      )
    if num_warm_up_steps < 0:
      raise ValueError(
          f'`num_warm_up_steps` must not be negative, got {num_warm_up_steps}.'
      )
    if num_decay_steps is not None and num_decay_steps <= num_warm_up_steps:
      raise ValueError(
          '`num_decay_steps` must exceed `num_warm_up_steps`, got '
          f'{num_decay_steps} and {num_warm_up_steps}.'
      )
    self._learning_rate = learning_rate
    self._num_warm_up_steps = num_warm_up_steps
    self._num_decay_steps = num_decay_steps
    self._by_update = self._count_updates(1)
    self._updates_per_step: Optional[int] = None

  def set_updates_per_step(self, number: int) -> None:
    """Sets the number of updates of the optimizer per training step.

    Raises:
      ValueError: If another optimizer has set another number.
    """
    if self._updates_per_step not in (None, number):
      raise ValueError(
          'Optimizers with different numbers of updates per training step must'
          f' not share a schedule, got {self._updates_per_step} and {number}.'
      )
    self._updates_per_step = number
    self._by_update = self._count_updates(number)

  def _count_updates(self, number):
    """Returns the schedule with lengths in updates, `number` per step."""
    # Keras counts updates from 0, and its warm-up ends before the highest rate.
    num_rising = max(self._num_warm_up_steps * number - 1, 0)
    num_falling, final = 1, 1.0
    if self._num_decay_steps is not None:
      num_falling, final = self._num_decay_steps * number - num_rising, 0.0
    return tf.keras.optimizers.schedules.CosineDecay(
        self._learning_rate / (num_rising + 1),
        decay_steps=num_falling,
        alpha=final,
        warmup_target=self._learning_rate if num_rising else None,
        warmup_steps=num_rising,
    )

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the rate of update `step`, counted from 0."""
    return self._by_update(step)

  def get_config(self):
    return {
        'learning_rate': self._learning_rate,
        'num_warm_up_steps': self._num_warm_up_steps,
        'num_decay_steps': self._num_decay_steps,
    }


def check_rate(name: str, rate: Rate) -> None:
  """Raises `ValueError` if a learning rate is text or negative.

  Args:
    name: The parameter.
    rate: Number or schedule.
  """
  is_number = isinstance(rate, (int, float))
  if isinstance(rate, str) or (is_number and not rate >= 0):
    raise ValueError(
        f'`{name}` must be a number of at least 0, or a schedule, got {rate!r}.'
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

    Raises:
      ValueError: If a rate is negative or text.
    """
    check_rate('RateByPhase.offline', offline)
    check_rate('RateByPhase.online', online)
    self._offline, self._online = offline, online
    self._is_online = tf.Variable(False, trainable=False, name='is_online')

  def begin_online(self) -> None:
    """Switches to the schedule of the online phase."""
    self._is_online.assign(True)

  def set_updates_per_step(self, number: int) -> None:
    """Sets the number of updates of the optimizer per training step."""
    for rate in (self._offline, self._online):
      if hasattr(rate, 'set_updates_per_step'):
        rate.set_updates_per_step(number)

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the rate of update `step`, counted from 0."""
    offline, online = (
        rate(step) if callable(rate) else tf.constant(rate, tf.float32)
        for rate in (self._offline, self._online)
    )
    return tf.where(self._is_online.read_value(), online, offline)

  def get_config(self):
    return {'offline': self._offline, 'online': self._online}
