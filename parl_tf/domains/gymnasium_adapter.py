"""Adapts Gymnasium environments to `dm_env`."""

from typing import Any, Callable, Mapping, Optional, Tuple

from absl import logging
import dm_env
from dm_env import specs
import numpy as np

from parl_tf import action_range
from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import success

# Relative to the largest reward that is declared.
_REWARD_TOLERANCE = 1e-6


class RewardRange:
  """Warns once of a reward outside the declared range."""

  def __init__(self, low: float, high: float):
    """Initializes the range of a step's reward."""
    self._low, self._high = low, high
    self._has_warned = False

  def see(self, reward: float) -> None:
    """Looks at the reward of a step."""
    tolerance = _REWARD_TOLERANCE * max(1.0, abs(self._low), abs(self._high))
    is_inside = self._low - tolerance <= reward <= self._high + tolerance
    if is_inside or self._has_warned or np.isnan(reward):
      return
    self._has_warned = True
    logging.warning(
        'The task returned a reward of %g, but `Gymnasium.reward_range` is (%g,'
        ' %g). A critic that predicts a histogram cannot represent returns'
        ' beyond that range. With another range, start a new run.',
        reward,
        self._low,
        self._high,
    )


class GymnasiumEnvironment(domain.Environment):
  """Adapts a `gymnasium.Env` that has a box action space.

  Maps actions from [-1, 1] to the box, casts observations to float32 (uint8 is
  kept), and converts truncation to a timeout. Gymnasium seeds environments only
  in `reset`; without a new seed, each reset continues the random sequence.

  If the unwrapped environment has a method `stop_robot`, it is called at the
  end of each episode, and if an episode is abandoned.
  """

  def __init__(
      self,
      environment: Any,
      *,
      seed: int,
      action_repeat: int = 1,
      max_episode_steps: Optional[int] = None,
      select_observation: Optional[Callable[[types.Nest], types.Nest]] = None,
      success_signal: Optional[success.SuccessSignal] = None,
      reward_range: Optional[RewardRange] = None,
  ):
    """Adapts and takes ownership of `environment`.

    Args:
      environment: `gymnasium.Env` whose observations, after
        `select_observation`, are arrays or flat dicts of arrays.
      seed: Seed of the first reset.
      action_repeat: Number of steps of `environment` for which each action is
        repeated. Rewards are summed. The repetition stops at the end of the
        episode or at success.
      max_episode_steps: Steps of this environment before the timeout; None if
        `environment` truncates episodes itself.
      select_observation: Maps the observation of `environment` to the one
        returned; None returns it unchanged. Must also accept zeros, which
        determine the spec.
      success_signal: Decides which steps are successes; None takes the entry
        `success` or `is_success` of `info`.
      reward_range: Sees the reward of each step of `environment`, if given.

    Raises:
      ValueError: If the action space is not a one-axis bounded box, or has a
        dimension without choice, a number is out of range, or the channels of
        an image come first.
    """
    if action_repeat < 1:
      raise ValueError(
          f'`action_repeat` must be at least 1, got {action_repeat}.'
      )
    if max_episode_steps is not None and max_episode_steps < 1:
      raise ValueError(
          f'`max_episode_steps` must be at least 1, got {max_episode_steps}.'
      )
    box = environment.action_space
    low: Any = getattr(box, 'low', None)
    high: Any = getattr(box, 'high', None)
    if low is None or low.ndim != 1 or not np.all(np.isfinite([low, high])):
      raise ValueError(
          '`environment` must have a one-axis bounded box of actions `[A]`, got'
          f' {box}.'
      )
    empty = np.flatnonzero(low >= high)
    if len(empty):
      i = empty[0]
      raise ValueError(
          f'`environment` must have bounds of actions with low < high, got'
          f' [{low[i]}, {high[i]}] in dimension {i}. Leave out what cannot be'
          ' chosen, for example by a `gymnasium.ActionWrapper`.'
      )
    self._environment = environment
    self._action_repeat = action_repeat
    self._max_episode_steps = max_episode_steps
    self._select = select_observation or (lambda observation: observation)
    self._success_signal = success_signal or success.SuccessSignal()
    self._reward_range = reward_range
    self._stop_robot: Callable[[], Any] = getattr(
        getattr(environment, 'unwrapped', environment),
        'stop_robot',
        lambda: None,
    )
    self._range = action_range.ActionRange((low, high), np.float64)
    self._is_success = False
    self._needs_reset = True
    self._num_steps = 0
    space = environment.observation_space
    sample = _sample(space)
    self._observation_spec = _observation_spec(
        self._select(sample), lambda part: _integer_box(part, sample, space)
    )
    self.seed(seed)

  @property
  def gymnasium_environment(self) -> Any:
    """The adapted environment."""
    return self._environment

  def seed(self, seed: int) -> None:
    self._pending_seed: Optional[int] = seed

  def is_success(self) -> bool:
    return self._is_success

  def reset(self) -> dm_env.TimeStep:
    try:
      observation, info = self._environment.reset(seed=self._pending_seed)
    except AssertionError as error:  # Of gymnasium's checks.
      raise ValueError(f'The task breaks a rule of gymnasium: {error}') from (
          error
      )
    self._pending_seed = None
    self._num_steps = 0
    self._needs_reset = False
    self._is_success = self._success_signal.is_success(np.nan, info)
    return dm_env.restart(self._convert(observation))

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    if self._needs_reset:
      return self.reset()
    raw_action = self._raw_action(action)
    total_reward = 0.0
    for _ in range(self._action_repeat):
      observation, reward, terminated, truncated, info = self._environment.step(
          raw_action
      )
      if self._reward_range is not None:
        self._reward_range.see(float(reward))
      total_reward += float(reward)
      self._is_success = self._success_signal.is_success(float(reward), info)
      if terminated or truncated or self._is_success:
        break
    self._num_steps += 1
    timed_out = truncated or self._num_steps == self._max_episode_steps
    self._needs_reset = terminated or timed_out
    if self._needs_reset:
      self._stop_robot()
      self._success_signal.end_episode()
    return domain.make_time_step(
        self._convert(observation),
        total_reward,
        is_terminal=terminated,
        is_timeout=timed_out,
    )

  def observation_spec(self) -> Any:
    return self._observation_spec

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
        shape=self._range.bounds[0].shape,
        dtype=np.float32,
        minimum=-1.0,
        maximum=1.0,
        name='action',
    )

  def abandon(self) -> None:
    self._needs_reset = True
    self._stop_robot()

  def render(self) -> np.ndarray:
    """Returns an image if `environment` has the render mode `rgb_array`."""
    picture, cause = None, None
    try:
      picture = self._environment.render()
    except Exception as error:  # noqa: BLE001 (MuJoCo has one of its own)
      if getattr(self._environment, 'render_mode', '') is not None:
        raise
      cause = error
    if picture is None:
      raise NotImplementedError(
          'the task must have the render mode rgb_array '
          "(`Gymnasium.kwargs = {'render_mode': 'rgb_array'}`), got "
          f'{self._environment.render_mode!r}.'
      ) from cause
    return picture

  def close(self) -> None:
    self._environment.close()

  def _raw_action(self, action: np.ndarray) -> np.ndarray:
    action = np.asarray(action, np.float64)
    low, high = self._range.bounds
    if action.shape != low.shape:
      raise ValueError(
          f'`action` must have shape {low.shape}, got {action.shape}.'
      )
    if not np.all(np.isfinite(action)):
      raise arguments.NotFiniteError(f'`action` must be finite, got {action}.')
    raw_action = self._range.to_raw(action.clip(-1.0, 1.0))
    raw_action = raw_action.clip(low, high)  # Rounding may exceed the bounds.
    dtype = self._environment.action_space.dtype
    if np.issubdtype(dtype, np.integer):
      raw_action = np.rint(raw_action)
    return raw_action.astype(dtype)

  def _convert(self, observation: Any) -> types.Nest:
    observation = self._select(observation)
    wanted, seen = (
        sorted(x) if isinstance(x, dict) else 'one array'
        for x in (self._observation_spec, observation)
    )
    if wanted != seen:
      raise ValueError(
          "The observation must have the parts of the task's observation space:"
          f' {wanted}, got {seen}.'
      )
    if not isinstance(observation, dict):
      return self._checked(_cast(observation), self._observation_spec, '')
    return {
        name: self._checked(
            _cast(array), self._observation_spec[name], f' {name!r}'
        )
        for name, array in observation.items()
    }

  def _checked(self, array, spec, name):
    if array.shape != spec.shape:
      raise ValueError(
          f"The task's observation{name} must have shape {list(spec.shape)}, as"
          f' in its observation space, got {list(array.shape)}.'
      )
    return array


class GymnasiumDomain(domain.Domain):
  """A task whose specs are those of its adapted environments."""

  def _read_specs(self, environment: GymnasiumEnvironment) -> None:
    """Reads the specs of an environment and closes it."""
    box = environment.gymnasium_environment.action_space
    self._raw_action_bounds = (
        box.low.astype(np.float32),
        box.high.astype(np.float32),
    )
    self._observation_spec = environment.observation_spec()
    self._action_spec = environment.action_spec()
    environment.close()

  def observation_spec(self) -> Any:
    return self._observation_spec

  def action_spec(self) -> specs.BoundedArray:
    return self._action_spec

  @property
  def raw_action_bounds(self) -> Tuple[np.ndarray, np.ndarray]:
    return self._raw_action_bounds


def _sample(space: Any) -> Any:
  """Returns zeros with the structure of a box or a dict of boxes."""
  parts = getattr(space, 'spaces', None)
  if isinstance(parts, Mapping):
    return {name: _sample(part) for name, part in parts.items()}
  if not hasattr(space, 'low'):
    raise ValueError(
        f'The observation space must be a box or a dict of boxes, got {space}.'
    )
  return np.zeros(space.shape, space.dtype)


def _cast(array: np.ndarray) -> np.ndarray:
  array = np.asarray(array)
  # Copy, because some environments overwrite the arrays they return.
  return array.astype(np.uint8 if array.dtype == np.uint8 else np.float32)


def _integer_box(part: np.ndarray, sample: Any, space: Any) -> Any:
  """Returns the box of integers, such as tokens, whose sample a part is.

  None if the part is another array, or if a bound of the box is that of its
  dtype, other than 0: such a box is open.
  """
  if isinstance(sample, dict):
    boxes = [space.spaces[name] for name, x in sample.items() if x is part]
  else:
    boxes = [space] if part is sample else []
  if not boxes or not np.issubdtype(boxes[0].dtype, np.integer):
    return None
  (box,), limits = boxes, np.iinfo(boxes[0].dtype)
  has_low = limits.min == 0 or np.all(box.low > limits.min)
  return box if has_low and np.all(box.high < limits.max) else None


def _observation_spec(observation: Any, box_of: Callable) -> Any:
  """Returns the spec, or dict of specs, of a selected observation."""
  def make_spec(array: np.ndarray, name: str) -> specs.Array:
    box = box_of(array)
    array = _cast(array)
    if box is not None:
      return specs.BoundedArray(
          array.shape, array.dtype, box.low, box.high, name
      )
    if array.dtype == np.uint8 and array.ndim == 3:
      _check_channels_last(name, array.shape)
    return specs.Array(shape=array.shape, dtype=array.dtype, name=name)

  if not isinstance(observation, dict):
    return make_spec(observation, 'observation')
  for name, part in observation.items():
    if isinstance(part, dict):
      raise ValueError(
          f'Observations must be an array or a flat dict, but {name!r} is a'
          f' dict of {sorted(part)}. `Gymnasium.flatten_observation = True`'
          ' joins all parts.'
      )
  return {name: make_spec(x, name) for name, x in observation.items()}


def _check_channels_last(name: str, shape: Tuple[int, ...]) -> None:
  channels, height, width = shape
  # Few rows of many channels are no picture, but may be a grid of features.
  if channels <= 16 < min(height, width):
    raise ValueError(
        f'The image {name!r} must have shape [height, width, channels], here'
        f' {[height, width, channels]}, got {list(shape)}, with the channels'
        " first. Return `image.transpose(1, 2, 0)` in the task's `reset` and"
        ' `step`, or in a `gymnasium.ObservationWrapper`, and give its'
        ' `observation_space` that shape.'
    )
