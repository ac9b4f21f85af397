"""Interface of a task: its environment, constants and score.

An environment is a `dm_env.Environment` with actions in [-1, 1]^A. A terminal
step is a LAST step with discount 0; a timeout is a LAST step with discount 1.
Rewards are raw. The domain's reward scale and bias are applied when experience
is read.
"""

import abc
import os
import time
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple, TypeVar

from absl import logging
import dm_env
from dm_env import specs
import gin
import numpy as np

from parl_tf import interruption
from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import goals as goals_lib

LAUNCHED = 'PARL_TF_LAUNCHED'  # Set in all processes of `parl-launch`.
SHARED = (
    'The task has a single environment (`max_environments` is 1), which the'
    ' learner, collectors and the evaluator would all move. Start the service,'
    ' the learner and one collector for each robot by hand, each with a driver'
    ' of its own, as docs/fleet.md describes.'
)
_MAX_ATTEMPTS = 5
_PAUSE_SECONDS = 0.25

_T = TypeVar('_T')


class EpisodeLostError(ConnectionError):
  """The current episode is lost; the next reset starts another one."""


class EpisodeFailedError(EpisodeLostError):
  """The task can no longer be solved in the current episode.

  If a success detector raises it after a step, the episode ends as at its time
  limit and is kept.
  """


def act_until_kept(act: Callable[[], _T]) -> _T:
  """Calls `act` until it loses no episode, and returns its result.

  Args:
    act: Plays whole episodes, starting with a reset.

  Raises:
    EpisodeLostError: If five attempts in a row lose an episode.
  """
  for attempt in range(1, _MAX_ATTEMPTS):
    try:
      return act()
    except EpisodeLostError as error:
      logging.warning('Repeating after a lost episode: %s', error)
      if attempt > 1:  # A fault that lasts.
        time.sleep(_PAUSE_SECONDS * 2**attempt)
  try:
    return act()
  except EpisodeLostError as error:
    raise EpisodeLostError(
        f'{_MAX_ATTEMPTS} episodes in a row were lost. The last one: {error}'
    ) from error


def make_time_step(
    observation: types.Nest,
    reward: float,
    *,
    is_terminal: bool,
    is_timeout: bool,
) -> dm_env.TimeStep:
  """Returns the time step after an action.

  Args:
    observation: Observation after the action.
    reward: Raw reward of the action.
    is_terminal: Whether the action ended the task, which sets the discount to
      0.
    is_timeout: Whether the episode is cut short, such as at its step limit.
  """
  is_last = is_terminal or is_timeout
  return dm_env.TimeStep(
      step_type=dm_env.StepType.LAST if is_last else dm_env.StepType.MID,
      reward=np.float32(reward),
      discount=np.float32(not is_terminal),
      observation=observation,
  )


def mean_over(
    episodes: Sequence[types.Episode],
    quantity: Callable[[types.Episode], float],
) -> float:
  """Returns the mean of a quantity over episodes.

  Raises:
    ValueError: If there are no episodes.
  """
  if not episodes:
    raise ValueError('`episodes` must not be empty.')
  return float(np.mean([quantity(episode) for episode in episodes]))


class Environment(dm_env.Environment):
  """A `dm_env.Environment` that can be seeded and reports success."""

  @abc.abstractmethod
  def seed(self, seed: int) -> None:
    """Seeds the environment: the next reset depends on nothing but `seed`.

    Later resets continue the same random sequence.
    """

  @abc.abstractmethod
  def is_success(self) -> bool:
    """Returns whether the task is solved in the current state."""

  def info(self) -> Mapping[str, np.ndarray]:
    """Returns values of the current state to record as `infos/<name>`."""
    return {}

  def step_info(self) -> Mapping[str, np.ndarray]:
    """Returns values of the last step to record as `infos/<name>`."""
    return {}

  def may_be_recorded(self) -> bool:
    """Returns whether the current episode may be stored in a dataset."""
    return True

  def abandon(self) -> None:
    """Called if nobody will finish the episode; a robot stops here."""

  def check(self) -> None:
    """Raises if no episode can be played; a robot does not move."""

  def render(self) -> np.ndarray:
    """Returns an image of the current state, `[height, width, 3]` uint8."""
    raise NotImplementedError(f'{type(self).__name__} does not render images.')

  def reward_spec(self) -> specs.Array:
    return specs.Array(shape=(), dtype=np.float32, name='reward')

  def discount_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
        shape=(), dtype=np.float32, minimum=0.0, maximum=1.0, name='discount'
    )


class Controller(abc.ABC):
  """A scripted policy that may use the environment's internal state."""

  @abc.abstractmethod
  def reset(self, seed: int) -> None:
    """Starts an episode and seeds all of its random draws."""

  @abc.abstractmethod
  def action(
      self, time_step: dm_env.TimeStep, environment: Environment
  ) -> np.ndarray:
    """Returns an action `[A]` float32 in [-1, 1]."""

  def info(self) -> Mapping[str, np.ndarray]:
    """Returns values of the last action to record as `infos/<name>`."""
    return {}


class Domain(abc.ABC):
  """A task: environments, constants and score.

  Attributes:
    reward_scale: Factor on the raw reward.
    reward_bias: Added to the scaled raw reward.
    max_episode_steps: Environment steps after which an episode times out.
    max_environments: Maximum number of environments, for instance 1 for a
      robot; None for no limit. At the limit, `make_environment` returns the
      existing environments in turn, so every user must start with a reset.
    recorded_task: Index of this task among those of a play dataset, starting
      at 0; None if the domain has no play data.
    ends_at_success: Whether success ends an episode when play is read from a
      dataset.
    extrapolates_returns: Whether the Monte-Carlo return of an episode that the
      time limit ended includes what would have followed, as estimated by the
      episode's mean reward; None if `never_succeeds_value` is unknown. Such a
      return would otherwise rise to 0, above the values that it is to bound
      from below.
  """

  reward_scale: float = 1.0
  reward_bias: float = 0.0
  max_episode_steps: int
  max_environments: Optional[int] = None
  recorded_task: Optional[int] = None
  ends_at_success: bool = True
  extrapolates_returns: Optional[bool] = None

  def _set_constants(
      self, max_episode_steps: int, reward_scale: float, reward_bias: float
  ) -> None:
    """Sets the attributes of these names.

    Raises:
      ValueError: If one is out of range.
    """
    arguments.check_range('max_episode_steps', max_episode_steps, 1)
    arguments.check_positive('reward_scale', reward_scale)
    self.max_episode_steps = max_episode_steps
    self.reward_scale = reward_scale
    self.reward_bias = reward_bias

  @property
  def name(self) -> str:
    """The name of the task in reports."""
    return type(self).__name__

  @property
  def parts(self) -> Sequence['Domain']:
    """This domain and those it contains; their settings define the task."""
    return (self,)

  @abc.abstractmethod
  def make_environment(self, seed: int, evaluation: bool) -> Environment:
    """Makes an environment.

    Args:
      seed: Seed of all random draws, beginning with the first reset.
      evaluation: True for evaluation, False for collecting experience.
    """

  def make_controller(self, environment: Environment) -> Optional[Controller]:
    """Makes a controller that solves `environment`, or returns None."""
    del environment
    return None

  def make_data_environment(self, seed: int) -> Environment:
    """Makes the environment used to record a dataset."""
    return self.make_environment(seed, evaluation=False)

  def make_data_controller(
      self, environment: Environment
  ) -> Optional[Controller]:
    """Makes the controller that records a dataset, or returns None."""
    return self.make_controller(environment)

  def make_play_environment(self, seed: int) -> Optional[Environment]:
    """Makes an environment for play, or returns None.

    Success does not end its episodes, and `step_info` returns the rewards of
    every task; see `parl_tf.domains.play`.

    Args:
      seed: Seed of all random draws, beginning with the first reset.
    """
    del seed
    return None

  def make_play_controller(
      self, environment: Environment
  ) -> Optional[Controller]:
    """Makes the controller that records play, or returns None."""
    del environment
    return None

  def make_recorder(
      self, seed: int, *, play: bool = False
  ) -> Tuple[Environment, Controller]:
    """Makes the environment and the controller that record a dataset.

    Args:
      seed: Seed of the environment.
      play: Whether to play without a goal instead of attempting the task.

    Raises:
      ValueError: If the domain has no such controller.
    """
    environment: Optional[Environment]
    controller = None
    if play:
      environment = self.make_play_environment(seed)
      if environment is not None:
        controller = self.make_play_controller(environment)
    else:
      environment = self.make_data_environment(seed)
      controller = self.make_data_controller(environment)
    if environment is None or controller is None:
      raise ValueError(
          f'{type(self).__name__} must have a controller to record'
          f' {"play" if play else "a dataset"}, got None. To train on a dataset'
          ' that exists, bind `run_experiment.dataset_path`.'
      )
    return environment, controller

  def dataset_options(self) -> Mapping[str, Any]:
    """Returns the options of `datasets.reading` for datasets of this task."""
    return dict(
        observation_spec=self.observation_spec(),
        action_spec=self.action_spec(),
        task=self.recorded_task,
        ends_at_success=self.ends_at_success,
        raw_action_bounds=self.raw_action_bounds,
        reward_range=self.reward_range,
        max_episode_steps=self.max_episode_steps,
    )

  @property
  def reward_range(self) -> Optional[Tuple[float, float]]:
    """Lowest and highest raw reward of an environment step, if declared."""
    return None

  @abc.abstractmethod
  def observation_spec(self) -> Any:
    """Returns the observation spec: an array or a flat dict of arrays."""

  @abc.abstractmethod
  def action_spec(self) -> specs.BoundedArray:
    """Returns the float32 action spec `[A]` with bounds -1 and 1."""

  @property
  def raw_action_bounds(self) -> Tuple[np.ndarray, np.ndarray]:
    """Bounds `(low [A], high [A])` in simulator units; [-1, 1] maps to them."""
    spec = self.action_spec()
    return (
        np.broadcast_to(spec.minimum, spec.shape).astype(np.float32),
        np.broadcast_to(spec.maximum, spec.shape).astype(np.float32),
    )

  @property
  def normalization(self) -> Optional[types.Normalization]:
    """Fixed observation statistics; None to compute them from offline data."""
    return None

  def never_succeeds_value(self, gamma: float) -> Optional[float]:
    """Returns the return of an endless episode without success.

    None if it is unknown. Rewards are scaled and biased.

    Args:
      gamma: Discount factor in [0, 1).
    """
    del gamma
    return None

  def value_range(self, gamma: float) -> Optional[Tuple[float, float]]:
    """Returns the lowest and highest return, or None if they are unknown.

    A return is the discounted sum of scaled and biased rewards from any step
    onwards. The histograms of HL-Gauss critics span this range.

    Args:
      gamma: Discount factor in [0, 1).
    """
    del gamma
    return None

  def goals(self) -> Optional[goals_lib.Goals]:
    """Returns how the task depends on its goal; None if that is unknown."""
    return None

  def is_success(self, episode: types.Episode) -> bool:
    """Returns whether the task was solved at any step of the episode."""
    return bool(np.any(episode.success))

  def score(self, episodes: Sequence[types.Episode]) -> float:
    """Returns a score from 0 to 100; by default the success rate in percent."""
    return 100.0 * mean_over(episodes, self.is_success)


@gin.configurable(module='parl_tf')
def select_domain(domain: Domain = gin.REQUIRED) -> Domain:
  """Returns the domain bound by the experiment's gin files.

  Args:
    domain: The task, such as `@PointMaze()`.

  Raises:
    ValueError: If `parl-launch` started this process, whose other processes
      would share the task's only environment.
  """
  if domain.max_environments == 1 and os.environ.get(LAUNCHED):
    raise ValueError(SHARED)
  if domain.max_environments is not None:
    interruption.take_time()  # It may be a robot, which has to stop first.
  return domain
