"""A task with a deadline: success counts only before a fixed number of steps.

With a reward of -1 per step, a critic that bootstraps at timeouts values speed,
and a failure costs only the time of another attempt. A policy that is improved
by such a critic may trade reliability for speed until it misses the time limit
more often than before. Here the time limit is part of the task, as in Pardo et
al. (2018, arXiv:1712.00378), "Time Limits in Reinforcement Learning": the
observation contains the remaining time, and the deadline ends the task. The raw
reward is 1 at success and 0 elsewhere, so that without discounting the value of
a state is the probability of success before the deadline.
"""

from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple

import dm_env
from dm_env import specs
import gin
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import domain as domain_lib
from parl_tf.domains import value_ranges

_TIME_LEFT = 'time_left'


class DeadlineEnvironment(domain_lib.Environment):
  """Adds the remaining time to observations; ends at success or the deadline.

  The remaining time is a fraction: 1 at the start, 0 at the deadline.
  """

  def __init__(self, environment: domain_lib.Environment, num_steps: int):
    """Takes ownership of `environment`.

    Args:
      environment: Environment of the task without a deadline.
      num_steps: Environment steps until the deadline.
    """
    self._environment = environment
    self._num_steps = num_steps
    self._steps_left = 0
    self._needs_reset = True

  @property
  def unwrapped(self) -> domain_lib.Environment:
    """The environment without a deadline."""
    return self._environment

  def seed(self, seed: int) -> None:
    self._environment.seed(seed)

  def reset(self) -> dm_env.TimeStep:
    self._steps_left = self._num_steps
    self._needs_reset = False
    return self._convert(self._environment.reset())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    if self._needs_reset:
      return self.reset()
    time_step = self._environment.step(action)
    self._steps_left -= 1
    is_success = self.is_success()
    is_terminal = (
        is_success
        or self._steps_left == 0
        or (time_step.last() and time_step.discount == 0.0)
    )
    self._needs_reset = is_terminal or time_step.last()
    return domain_lib.make_time_step(
        self._convert(time_step).observation,
        float(is_success),
        is_terminal=is_terminal,
        is_timeout=time_step.last(),
    )

  def is_success(self) -> bool:
    return self._environment.is_success()

  def info(self) -> Mapping[str, np.ndarray]:
    return self._environment.info()

  def step_info(self) -> Mapping[str, np.ndarray]:
    return self._environment.step_info()

  def may_be_recorded(self) -> bool:
    return self._environment.may_be_recorded()

  def observation_spec(self) -> Any:
    return _extended_spec(self._environment.observation_spec())

  def action_spec(self) -> specs.BoundedArray:
    return self._environment.action_spec()

  def render(self) -> np.ndarray:
    return self._environment.render()

  def close(self) -> None:
    self._environment.close()

  def _convert(self, time_step: dm_env.TimeStep) -> dm_env.TimeStep:
    time_left = np.float32(self._steps_left / self._num_steps)
    return time_step._replace(
        observation=_extend(time_step.observation, time_left)
    )


class _DeadlineController(domain_lib.Controller):
  """A controller of the task without a deadline."""

  def __init__(self, controller: domain_lib.Controller):
    self._controller = controller

  def reset(self, seed: int) -> None:
    self._controller.reset(seed)

  def action(
      self, time_step: dm_env.TimeStep, environment: DeadlineEnvironment
  ) -> np.ndarray:
    observation = _strip(time_step.observation)
    return self._controller.action(
        time_step._replace(observation=observation), environment.unwrapped
    )

  def info(self) -> Mapping[str, np.ndarray]:
    return self._controller.info()


@gin.configurable
class Deadline(domain_lib.Domain):
  """Another domain whose time limit is a deadline.

  Datasets are recorded and read as those of the other domain. What the data did
  does not depend on a deadline, so each episode of a dataset counts as several,
  with deadlines at different steps.
  """

  def __init__(
      self,
      domain: domain_lib.Domain = gin.REQUIRED,
      *,
      num_countdowns: int = 4,
      reward_scale: float = 1.0,
  ):
    """Initializes the task.

    Args:
      domain: The task. Its `max_episode_steps` is the deadline.
      num_countdowns: Number of copies of a dataset. Their deadlines are evenly
        shifted, so that a step occurs with so many remaining times.
      reward_scale: Value of a success. The steps of gradient ascent on the
        critic are proportional to it.

    Raises:
      ValueError: If `num_countdowns` is not between 1 and the deadline, or
        `reward_scale` is not positive.
    """
    arguments.check_range(
        'num_countdowns', num_countdowns, 1, domain.max_episode_steps
    )
    self._set_constants(domain.max_episode_steps, reward_scale, 0.0)
    self._domain = domain
    self._num_countdowns = num_countdowns
    self.max_environments = domain.max_environments
    self.recorded_task = domain.recorded_task

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> DeadlineEnvironment:
    return DeadlineEnvironment(
        self._domain.make_environment(seed, evaluation), self.max_episode_steps
    )

  def make_controller(
      self, environment: DeadlineEnvironment
  ) -> Optional[domain_lib.Controller]:
    controller = self._domain.make_controller(environment.unwrapped)
    return controller and _DeadlineController(controller)

  def make_recorder(
      self, seed: int, *, play: bool = False
  ) -> Tuple[domain_lib.Environment, domain_lib.Controller]:
    return self._domain.make_recorder(seed, play=play)

  def dataset_options(self) -> Dict[str, Any]:
    return {**self._domain.dataset_options(), 'ends_at_success': True}

  def convert_episodes(
      self, episodes: Iterable[types.Episode]
  ) -> Iterator[types.Episode]:
    """Divides episodes at deadlines, once for each countdown."""
    number = 0
    for episode in self._domain.convert_episodes(episodes):
      for countdown in range(self._num_countdowns):
        passed = countdown * self.max_episode_steps // self._num_countdowns
        for piece in _pieces(episode, self.max_episode_steps, passed):
          yield piece._replace(episode_id=number)
          number += 1

  def observation_spec(self) -> Any:
    return _extended_spec(self._domain.observation_spec())

  def action_spec(self) -> specs.BoundedArray:
    return self._domain.action_spec()

  @property
  def raw_action_bounds(self) -> Tuple[np.ndarray, np.ndarray]:
    return self._domain.raw_action_bounds

  @property
  def normalization(self) -> Optional[types.Normalization]:
    normalization = self._domain.normalization
    if normalization is None:
      return None
    # Mean and standard deviation of uniformly distributed remaining times.
    return types.Normalization(
        _extend(normalization.mean, np.float32(0.5)),
        _extend(normalization.standard_deviation, np.float32(12.0**-0.5)),
    )

  def never_succeeds_value(self, gamma: float) -> float:
    del gamma
    return 0.0

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.until_success(self.reward_scale, 0.0, gamma)


def _pieces(
    episode: types.Episode, num_steps: int, passed: int
) -> Iterator[types.Episode]:
  """Divides an episode at deadlines.

  Args:
    episode: Episode that success ends, of T steps.
    num_steps: Steps between deadlines.
    passed: Steps of the first countdown that passed before the episode, less
      than `num_steps`.
  """
  ends = np.arange(num_steps - passed, episode.num_steps, num_steps)
  start = 0
  for end in [*ends, episode.num_steps]:
    steps = slice(start, end)
    steps_left = num_steps - passed - np.arange(end - start + 1)
    is_last_piece = end == episode.num_steps
    discount = episode.discount[steps].copy()
    if steps_left[-1] == 0:
      discount[-1] = 0.0
    success = episode.success[steps]
    yield episode._replace(
        observation=_extend(
            tree.map_structure(
                lambda x: x[start : end + 1], episode.observation  # pylint: disable=cell-var-from-loop
            ),
            (steps_left / num_steps).astype(np.float32),
        ),
        action=episode.action[steps],
        reward=success.astype(np.float32),
        discount=np.where(success, 0.0, discount).astype(np.float32),
        success=success,
        has_last_transition=(
            not is_last_piece
            or episode.has_last_transition
            or discount[-1] == 0.0
        ),
    )
    start, passed = end, 0


def _extended_spec(spec: Any) -> Any:
  """Returns the observation spec with the remaining time."""
  if isinstance(spec, Mapping):
    return {**spec, _TIME_LEFT: specs.Array((1,), np.float32, _TIME_LEFT)}
  if len(spec.shape) != 1:
    raise ValueError(
        'A deadline needs an observation with one axis, or a dict of arrays;'
        f' got shape {spec.shape}.'
    )
  return specs.Array((spec.shape[0] + 1,), spec.dtype, spec.name)


def _extend(observation: types.Nest, time_left: np.ndarray) -> types.Nest:
  """Appends the remaining time, `[...]`, to an observation `[..., D]`."""
  time_left = np.asarray(time_left, np.float32)[..., None]
  if isinstance(observation, Mapping):
    return {**observation, _TIME_LEFT: time_left}
  return np.concatenate([observation, time_left], axis=-1)


def _strip(observation: types.Nest) -> types.Nest:
  """Removes the remaining time."""
  if isinstance(observation, Mapping):
    return {k: v for k, v in observation.items() if k != _TIME_LEFT}
  return observation[..., :-1]
