"""Any task registered with gymnasium, selected by its id."""

import difflib
import functools
import math
from typing import (
    Any,
    Callable,
    Dict,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import gin
import gymnasium
import numpy as np

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import goals as goals_lib
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import gymnasium_goals
from parl_tf.domains import scores
from parl_tf.domains import success
from parl_tf.domains import value_ranges


@gin.configurable
class Gymnasium(gymnasium_adapter.GymnasiumDomain):
  """A registered environment with an optional data controller.

  Actions must be a one-axis bounded box, and observations an array or a flat
  dict of arrays, see `GymnasiumEnvironment`, or arrays that are flattened to
  one, which may be nested. Without a controller, the offline
  data must come from a file.
  """

  # Many tasks of gymnasium go on after success, until their time limit, so that
  # a return that ends there says little about a step shortly before.
  extrapolates_returns = True

  def __init__(
      self,
      id: str = gin.REQUIRED,
      *,
      kwargs: Optional[Mapping[str, Any]] = None,
      observation_keys: Optional[Sequence[str]] = None,
      flatten_observation: bool = False,
      max_episode_steps: Optional[int] = None,
      action_repeat: int = 1,
      reward_scale: float = 1.0,
      reward_bias: float = 0.0,
      reward_range: Optional[Tuple[float, float]] = None,
      is_sparse: bool = False,
      success_key: Union[str, Sequence[str], None] = success.KEYS,
      success_reward: float = 0.0,
      score_returns: Optional[Tuple[float, float]] = None,
      controller_ctor: Optional[Callable[[], domain.Controller]] = None,
  ):
    """Creates the task once to read its specs.

    Args:
      id: Id for `gymnasium.make`. `module:id` imports the module that registers
        the task.
      kwargs: Further arguments of `gymnasium.make`.
      observation_keys: Parts of a dict observation to keep; None keeps all.
      flatten_observation: Whether to concatenate the parts, in the order of
        `observation_keys` or else of the task's observation space, to one
        array. A dataset may have the array or the parts.
      max_episode_steps: Environment steps, after `action_repeat`, before the
        timeout; None for the registered limit.
      action_repeat: Number of task steps for which each action is repeated.
        Their rewards are summed.
      reward_scale: Factor on the raw reward.
      reward_bias: Added to the scaled reward.
      reward_range: Lowest and highest raw reward of a task step, which
        determine the value range; None if unknown.
      is_sparse: Whether each step without success has the lowest reward. Cal-QL
        then values an episode without success as an infinite one. Requires
        that this reward is negative after scale and bias, and that episodes end
        only at the time limit or with success, which need not end them.
      success_key: Entry of `info` that is true on success, or several, of which
        the first present one counts; None to use the reward.
      success_reward: If `success_key` is None, rewards of a task step above
        this value are successes.
      score_returns: Raw returns of an episode with scores 0 and 100, such as
        those of a random policy and of an expert (D4RL's normalized score);
        None to score the success rate.
      controller_ctor: Makes the controller that records offline data; None if
        the task has none.

    Raises:
      ImportError: If the module named in `id` does not exist.
      ValueError: If an argument is out of range, gymnasium has no such task,
        the task has no time limit, its actions are not a one-axis bounded box,
        or its observations lack a key.
    """
    arguments.check_range('action_repeat', action_repeat, 1)
    if reward_range is not None and not reward_range[0] < reward_range[1]:
      raise ValueError(
          '`reward_range` must be the lowest and the highest reward, got '
          f'{reward_range}.'
      )
    if score_returns is not None and not (
        np.shape(score_returns) == (2,)
        and np.isfinite(score_returns).all()
        and score_returns[0] < score_returns[1]
    ):
      raise ValueError(
          '`score_returns` must be two finite returns, with scores 0 and 100,'
          f' the second one higher, got {score_returns}.'
      )
    if is_sparse:
      if reward_range is None:
        raise ValueError(
            '`reward_range` must be given if `is_sparse` is True, got None.'
        )
      if reward_scale * reward_range[0] + reward_bias >= 0:
        raise ValueError(
            'If `is_sparse` is True, the lowest reward must be negative after'
            f' `reward_scale` and `reward_bias`, got {reward_range},'
            f' {reward_scale} and {reward_bias}.'
        )
    kwargs = dict(kwargs or {})
    if 'max_episode_steps' in kwargs:
      raise ValueError(
          '`kwargs` must not have `max_episode_steps`; bind'
          ' `Gymnasium.max_episode_steps` instead.'
      )
    task = _make(id, **kwargs)
    if max_episode_steps is None:
      limit = None if task.spec is None else task.spec.max_episode_steps
      if limit is None:
        raise ValueError(
            f'`max_episode_steps` must be given for {id}, which is registered'
            ' without a time limit, got None.'
        )
      max_episode_steps = math.ceil(limit / action_repeat)
    self._set_constants(max_episode_steps, reward_scale, reward_bias)
    self._reward_range = reward_range
    # Shared by all environments, so that it warns only once.
    self._reward_check = (
        None
        if reward_range is None
        else gymnasium_adapter.RewardRange(*reward_range)
    )
    self._is_sparse = is_sparse
    self._id = id
    self._kwargs = kwargs
    self._action_repeat = action_repeat
    if success_key is None and score_returns is None:
      success.warn_if_impossible(
          success_reward, reward_range and reward_range[1]
      )
    self._success_key, self._success_reward = success_key, success_reward
    # Shared by all environments, so that it warns only once.
    self._success_signal = success.SuccessSignal(
        success_key, success_reward, is_expected=score_returns is None
    )
    self._select_observation = None
    self._concatenated_keys: Optional[Tuple[str, ...]] = None
    if observation_keys is not None or flatten_observation:
      _check_keys(id, observation_keys, task.observation_space)
      parts = getattr(task.observation_space, 'spaces', None)
      if flatten_observation and isinstance(parts, Mapping):
        observation_keys = tuple(
            parts if observation_keys is None else observation_keys
        )
        self._concatenated_keys = observation_keys
      self._select_observation = functools.partial(
          _select,
          space=task.observation_space,
          keys=observation_keys,
          flatten=flatten_observation,
      )
    self._score_returns = score_returns
    self._controller_ctor = controller_ctor
    self._task = task  # Closed, but its functions of goals need no world.
    self._read_specs(
        gymnasium_adapter.GymnasiumEnvironment(
            task, seed=0, select_observation=self._select_observation
        )
    )

  @property
  def name(self) -> str:
    return self._id.rpartition(':')[2]

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> gymnasium_adapter.GymnasiumEnvironment:
    del evaluation  # Both use the same task.
    return gymnasium_adapter.GymnasiumEnvironment(
        # -1: the adapter alone counts steps, after `action_repeat`.
        gymnasium.make(self._id, max_episode_steps=-1, **self._kwargs),
        seed=seed,
        action_repeat=self._action_repeat,
        max_episode_steps=self.max_episode_steps,
        select_observation=self._select_observation,
        success_signal=self._success_signal,
        reward_range=self._reward_check,
    )

  def make_controller(
      self, environment: domain.Environment
  ) -> Optional[domain.Controller]:
    del environment
    return None if self._controller_ctor is None else self._controller_ctor()

  def dataset_options(self) -> Dict[str, Any]:
    return dict(
        super().dataset_options(),
        concatenated_keys=self._concatenated_keys,
        expects_success=self._score_returns is None,
    )

  def goals(self) -> Optional[goals_lib.Goals]:
    if not self._task.has_wrapper_attr('compute_reward'):
      return None
    if self._action_repeat > 1:
      raise ValueError(
          '`Gymnasium.action_repeat` must be 1 for `Hindsight`, because the'
          ' goals that repeated actions pass are unknown, got'
          f' {self._action_repeat}.'
      )
    return gymnasium_goals.GymnasiumGoals(
        self._task,
        self._observation_spec,
        self._concatenated_keys,
        self._is_success_reward(),
    )

  def _is_success_reward(self) -> Callable[[float], bool]:
    """Returns what tells by the reward of a step whether it is a success."""
    if self._success_key is None:
      return lambda reward: reward > self._success_reward
    if self._reward_range is None:
      raise ValueError(
          '`Gymnasium.reward_range` must be given for `Hindsight`, which takes'
          ' steps with the highest reward for successes, got None.'
      )
    highest = self._reward_range[1]
    return lambda reward: reward >= highest

  def score(self, episodes: Sequence[types.Episode]) -> float:
    """Returns the success rate in percent, or the normalized return."""
    if self._score_returns is None:
      return super().score(episodes)
    return scores.normalized_return(episodes, *self._score_returns)

  def never_succeeds_value(self, gamma: float) -> Optional[float]:
    if not self._is_sparse or self._reward_range is None:
      return None
    reward = self._action_repeat * self._reward_range[0]
    return (self.reward_scale * reward + self.reward_bias) / (1.0 - gamma)

  @property
  def reward_range(self) -> Optional[Tuple[float, float]]:
    if self._reward_range is None:
      return None
    # The episode may end after the first repetition of an action.
    lowest, highest = self._reward_range
    return (
        min(lowest, self._action_repeat * lowest),
        max(highest, self._action_repeat * highest),
    )

  def value_range(self, gamma: float) -> Optional[Tuple[float, float]]:
    if self.reward_range is None:
      return None
    return value_ranges.of_rewards(
        *self.reward_range, self.reward_scale, self.reward_bias, gamma
    )


def _make(id: str, **kwargs) -> gymnasium.Env:  # pylint: disable=redefined-builtin
  """Makes a registered task; errors of the id suggest the closest one."""
  try:
    return gymnasium.make(id, **kwargs)
  except ModuleNotFoundError as error:
    raise ImportError(
        f'`Gymnasium.id`: the module that registers {id!r} must be installed or'
        f' in the working directory: {str(error).partition(". ")[0]}.'
    ) from error
  except gymnasium.error.UnregisteredEnv as error:
    # Once the module in front of the colon is imported, its tasks are known.
    name = id.rpartition(':')[2]
    close = difflib.get_close_matches(name, gymnasium.registry, n=1)
    hint = f' Did you mean {close[0]!r}?' if close else ''
    raise ValueError(
        '`Gymnasium.id` must be the id of a registered task, or `module:id`,'
        f' got {id!r}.{hint}'
    ) from error
  except TypeError as error:
    raise ValueError(
        f'`Gymnasium.kwargs` must be arguments that {id!r} leaves free, got'
        f' {kwargs}: {error}.'
    ) from error


def _check_keys(id, keys, space) -> None:
  parts = getattr(space, 'spaces', None)
  if keys is None:
    return
  if not isinstance(parts, Mapping):
    raise ValueError(
        f'`observation_keys` must be None for {id}, whose observation is one'
        f' array, got {list(keys)}.'
    )
  if unknown := [key for key in keys if key not in parts]:
    raise ValueError(
        f'`observation_keys` must be among {list(parts)} of {id}, got'
        f' {unknown}.'
    )


def _select(
    observation: types.Nest,
    *,
    space: Any,
    keys: Optional[Sequence[str]],
    flatten: bool,
) -> types.Nest:
  """Returns the parts with these keys, or one float32 array of all entries."""
  if keys is None:
    return _flatten(observation, space) if flatten else observation
  # Not a new `spaces.Dict`, which would sort the keys.
  if flatten:
    return np.concatenate(
        [_flatten(observation[key], space[key]) for key in keys]
    )
  return {key: observation[key] for key in keys}


def _flatten(observation: types.Nest, space: gymnasium.Space) -> np.ndarray:
  """Joins all entries in the order of the space, not of the observation."""
  parts = getattr(space, 'spaces', None)
  if not isinstance(parts, Mapping):
    return np.asarray(observation, np.float32).reshape([-1])
  return np.concatenate([_flatten(observation[x], parts[x]) for x in parts])
