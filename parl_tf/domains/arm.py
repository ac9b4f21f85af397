"""Interface of a robot driver for `robot.Robot`, and its validation."""

import abc
import contextlib
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Tuple

from absl import logging
from dm_env import specs
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import domain


class Measurement(NamedTuple):
  """The latest sensor reading.

  Attributes:
    observation: Array or flat dict of arrays that matches
      `Arm.observation_spec`.
    time: Time of the measurement, in seconds of `time.monotonic`. If parts were
      measured at different times, the earliest one.
  """

  observation: types.Nest
  time: float


class Arm(abc.ABC):
  """A robot and its sensors; a process creates one instance.

  The constructor takes no arguments except those bound by gin. Programs that
  read only the specs construct an instance, too, so that it should connect to
  the robot no earlier than in the first `observe`, `home` or `stop`. Its
  threads must be daemons. Any exception raised by a method stops the arm. After
  a `ConnectionError`, a `TimeoutError` or a `domain.EpisodeLostError`, the
  episode is repeated, which moves the arm home; any other exception ends the
  run. Raise one of the latter while an emergency stop holds the arm.
  """

  @abc.abstractmethod
  def observation_spec(self) -> Any:
    """Returns the observation spec: an array or a flat dict of arrays.

    Numbers are float32, images uint8.
    """

  @abc.abstractmethod
  def action_spec(self) -> specs.BoundedArray:
    """Returns the spec `[A]` of an action, with bounds in the driver's units.

    The library maps [-1, 1] to these bounds.
    """

  @abc.abstractmethod
  def observe(self) -> Measurement:
    """Returns the latest measurement without waiting for a new one."""

  @abc.abstractmethod
  def command(self, action: np.ndarray) -> None:
    """Sends an action and returns without waiting for the motion.

    The command holds until the next one or `stop`. A killed process sends
    neither, so the driver of a robot that keeps moving on its own must stop it
    when no commands arrive.

    Args:
      action: `[A]` in the driver's units, within the bounds.
    """

  @abc.abstractmethod
  def stop(self) -> None:
    """Stops all motion immediately, until the next `command` or `home`.

    May be called at any time, repeatedly, and from another thread.
    """

  @abc.abstractmethod
  def home(self, random: np.random.Generator) -> None:
    """Moves to the initial pose and returns when the arm has reached it.

    Args:
      random: Generator for random initial poses.
    """


def checked_observation_spec(arm: Arm) -> Any:
  """Returns the validated observation spec of an arm.

  Raises:
    ValueError: If an array is neither float32 nor uint8.
  """
  spec = arm.observation_spec()
  for part in tree.flatten(spec):
    if part.dtype not in (np.float32, np.uint8):
      raise ValueError(
          '`Arm.observation_spec` must have only float32 and uint8 arrays, got'
          f' {part}.'
      )
  return spec


def action_bounds(arm: Arm) -> Tuple[np.ndarray, np.ndarray]:
  """Returns the validated action bounds `(low [A], high [A])` of an arm.

  Raises:
    ValueError: If the spec does not have exactly one axis, a bound is not
      finite, or a minimum is not below its maximum.
  """
  spec = arm.action_spec()
  if isinstance(spec, specs.BoundedArray) and len(spec.shape) == 1:
    low, high = (
        np.broadcast_to(bound, spec.shape).astype(np.float32)
        for bound in (spec.minimum, spec.maximum)
    )
    if np.all(np.isfinite([low, high])) and np.all(low < high):
      return low, high
  raise ValueError(
      '`Arm.action_spec` must have one axis and finite bounds, minimum below'
      f' maximum, got {spec}.'
  )


@contextlib.contextmanager
def lost_connections_named() -> Iterator[None]:
  """Turns errors of a driver's connection into lost episodes.

  Raises:
    EpisodeLostError: For a `ConnectionError` or `TimeoutError`.
  """
  try:
    yield
  except domain.EpisodeLostError:
    raise
  except (ConnectionError, TimeoutError) as error:
    raise domain.EpisodeLostError(
        f'The driver lost its connection: {error!r}'
    ) from error


def judge(
    detect: Callable[[types.Nest], bool], observation: types.Nest
) -> Tuple[bool, bool]:
  """Returns whether the task is solved, and whether it was given up.

  Args:
    detect: The success detector.
    observation: Observation after a step.
  """
  try:
    return bool(detect(observation)), False
  except domain.EpisodeFailedError as error:
    logging.info('Robot: %s', error)
    return False, True


def observe(arm: Arm, spec: Any) -> Measurement:
  """Returns a copy of an arm's measurement after checking it.

  Args:
    arm: The driver.
    spec: Spec of the observation.

  Raises:
    EpisodeLostError: If the driver's connection is lost, or a value is not
      finite; sensors can fail temporarily.
    ValueError: If it is no `Measurement`, or the structure, a shape or a dtype
      does not match the spec.
  """
  with lost_connections_named():
    measured = arm.observe()
  if not isinstance(measured, Measurement):
    raise ValueError(
        '`Arm.observe` must return a `Measurement`, got'
        f' {type(measured).__name__}.'
    )
  observation = measured.observation
  try:
    tree.assert_same_structure(spec, observation)
  except (TypeError, ValueError) as error:
    wanted, got = (
        sorted(x) if isinstance(x, Mapping) else type(x).__name__
        for x in (spec, observation)
    )
    raise ValueError(
        '`Arm.observe` must return an observation with the structure of'
        f' `observation_spec`, {wanted}, got {got}.'
    ) from error
  checked = tree.map_structure(_checked_part, spec, observation)
  return measured._replace(observation=checked)


def checked_age(time: float, now: float, max_age: float) -> float:
  """Returns the age of a measurement, in seconds.

  Raises:
    EpisodeLostError: If it is older than `max_age`.
    ValueError: If its time is in the future.
  """
  age = now - time
  if age < 0.0:
    raise ValueError(
        '`Measurement.time` must be a time of `time.monotonic` that is not in'
        f' the future, got {time} at {now}.'
    )
  if age > max_age:
    raise domain.EpisodeLostError(
        f'An observation may be at most {max_age:g} s old'
        f' (`max_observation_age`), got {age:.3f} s.'
    )
  return age


def _checked_part(spec: specs.Array, value: Any) -> np.ndarray:
  value = np.array(value)
  if value.shape != spec.shape or value.dtype != spec.dtype:
    raise ValueError(
        f'`Arm.observe` must return `{spec.name}` with shape {spec.shape} and'
        f' {spec.dtype}, got {value.shape} and {value.dtype}.'
    )
  if not np.all(np.isfinite(value)):
    raise domain.EpisodeLostError(
        f'An observation must be finite, got {value} for `{spec.name}`.'
    )
  return value
