"""The contract of a task: an environment, its constants and its score.

An environment is a `dm_env.Environment` whose actions lie in [-1, 1]^A. The
end of the task is a LAST step with discount 0, a time-out a LAST step with
discount 1. Rewards are raw: scale and bias are the domain's constants and are
applied where experience is read.
"""

import abc
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple, TypeVar

from absl import logging
import dm_env
from dm_env import specs
import gin
import numpy as np

from parl_tf import types

_MAX_ATTEMPTS = 5

_T = TypeVar('_T')


class EpisodeLostError(ConnectionError):
  """The episode in progress is lost; the next reset begins another one."""


def act_until_kept(act: Callable[[], _T]) -> _T:
  """Returns what `act` returns, which is called anew if an episode is lost.

  Args:
    act: Acts whole episodes, from a reset on.

  Raises:
    EpisodeLostError: If they are lost time after time.
  """
  for _ in range(_MAX_ATTEMPTS - 1):
    try:
      return act()
    except EpisodeLostError as error:
      logging.warning('Acting anew: %s', error)
  return act()


class Environment(dm_env.Environment):
  """A `dm_env.Environment` that can be seeded and tells of success."""

  @abc.abstractmethod
  def seed(self, seed: int) -> None:
    """Makes the next reset draw from `seed`, whatever happened before.

    Resets after it go on from there, repeatably.
    """

  @abc.abstractmethod
  def is_success(self) -> bool:
    """Returns whether the task is solved in the present state."""

  def info(self) -> Mapping[str, np.ndarray]:
    """Returns what a data set keeps of the present state as `infos/<name>`."""
    return {}

  def render(self) -> np.ndarray:
    """Returns a picture of the present state, `[height, width, 3]` uint8."""
    raise NotImplementedError(f'{type(self).__name__} draws no pictures.')

  def reward_spec(self) -> specs.Array:
    return specs.Array(shape=(), dtype=np.float32, name='reward')

  def discount_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
        shape=(), dtype=np.float32, minimum=0.0, maximum=1.0, name='discount'
    )


class Controller(abc.ABC):
  """A scripted policy that may look at the environment's inner state."""

  @abc.abstractmethod
  def reset(self, seed: int) -> None:
    """Begins an episode; all of its draws come from `seed`."""

  @abc.abstractmethod
  def action(
      self, time_step: dm_env.TimeStep, environment: Environment
  ) -> np.ndarray:
    """Returns an action `[A]` float32 in [-1, 1]."""

  def info(self) -> Mapping[str, np.ndarray]:
    """Returns what a data set keeps of the last action as `infos/<name>`."""
    return {}


class Domain(abc.ABC):
  """A task as the rest of the library sees it.

  Attributes:
    reward_scale: Factor on the raw reward.
    reward_bias: Added to the scaled raw reward.
    max_episode_steps: Environment steps after which an episode times out.
    max_environments: Number of environments that there can be, of a robot 1;
      None for any. Where there is one, `make_environment` hands the same
      environments out again, in turn, and whoever acts begins with a reset.
  """

  reward_scale: float = 1.0
  reward_bias: float = 0.0
  max_episode_steps: int
  max_environments: Optional[int] = None

  @abc.abstractmethod
  def make_environment(self, seed: int, evaluation: bool) -> Environment:
    """Makes an environment whose first reset draws from `seed`.

    Args:
      seed: Seed of all its draws.
      evaluation: Whether it scores a policy; else it collects experience.
    """

  def make_controller(self, environment: Environment) -> Optional[Controller]:
    """Makes the controller that solves `environment`, or None."""
    del environment
    return None

  def make_data_environment(self, seed: int) -> Environment:
    """Makes the environment in which a data set is recorded."""
    return self.make_environment(seed, evaluation=False)

  def make_data_controller(
      self, environment: Environment
  ) -> Optional[Controller]:
    """Makes the controller that records a data set, or None."""
    return self.make_controller(environment)

  def make_recorder(self, seed: int) -> Tuple[Environment, Controller]:
    """Makes the environment and the controller that record a data set.

    Args:
      seed: Of the environment.

    Raises:
      ValueError: If the domain has no such controller.
    """
    environment = self.make_data_environment(seed)
    controller = self.make_data_controller(environment)
    if controller is None:
      raise ValueError(
          f'{type(self).__name__} must have a controller to record data with,'
          ' got None.'
      )
    return environment, controller

  @abc.abstractmethod
  def observation_spec(self) -> Any:
    """Returns the spec of the observation: an array or a flat dict of them."""

  @abc.abstractmethod
  def action_spec(self) -> specs.BoundedArray:
    """Returns the float32 spec `[A]` of the action, bounded by -1 and 1."""

  @property
  def raw_action_bounds(self) -> Tuple[np.ndarray, np.ndarray]:
    """The simulator's own `(low, high)` `[A]`, to which [-1, 1] is mapped."""
    spec = self.action_spec()
    return (
        np.broadcast_to(spec.minimum, spec.shape).astype(np.float32),
        np.broadcast_to(spec.maximum, spec.shape).astype(np.float32),
    )

  @property
  def normalization(self) -> Optional[types.Normalization]:
    """Fixed observation statistics; None if the offline data gives them."""
    return None

  def never_succeeds_value(self, gamma: float) -> Optional[float]:
    """Returns the value of never succeeding, or None where it is not known.

    Args:
      gamma: Discount factor in [0, 1).
    """
    del gamma
    return None

  def value_range(self, gamma: float) -> Optional[Tuple[float, float]]:
    """Returns the lowest and the highest return, or None if they are unknown.

    A return is the discounted sum of rewards, scaled and biased, from any step
    on. Critics with a histogram span this range.

    Args:
      gamma: Discount factor in [0, 1).
    """
    del gamma
    return None

  def is_success(self, episode: types.Episode) -> bool:
    """Returns whether the task was solved at any step of the episode."""
    return bool(np.any(episode.success))

  def score(self, episodes: Sequence[types.Episode]) -> float:
    """Returns the score in 0..100; by default the share of successes."""
    if not episodes:
      raise ValueError('`episodes` must not be empty.')
    return 100.0 * float(np.mean([self.is_success(e) for e in episodes]))


@gin.configurable(module='parl_tf')
def select_domain(domain: Domain = gin.REQUIRED) -> Domain:
  """Returns the domain that the gin files of an experiment bind."""
  return domain
