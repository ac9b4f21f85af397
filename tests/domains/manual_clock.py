"""A clock for tests that advances only by sleeping."""

from parl_tf.domains import robot_rate


class ManualClock(robot_rate.Clock):
  """A clock that advances only by sleeping.

  Attributes:
    time: Current time in seconds.
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
