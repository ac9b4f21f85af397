"""The learned temperature of SAC's losses."""

import math

import tensorflow as tf


def make_log_temperature(initial_temperature: float) -> tf.Variable:
  """Returns the logarithm of a temperature as a trainable scalar.

  Args:
    initial_temperature: Initial value of the temperature.

  Raises:
    ValueError: If `initial_temperature` is not positive.
  """
  if initial_temperature <= 0:
    raise ValueError(
        f'`initial_temperature` must be positive, got {initial_temperature}.'
    )
  return tf.Variable(math.log(initial_temperature), name='log_temperature')
