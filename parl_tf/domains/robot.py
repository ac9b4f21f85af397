"""A robot at a fixed control rate: episodes on the one arm there is.

A user writes the driver, an `arm.Arm`; `examples/robot` shows how. A step sends
an action, waits for the next tick, reads the observation and asks whether the
task is solved. The arm is stopped at the end of every episode, and whenever it
is not known to be safe.
"""

import contextlib
import os
from typing import Any, Callable, Mapping, Optional, Tuple

from absl import logging
import dm_env
from dm_env import specs
import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import arm as arm_lib
from parl_tf.domains import domain
from parl_tf.domains import robot_rate
from parl_tf.domains import value_ranges

_PAUSE_SECONDS = 0.1  # Between looks whether a pause is over.

SuccessDetector = Callable[[types.Nest], bool]
"""Tells by an observation whether the task is solved."""

IsSafe = Callable[[types.Nest, np.ndarray], bool]
"""Tells whether an action `[A]`, in the driver's units, may be sent now."""


@gin.configurable(denylist=['arm', 'max_episode_steps', 'seed'])
class RobotEnvironment(domain.Environment):
  """Episodes of an arm.

  The first tick is that of the first action: how long a policy takes to be
  loaded does not count. An action is sent as soon as it is given; it is late
  where the tick that ends its step has passed. That tick is then missed, and
  the step ends at the next one of the grid.

  Attributes:
    raw_action_bounds: `(low [A], high [A])` in the driver's units.
  """

  def __init__(
      self,
      arm: arm_lib.Arm,
      *,
      max_episode_steps: int,
      seed: int,
      control_rate: float = 5.0,
      success_detector: SuccessDetector = gin.REQUIRED,
      reset_hook: Optional[Callable[[], None]] = None,
      is_safe: Optional[IsSafe] = None,
      max_action_change: float = 2.0,
      max_missed_ticks: int = 3,
      max_observation_age: float = 1.0,
      pause_path: Optional[str] = None,
      clock_ctor: Callable[[], robot_rate.Clock] = robot_rate.Clock,
  ):
    """Takes the arm, which does not move before the first reset.

    Args:
      arm: The robot.
      max_episode_steps: Steps until the time-out.
      seed: Seed of the starts.
      control_rate: Steps a second, in Hz.
      success_detector: Called with every observation; a success ends the
        episode, and is an error where an episode begins.
      reset_hook: Called when the arm is home, to arrange the scene; None where
        nothing need be done.
      is_safe: Called with the present observation and each action before it is
        sent; None allows all.
      max_action_change: Largest change of a dimension from one action of an
        episode to the next, in units of [-1, 1]; 2 allows all. A larger one is
        unsafe.
      max_missed_ticks: Ticks that may be missed one after another; with more
        the episode is lost. A policy or driver that hangs has the arm stopped
        one tick after that.
      max_observation_age: Seconds since the measurement; the episode is lost
        with an older one.
      pause_path: While there is a file at this path, the arm stands still
        between two steps, and before and after it goes home; None never looks.
      clock_ctor: Makes what tells the time.

    Raises:
      ValueError: If an argument is out of range or a spec not what it must be.
    """
    arguments.check_range('max_episode_steps', max_episode_steps, 1)
    arguments.check_positive('control_rate', control_rate)
    arguments.check_positive('max_action_change', max_action_change)
    arguments.check_range('max_missed_ticks', max_missed_ticks, 0)
    arguments.check_positive('max_observation_age', max_observation_age)
    self._arm = arm
    self._max_episode_steps = max_episode_steps
    self._succeeds = success_detector
    self._reset_hook = reset_hook
    self._is_safe = is_safe
    self._max_action_change = max_action_change
    self._max_missed_ticks = max_missed_ticks
    self._max_observation_age = max_observation_age
    self._pause_path = pause_path
    self._clock = clock_ctor()
    self._schedule = robot_rate.Schedule(control_rate, self._clock)
    self._watchdog = robot_rate.Watchdog(
        (max_missed_ticks + 2) / control_rate, arm.stop
    )
    self._observation_spec = arm_lib.checked_observation_spec(arm)
    self.raw_action_bounds = arm_lib.action_bounds(arm)
    self._observation: types.Nest = None
    self._observation_age = 0.0
    self._previous_action: Optional[np.ndarray] = None
    self._num_steps = 0
    self._is_success = False
    self._needs_reset = True
    self.seed(seed)

  def seed(self, seed: int) -> None:
    self._random = np.random.default_rng(seed)

  def is_success(self) -> bool:
    return self._is_success

  def info(self) -> Mapping[str, np.ndarray]:
    """Returns lateness, age (both in seconds) and missed ticks of the step."""
    return {
        'lateness': np.float32(self._schedule.lateness),
        'missed_ticks': np.int32(self._schedule.missed_ticks),
        'observation_age': np.float32(self._observation_age),
    }

  def reset(self) -> dm_env.TimeStep:
    """Moves the arm home, has the scene arranged and begins an episode.

    Raises:
      EpisodeLostError: If the observation is too old or not finite, or the task
        is solved already.
    """
    with self._stopped_by_errors():
      self._watchdog.disarm()  # Resets take as long as they take.
      self._wait_while_paused()
      self._arm.home(self._random)
      if self._reset_hook is not None:
        self._reset_hook()
      self._wait_while_paused()
      self._schedule.begin()
      self._previous_action = None
      self._num_steps = 0
      self._is_success = False
      self._observation = self._observe()
      if self._succeeds(self._observation):
        raise domain.EpisodeLostError(
            'The task must not be solved where an episode begins, but'
            ' `success_detector` says that it is: arrange the scene.'
        )
      self._needs_reset = False
    return dm_env.restart(self._observation)

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Sends an action and returns at the next tick.

    An unsafe action is not sent: the arm is stopped, and the episode ends as by
    a time-out, with the observation that there was. To who learns from it such
    an action does nothing.

    Raises:
      EpisodeLostError: If too many ticks were missed, or the observation is too
        old or not finite.
      ValueError: If the action has the wrong shape or is not finite.
    """
    if self._needs_reset:
      return self.reset()
    with self._stopped_by_errors():
      self._watchdog.arm()  # For the driver.
      action = arguments.check_action(action, self.action_spec().shape)
      action = action.astype(np.float32).clip(-1.0, 1.0)
      if self._num_steps == 0:
        self._schedule.begin()
      self._check_missed_ticks()
      self._num_steps += 1
      raw_action = self._raw_action(action)
      danger = self._danger(action, raw_action)
      if danger:
        time_step = self._time_step(is_cut_short=True)
        logging.warning('The action %s was not sent: %s.', raw_action, danger)
        return time_step
      self._previous_action = action
      self._arm.command(raw_action)
      self._check_missed_ticks()
      self._schedule.wait()
      if self._wait_while_paused():
        self._watchdog.arm()
      self._observation = self._observe()
      self._is_success = bool(self._succeeds(self._observation))
      return self._time_step(is_cut_short=False)

  def observation_spec(self) -> Any:
    return self._observation_spec

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
        self.raw_action_bounds[0].shape, np.float32, -1.0, 1.0, name='action'
    )

  def close(self) -> None:
    """Stops the arm."""
    self._stop()

  @contextlib.contextmanager
  def _stopped_by_errors(self):
    """Stops the arm when anything is raised, an interrupt included."""
    try:
      yield
    except BaseException:
      self._stop()
      raise

  def _stop(self) -> None:
    self._needs_reset = True
    self._watchdog.disarm()
    self._arm.stop()

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
      self._watchdog.arm()  # For the policy.
    return dm_env.TimeStep(
        step_type=dm_env.StepType.LAST if is_last else dm_env.StepType.MID,
        reward=np.float32(self._is_success),
        discount=np.float32(not self._is_success),
        observation=self._observation,
    )

  def _raw_action(self, action: np.ndarray) -> np.ndarray:
    low, high = self.raw_action_bounds
    # Rounding must not lead beyond a bound.
    return (low + (action + 1.0) / 2.0 * (high - low)).clip(low, high)

  def _danger(self, action: np.ndarray, raw_action: np.ndarray) -> str:
    """Returns what is unsafe about an action, or nothing."""
    if self._previous_action is not None:
      change = float(np.max(np.abs(action - self._previous_action)))
      if change > self._max_action_change:
        return (
            f'it differs by {change:.3f} from the one before'
            f' (`max_action_change` {self._max_action_change:g})'
        )
    if self._is_safe is None or self._is_safe(self._observation, raw_action):
      return ''
    return '`is_safe` refuses it'

  def _check_missed_ticks(self) -> None:
    missed = self._schedule.missed_in_a_row()
    if missed > self._max_missed_ticks:
      raise domain.EpisodeLostError(
          f'At most {self._max_missed_ticks} ticks in a row may be missed'
          f' (`max_missed_ticks`), but {missed} were, in step'
          f' {self._num_steps} of the episode.'
      )

  def _wait_while_paused(self) -> bool:
    """Stands still as long as the operator wants; returns whether it did."""
    if self._pause_path is None or not os.path.exists(self._pause_path):
      return False
    self._watchdog.disarm()
    self._arm.stop()
    logging.info('Robot: paused until %s is removed.', self._pause_path)
    while os.path.exists(self._pause_path):
      self._clock.sleep(_PAUSE_SECONDS)
    logging.info('Robot: goes on.')
    self._schedule.resume()
    return True

  def _observe(self) -> types.Nest:
    """Returns a copy of the latest observation, which is none too old."""
    observation, time = self._arm.observe()
    self._observation_age = self._clock.now() - time
    if self._observation_age < 0.0:
      raise ValueError(
          '`Measurement.time` must be of `time.monotonic` and not in the'
          f' future, got {time} at {self._clock.now()}.'
      )
    if self._observation_age > self._max_observation_age:
      raise domain.EpisodeLostError(
          'An observation may be at most'
          f' {self._max_observation_age:g} s old (`max_observation_age`), got'
          f' {self._observation_age:.3f} s.'
      )
    return arm_lib.checked_observation(observation, self._observation_spec)


@gin.configurable
class Robot(domain.Domain):
  """A task of a robot: reward 1 at success, else 0; the paper's bias is -1."""

  max_environments = 1

  def __init__(
      self,
      arm_ctor: Callable[[], arm_lib.Arm] = gin.REQUIRED,
      *,
      controller_ctor: Optional[Callable[[], domain.Controller]] = None,
      max_episode_steps: int = 200,
      reward_scale: float = 1.0,
      reward_bias: float = -1.0,
  ):
    """Makes the arm.

    Args:
      arm_ctor: Makes the driver.
      controller_ctor: Makes the controller, a script or a person's device, that
        records a data set; None where the data is there.
      max_episode_steps: Steps until the time-out.
      reward_scale: Factor on the raw reward.
      reward_bias: Added to the scaled reward.

    Raises:
      ValueError: If an argument is out of range or a spec not what it must be.
    """
    arguments.check_positive('reward_scale', reward_scale)
    self.reward_scale = reward_scale
    self.reward_bias = reward_bias
    self.max_episode_steps = max_episode_steps
    self._controller_ctor = controller_ctor
    self._environment = RobotEnvironment(
        arm_ctor(), max_episode_steps=max_episode_steps, seed=0
    )

  def make_environment(self, seed: int, evaluation: bool) -> RobotEnvironment:
    """Returns the one environment, whose next reset draws from `seed`."""
    del evaluation  # There is one robot.
    self._environment.seed(seed)
    return self._environment

  def make_data_controller(
      self, environment: RobotEnvironment
  ) -> Optional[domain.Controller]:
    del environment  # It is given to each decision.
    return self._controller_ctor and self._controller_ctor()

  def observation_spec(self) -> Any:
    return self._environment.observation_spec()

  def action_spec(self) -> specs.BoundedArray:
    return self._environment.action_spec()

  @property
  def raw_action_bounds(self) -> Tuple[np.ndarray, np.ndarray]:
    return self._environment.raw_action_bounds

  def never_succeeds_value(self, gamma: float) -> float:
    """Returns the bias summed for ever, as the raw reward stays 0."""
    return self.reward_bias / (1.0 - gamma)

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.until_success(
        self.reward_scale, self.reward_bias, gamma
    )
