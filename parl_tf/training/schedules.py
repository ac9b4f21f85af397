"""Learning-rate schedules."""

import math
from typing import Optional

import gin
import tensorflow as tf


@gin.configurable
class WarmUp(tf.keras.optimizers.schedules.LearningRateSchedule):
  """Linear warm-up, then constant or half a cosine down to 0."""

  def __init__(
      self,
      learning_rate: float = gin.REQUIRED,
      num_warm_up_steps: int = 2000,
      num_decay_steps: Optional[int] = None,
  ):
    """Initializes the schedule.

    Args:
      learning_rate: The highest rate.
      num_warm_up_steps: Gradient steps of the warm-up; 0 for none.
      num_decay_steps: Gradient steps, warm-up included, after which the cosine
        reaches 0; None keeps the rate constant.

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

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the rate of update `step`, counted from 0."""
    step = tf.cast(step, tf.float32)
    rate = tf.constant(self._learning_rate, tf.float32)
    if self._num_decay_steps is not None:
      length = self._num_decay_steps - self._num_warm_up_steps
      share = (step - self._num_warm_up_steps) / length
      share = tf.clip_by_value(share, 0.0, 1.0)
      rate *= 0.5 * (1.0 + tf.cos(math.pi * share))
    if self._num_warm_up_steps:
      rate *= tf.minimum((step + 1.0) / self._num_warm_up_steps, 1.0)
    return rate

  def get_config(self):
    return {
        'learning_rate': self._learning_rate,
        'num_warm_up_steps': self._num_warm_up_steps,
        'num_decay_steps': self._num_decay_steps,
    }
