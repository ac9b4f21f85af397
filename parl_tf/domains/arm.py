"""What a robot's driver must do for `robot.Robot`, and checks that it does."""

import abc
from typing import Any, NamedTuple, Tuple

from dm_env import specs
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import domain


class Measurement(NamedTuple):
  """What the sensors saw last.

  Attributes:
    observation: Array or flat dict of arrays, as `Arm.observation_spec` says.
    time: When it was measured, in seconds of `time.monotonic`; of parts that
      were measured apart, the earliest.
  """

  observation: types.Nest
  time: float


class Arm(abc.ABC):
  """A robot and its sensors; there is one object of it.

  Made without arguments, or with what gin binds. All that it raises stops the
  arm; a `domain.EpisodeLostError` has the episode acted anew, anything else
  ends the run.
  """

  @abc.abstractmethod
  def observation_spec(self) -> Any:
    """Returns the spec of the observation: an array or a flat dict of them.

    Numbers are float32, pictures uint8.
    """

  @abc.abstractmethod
  def action_spec(self) -> specs.BoundedArray:
    """Returns the spec `[A]` of an action, with bounds in the driver's units.

    [-1, 1] is mapped to them.
    """

  @abc.abstractmethod
  def observe(self) -> Measurement:
    """Returns the latest measurement, at once, even if it is an old one."""

  @abc.abstractmethod
  def command(self, action: np.ndarray) -> None:
    """Sends an action and returns at once, without waiting for the motion.

    It holds until the next one or `stop`. A program that is killed sends
    neither: a robot that goes on moving by itself needs a driver that stops it
    when no command comes.

    Args:
      action: `[A]` in the driver's units, within the bounds.
    """

  @abc.abstractmethod
  def stop(self) -> None:
    """Ends all motion, at once; the next command or `home` may begin another.

    It may be called at any time, more than once, and from another thread.
    """

  @abc.abstractmethod
  def home(self, random: np.random.Generator) -> None:
    """Moves to where an episode begins; returns when the arm stands there.

    Args:
      random: Where the start is to vary, what it is drawn with.
    """


def checked_observation_spec(arm: Arm) -> Any:
  """Returns the spec of an arm's observation.

  Raises:
    ValueError: If a part is neither float32 nor uint8.
  """
  spec = arm.observation_spec()
  for part in tree.flatten(spec):
    if part.dtype not in (np.float32, np.uint8):
      raise ValueError(
          '`Arm.observation_spec` must have parts of float32 or uint8, got'
          f' {part}.'
      )
  return spec


def action_bounds(arm: Arm) -> Tuple[np.ndarray, np.ndarray]:
  """Returns `(low [A], high [A])` of an arm's actions.

  Raises:
    ValueError: If they have several axes or a bound is not finite.
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


def checked_observation(observation: types.Nest, spec: Any) -> types.Nest:
  """Returns a copy of an observation.

  Args:
    observation: What an arm measured.
    spec: What its spec says.

  Raises:
    EpisodeLostError: If it is not finite, for sensors fail so for a moment.
    ValueError: If a shape or dtype is not that of the spec.
  """
  return tree.map_structure(_checked_part, spec, observation)


def _checked_part(spec: specs.Array, value: Any) -> np.ndarray:
  value = np.array(value)
  if value.shape != spec.shape or value.dtype != spec.dtype:
    raise ValueError(
        f'`Arm.observe` must return `{spec.name}` with shape {spec.shape} and'
        f' {spec.dtype}, got {value.shape} and {value.dtype}.'
    )
  if not np.all(np.isfinite(value)):
    raise domain.EpisodeLostError(
        f'An observation must be finite, got {value} as `{spec.name}`.'
    )
  return value
