"""Episodes on a single real robot at a fixed control rate.

Users write the driver, an `arm.Arm`; see `examples/robot`. A step sends an
action, waits for the next tick, reads the observation and checks for success.
The arm is stopped at the end of every episode, and whenever it might be unsafe
to continue.
"""

import contextlib
import os
from typing import Any, Callable, Mapping, Optional, Sequence, Union

from absl import logging
import dm_env
from dm_env import specs
import gin
import numpy as np

from parl_tf import action_range
from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import arm as arm_lib
from parl_tf.domains import arm_lock
from parl_tf.domains import domain
from parl_tf.domains import robot_rate

_PAUSE_SECONDS = 0.1  # Polling interval during a pause.
_NEW_SECONDS = 0.01  # Polling interval for a new measurement.

SuccessDetector = Callable[[types.Nest], bool]
"""Returns whether an observation shows the task solved."""

IsSafe = Callable[[types.Nest, np.ndarray], bool]
"""Returns whether an action `[A]`, in the driver's units, may be sent now."""


@gin.configurable(denylist=['arm', 'max_episode_steps', 'seed'])
class RobotEnvironment(domain.Environment):
  """Runs episodes on an arm.

  The first action defines the first tick, so the time to load a policy does not
  count. Each action is sent immediately. It is late if the tick that should end
  its step has passed. That tick counts as missed, and the next one ends it.

  Attributes:
    raw_action_bounds: `(low [A], high [A])` in the driver's units.
    control_rate: Steps per second.
  """

  def __init__(
      self,
      arm: arm_lib.Arm,
      *,
      max_episode_steps: int,
      seed: int,
      control_rate: float = 5.0,
      success_detector: SuccessDetector = gin.REQUIRED,
      home_delay: float = 0.0,
      reset_hook: Optional[Callable[[], None]] = None,
      is_safe: Optional[IsSafe] = None,
      max_action_change: Union[float, Sequence[float]] = 2.0,
      max_missed_ticks: int = 3,
      max_observation_age: float = 1.0,
      pause_path: Optional[str] = None,
      lock_name: Optional[str] = None,
      clock_ctor: Callable[[], robot_rate.Clock] = robot_rate.Clock,
  ):
    """Initializes the environment without moving the arm.

    Args:
      arm: Driver of the robot.
      max_episode_steps: Steps before the timeout.
      seed: Seed of the initial poses.
      control_rate: Steps per second, in Hz.
      success_detector: Called with every observation. Success ends the episode;
        if the task is already solved after a reset, the episode is lost.
      home_delay: Seconds between the announcement that the arm moves home and
        the motion.
      reset_hook: Called when the arm is home, to arrange the scene; None if
        there is nothing to arrange.
      is_safe: Called with the current observation and each action before it is
        sent; None allows all actions.
      max_action_change: Maximum change of an action dimension between
        consecutive actions of an episode, in units of [-1, 1]: a number, or one
        for each dimension. A larger change is unsafe; 2 allows all. It does not
        limit an episode's first action, of which `is_safe` decides.
      max_missed_ticks: Maximum number of consecutive missed ticks. If more are
        missed, the episode is lost. If the policy or driver hangs, the arm is
        stopped one tick later.
      max_observation_age: Maximum time since the measurement, in seconds. If
        the measurement is older, the episode is lost.
      pause_path: While a file exists at this path, the arm pauses between steps
        and before and after it moves home. None disables the check.
      lock_name: Name of the arm on this computer, which one process moves at a
        time. None allows several, as in simulation.
      clock_ctor: Constructor of the clock.

    Raises:
      ValueError: If an argument is out of range or a spec is invalid.
    """
    arguments.check_range('max_episode_steps', max_episode_steps, 1)
    arguments.check_positive('control_rate', control_rate)
    changes = np.array(max_action_change, np.float32)
    for change in changes.flatten():
      arguments.check_positive('max_action_change', change)
    arguments.check_range('home_delay', home_delay, 0.0)
    arguments.check_range('max_missed_ticks', max_missed_ticks, 0)
    arguments.check_positive('max_observation_age', max_observation_age)
    self._arm = arm
    self.control_rate = control_rate
    self._max_episode_steps = max_episode_steps
    self._succeeds = success_detector
    self._home_delay = home_delay
    self._reset_hook = reset_hook
    self._is_safe = is_safe
    self._max_missed_ticks = max_missed_ticks
    self._max_observation_age = max_observation_age
    self._pause_path = pause_path
    self._lock_name = lock_name
    self._is_stopped = True
    self._clock = clock_ctor()
    self._schedule = robot_rate.Schedule(control_rate, self._clock)
    self._watchdog = robot_rate.Watchdog(
        (max_missed_ticks + 2) / control_rate, arm.stop
    )
    self._observation_spec = arm_lib.checked_observation_spec(arm)
    self.raw_action_bounds = arm_lib.action_bounds(arm)
    self._range = action_range.ActionRange(self.raw_action_bounds)
    shape = self.raw_action_bounds[0].shape
    if changes.shape not in ((), shape):
      raise ValueError(
          '`max_action_change` must be a number, or one for each of the'
          f' {shape[0]} dimensions of an action, got {max_action_change}.'
      )
    self._max_action_change = np.broadcast_to(changes, shape)
    self._observation: types.Nest = None
    self._observation_age = 0.0
    self._previous_action: Optional[np.ndarray] = None
    self._num_steps = 0
    self._is_success = False
    self._needs_reset = True
    self._is_checked = False
    self._stopwatch = robot_rate.Stopwatch(self._clock)
    self._returned = self._clock.now()  # From the last step.
    self.seed(seed)

  def seed(self, seed: int) -> None:
    self._random = np.random.default_rng(seed)

  def is_success(self) -> bool:
    return self._is_success

  def info(self) -> Mapping[str, np.ndarray]:
    """Returns lateness and observation age in seconds, and missed ticks."""
    return {
        'lateness': np.array(self._schedule.lateness, np.float32),
        'missed_ticks': np.array(self._schedule.missed_ticks, np.int32),
        'observation_age': np.array(self._observation_age, np.float32),
    }

  def check(self) -> None:
    """Checks driver, lock and terminal without moving the arm.

    Warns if there is no observation: sensors may need the first motion.

    Raises:
      EOFError: If an operator is to answer, but standard input has ended.
      ValueError: If the observation does not match its spec or has a time in
        the future, or another process moves the arm.
    """
    if self._lock_name is not None:
      arm_lock.check(self._lock_name)
    try:
      self._succeeds(self._observe())
      self._is_checked = True
    except domain.EpisodeLostError as error:
      logging.warning('Robot: the driver could not be checked: %s', error)

  def reset(self) -> dm_env.TimeStep:
    """Moves the arm home, calls the reset hook and starts an episode.

    Raises:
      EpisodeLostError: If the driver's connection is lost, the observation is
        too old or not finite, or the task is already solved.
      ValueError: If the observation does not match its spec or has a time in
        the future, or another process moves the arm.
    """
    if not self._is_stopped:  # A command may hold, also after a failed stop.
      self._stop()
    if self._lock_name is not None:
      self._watchdog.disarm()  # Another program may have the arm by now.
      arm_lock.hold(self._lock_name)
    if not self._is_checked:
      self.check()
    with self._stopped_by_errors():
      self._watchdog.disarm()  # Resets have no time limit.
      self._announce_home()
      self._is_stopped = False
      with arm_lib.lost_connections_named():
        self._arm.home(self._random)
      if self._reset_hook is not None:
        self._reset_hook()
      self._wait_while_paused()
      arranged = self._clock.now()
      self._schedule.begin()
      self._previous_action, self._num_steps = None, 0
      self._is_success = False
      self._observation = self._observe_after(arranged)
      if self._succeeds(self._observation):
        raise domain.EpisodeLostError(
            'The task must not be solved at the start of an episode, but'
            ' `success_detector` reports success. Arrange the scene.'
        )
      self._needs_reset = False
    self._stopwatch.seconds.clear()
    return dm_env.restart(self._observation)

  def _announce_home(self) -> None:
    """Says that the arm moves home, and waits; again after a pause."""
    self._wait_while_paused()
    is_paused = True
    while is_paused:
      logging.info('Robot: moves home in %g s.', self._home_delay)
      self._clock.sleep(self._home_delay)
      is_paused = self._wait_while_paused()

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Sends an action and returns at the next tick.

    An unsafe action is not sent. Instead, the arm is stopped, and the episode
    ends like a timeout, with the observation unchanged. The recorded data shows
    the action as one without effect. An `EpisodeFailedError` ends it, too.

    Raises:
      EpisodeLostError: If the driver's connection is lost, too many ticks were
        missed, or the observation is too old or not finite.
      ValueError: If the action has the wrong shape or is not finite, or the
        observation does not match its spec or has a time in the future.
    """
    if self._needs_reset:
      return self.reset()
    if self._num_steps:  # The first decision has no time limit.
      self._stopwatch.seconds['policy'] = self._clock.now() - self._returned
    with self._stopped_by_errors():
      self._watchdog.arm()  # Monitors the driver.
      action = arguments.check_action(action, self.action_spec().shape)
      action = action.astype(np.float32).clip(-1.0, 1.0)
      was_paused = self._wait_while_paused()  # While the policy decided.
      if was_paused:
        self._watchdog.arm()
      if self._num_steps == 0:
        self._schedule.begin()
      if was_paused or self._num_steps == 0:
        # The first decision has no time limit, and a pause none either, so that
        # `is_safe` needs another observation than the policy's.
        self._observation = self._observe()
      self._check_missed_ticks()
      self._num_steps += 1
      raw_action = self._raw_action(action)
      with self._stopwatch.timed('`is_safe`'):
        danger = self._danger(action, raw_action)
      if danger:
        time_step = self._time_step(is_cut_short=True)
        logging.warning('Action %s was not sent: %s.', raw_action, danger)
        return time_step
      self._check_missed_ticks()  # Do not overrule a stop of the watchdog.
      self._previous_action, self._is_stopped = action, False
      with self._stopwatch.timed('`command`'), arm_lib.lost_connections_named():
        self._arm.command(raw_action)
      self._check_missed_ticks()
      self._schedule.wait()
      if self._wait_while_paused():
        self._watchdog.arm()
      self._observation = self._observe()
      with self._stopwatch.timed('`success_detector`'):
        judged = arm_lib.judge(self._succeeds, self._observation)
      self._is_success, is_given_up = judged
      return self._time_step(is_cut_short=is_given_up)

  def observation_spec(self) -> Any:
    return self._observation_spec

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
        self.raw_action_bounds[0].shape, np.float32, -1.0, 1.0, name='action'
    )

  def abandon(self) -> None:
    """Stops the arm; the next step begins an episode."""
    self._stop()

  def close(self) -> None:
    """Stops the arm."""
    self._stop()

  @contextlib.contextmanager
  def _stopped_by_errors(self):
    """Stops the arm on any exception, including interrupts."""
    try:
      yield
    except BaseException:
      try:
        self._stop()
      except Exception:  # noqa: BLE001 (the error that came first counts)
        logging.exception('Robot: the arm could not be stopped.')
      raise

  def _stop(self) -> None:
    self._needs_reset = True
    self._stop_arm()

  def _stop_arm(self) -> None:
    """Stops the arm; if that fails or hangs, the watchdog tries again."""
    if self._lock_name is not None and not arm_lock.is_held(self._lock_name):
      return  # It would stop the motion of another program.
    with self._watchdog.stopping(), arm_lib.lost_connections_named():
      self._arm.stop()
      self._is_stopped = True

  def _time_step(self, is_cut_short: bool) -> dm_env.TimeStep:
    timed_out = is_cut_short or self._num_steps >= self._max_episode_steps
    is_last = self._is_success or timed_out
    if is_last:
      self._stop()
      logging.info(
          'Robot: %s after %d steps; %d ticks missed, worst lateness %.3f s.',
          'success' if self._is_success else 'no success',
          self._num_steps,
          self._schedule.num_missed_ticks,
          self._schedule.worst_lateness,
      )
    else:
      self._watchdog.arm()  # Monitors the policy.
    done = self._is_success
    self._returned = self._clock.now()
    return domain.make_time_step(
        self._observation, done, is_terminal=done, is_timeout=timed_out
    )

  def _raw_action(self, action: np.ndarray) -> np.ndarray:
    # Rounding may exceed the bounds.
    return self._range.to_raw(action).clip(*self.raw_action_bounds)

  def _danger(self, action: np.ndarray, raw_action: np.ndarray) -> str:
    """Returns why an action is unsafe, or an empty string."""
    if self._previous_action is not None:
      change = np.abs(action - self._previous_action)
      i = int(np.argmax(change - self._max_action_change))
      if change[i] > self._max_action_change[i]:
        return (
            f'it differs by {change[i]:.3f} from the previous action in'
            f' dimension {i} (`max_action_change` is'
            f' {self._max_action_change[i]:g})'
        )
    if self._is_safe is None or self._is_safe(self._observation, raw_action):
      return ''
    return '`is_safe` rejected it'

  def _check_missed_ticks(self) -> None:
    missed = self._schedule.missed_in_a_row()
    if missed > self._max_missed_ticks:
      raise domain.EpisodeLostError(
          f'At most {self._max_missed_ticks} ticks in a row may be missed'
          f' (`max_missed_ticks`), but {missed} were missed in step'
          f' {self._num_steps} of the episode. Lower the control rate, or'
          f' shorten what took long: {self._stopwatch.describe()}.'
      )

  def _wait_while_paused(self) -> bool:
    """Stops the arm while the operator pauses; returns whether it paused."""
    if self._pause_path is None or not os.path.exists(self._pause_path):
      return False
    self._stop_arm()
    logging.info('Robot: paused until %s is removed.', self._pause_path)
    while os.path.exists(self._pause_path):
      self._clock.sleep(_PAUSE_SECONDS)
    logging.info('Robot: resumed.')
    self._schedule.resume()
    return True

  def _observe(self) -> types.Nest:
    """Returns a copy of the latest observation after checking its age."""
    with self._stopwatch.timed('`observe`'):
      observation, time = arm_lib.observe(self._arm, self._observation_spec)
    self._observation_age = arm_lib.checked_age(
        time, self._clock.now(), self._max_observation_age
    )
    return observation

  def _observe_after(self, start: float) -> types.Nest:
    """Waits for an observation that was measured after `start`.

    Raises:
      EpisodeLostError: If there is none until the latest one is too old.
    """
    while True:
      observation = self._observe()
      if self._clock.now() - self._observation_age >= start:
        return observation
      self._clock.sleep(_NEW_SECONDS)
