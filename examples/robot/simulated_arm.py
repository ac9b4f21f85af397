"""A robot driver to copy, for a simulated arm.

It behaves like a real robot: time passes between calls, commands and
measurements have latency, and some of them are lost.
"""

import collections
import threading

from dm_env import specs
import gin
import numpy as np

from parl_tf.domains import arm
from parl_tf.domains import domain
from parl_tf.domains import robot_rate

GOAL = np.array([0.25, 0.125], np.float32)  # Metres.
_GOAL_RADIUS = 0.05  # Metres.
_TABLE = 0.5  # Metres from the centre to the edges.
_MAX_SPEED = 0.25  # Metres per second along each axis.
_START_SPREAD = 0.1  # Metres around the centre, along each axis.
_PERIOD = 1.0 / 64.0  # Seconds between measurements.


@gin.configurable
class SimulatedArm(arm.Arm):
  """A gripper over a table; actions are its velocity.

  Observations `[4]`: position in metres, velocity in metres per second.

  Attributes:
    drop_rate: Share of commands and measurements that are lost.
    num_commands: Number of commands sent.
    is_moving: Whether the arm moves or a command is in transit.
  """

  def __init__(self, *, latency=0.05, drop_rate=0.1, clock=None):
    """Places the gripper at the centre.

    Args:
      latency: Latency of each message in seconds.
      drop_rate: Share of messages that are lost.
      clock: Clock to use; None for the machine's clock.
    """
    self.drop_rate = drop_rate
    self.num_commands = 0
    self._latency = latency
    self._clock = clock or robot_rate.Clock()
    # The watchdog calls `stop` from another thread.
    self._lock = threading.Lock()
    self._begin(np.zeros(2), seed=0)

  def observation_spec(self):
    return specs.Array((4,), np.float32, name='observation')

  def action_spec(self):
    return specs.BoundedArray(
        (2,), np.float32, -_MAX_SPEED, _MAX_SPEED, name='velocity'
    )

  @property
  def is_moving(self):
    with self._lock:
      self._advance()
      return bool(self._commands or np.any(self._velocity))

  def observe(self):
    with self._lock:
      self._advance()
      while self._measured and self._measured[0][0] <= self._clock.now():
        _, self._latest = self._measured.popleft()
      return self._latest

  def command(self, action):
    with self._lock:
      self._advance()
      self.num_commands += 1
      if self._random.uniform() >= self.drop_rate:
        arrival = self._clock.now() + self._latency
        self._commands.append((arrival, np.array(action)))

  def stop(self):
    with self._lock:
      self._advance()
      self._commands.clear()
      self._velocity = np.zeros(2)

  def home(self, random):
    start = random.uniform(-_START_SPREAD, _START_SPREAD, 2)
    with self._lock:
      self._begin(start, seed=random.integers(2**31))

  def _begin(self, position, seed):
    self._random = np.random.default_rng(seed)
    self._position, self._velocity = position, np.zeros(2)
    self._commands = collections.deque()  # (arrival, velocity).
    self._measured = collections.deque()  # (arrival, measurement).
    self._time = self._clock.now()
    self._latest = self._measure()

  def _advance(self):
    """Simulates everything up to the current time."""
    now = self._clock.now()
    while self._time + _PERIOD <= now:
      self._time += _PERIOD
      while self._commands and self._commands[0][0] <= self._time:
        _, self._velocity = self._commands.popleft()
      self._position = np.clip(
          self._position + _PERIOD * self._velocity, -_TABLE, _TABLE
      )
      if self._random.uniform() >= self.drop_rate:
        self._measured.append((self._time + self._latency, self._measure()))

  def _measure(self):
    state = np.concatenate([self._position, self._velocity])
    return arm.Measurement(state.astype(np.float32), self._time)


@gin.configurable
def is_at_goal(observation):
  """Returns whether the gripper is at the goal; a success detector."""
  return bool(np.linalg.norm(observation[:2] - GOAL) <= _GOAL_RADIUS)


@gin.configurable
def stays_on_table(observation, action, seconds=0.5):
  """Returns whether the gripper stays on the table at constant velocity.

  Args:
    observation: `[4]`, the current observation.
    action: `[2]`, velocity in metres per second.
    seconds: Time to look ahead.
  """
  return bool(np.all(np.abs(observation[:2] + seconds * action) <= _TABLE))


@gin.configurable
class Demonstrator(domain.Controller):
  """Moves to the goal to record data. Yours might read a joystick instead."""

  def reset(self, seed):
    del seed  # The controller is deterministic.

  def action(self, time_step, environment):
    del environment
    # Reaches the goal in half a second, in units of [-1, 1].
    velocity = (GOAL - time_step.observation[:2]) / 0.5
    return np.clip(velocity / _MAX_SPEED, -1.0, 1.0).astype(np.float32)
