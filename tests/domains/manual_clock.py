"""A clock that stands still unless it is slept on, for tests."""

from parl_tf.domains import robot_rate


class ManualClock(robot_rate.Clock):
  """Time that passes by sleeping alone.

  Attributes:
    time: The present, in seconds.
    on_sleep: Called after each sleep.
  """

  def __init__(self):
    self.time = 100.0
    self.on_sleep = lambda: None

  def now(self):
    return self.time

  def sleep(self, seconds):
    self.time += seconds
    self.on_sleep()
