"""Adroit: a 24-joint hand opens a door, swings a hammer or turns a pen.

The environments are `AdroitHand*-v1` of gymnasium-robotics, which have the
observations, actions and initial states of D4RL (Rajeswaran et al., 2018,
arXiv:1709.10087; Fu et al., 2020, arXiv:2004.07219). Rewards and episode
lengths follow D4RL.
"""

from typing import Any, NamedTuple, Optional, Sequence, Tuple

from dm_env import specs
import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import scores
from parl_tf.domains import value_ranges


class _Task(NamedTuple):
  """Constants of one task.

  Attributes:
    observation_size: Size of the observation vector.
    action_size: Size of the action vector (A).
    max_episode_steps: Episode length in D4RL, in steps of 0.01 s.
    palm_to_object: Slices of the observation that give the vector from palm to
      object: `(vector,)` or `(palm, object)`. Empty if the reward does not use
      this distance.
    random_return: D4RL reference return for a score of 0.
    expert_return: D4RL reference return for a score of 100.
  """

  observation_size: int
  action_size: int
  max_episode_steps: int
  palm_to_object: Tuple[slice, ...]
  random_return: float
  expert_return: float


_TASKS = {
    'door': _Task(
        39, 28, 200, (slice(35, 38),), -56.512833, 2880.5693087298737
    ),
    'hammer': _Task(
        46, 26, 200, (slice(33, 36), slice(36, 39)), -274.856578,
        12794.134825156867,
    ),
    'pen': _Task(45, 24, 100, (), 96.262799, 3076.8331017826877),
    'relocate': _Task(
        39, 30, 200, (slice(30, 33),), -6.425911, 4233.877797728884
    ),
}
_REWARDS = ('dense', 'binary')
# In meters; see D4RL's `pen_v0.py`.
_DROPPED_PEN_HEIGHT = 0.075


@gin.configurable
class Adroit(domain.Domain):
  """An Adroit task, scored by D4RL's normalized return or the success rate."""

  def __init__(
      self,
      *,
      task: str = 'door',
      reward: str = 'dense',
      reward_scale: float = 1.0,
      reward_bias: float = 0.0,
  ):
    """Initializes the task.

    Args:
      task: `door`, `hammer`, `pen` or `relocate`.
      reward: `dense` for D4RL's reward, or `binary` for 1 at success and 0
        elsewhere. With `binary`, success ends the episode. With `dense`, only
        dropping the pen ends one early, as in D4RL.
      reward_scale: Factor on the raw reward.
      reward_bias: Added to the scaled reward.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('task', task, _TASKS)
    arguments.check_choice('reward', reward, _REWARDS)
    self._name = task
    self._task = _TASKS[task]
    self._is_binary = reward == 'binary'
    self._set_constants(
        self._task.max_episode_steps, reward_scale, reward_bias
    )

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> gymnasium_adapter.GymnasiumEnvironment:
    del evaluation  # Both have the same initial states.
    return gymnasium_adapter.GymnasiumEnvironment(
        _make_environment(self._name, self._task, self._is_binary),
        seed=seed,
        max_episode_steps=self.max_episode_steps,
    )

  def observation_spec(self) -> specs.Array:
    return specs.Array(
        (self._task.observation_size,), np.float32, name='observation'
    )

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
        (self._task.action_size,), np.float32, -1.0, 1.0, name='action'
    )

  def never_succeeds_value(self, gamma: float) -> Optional[float]:
    """Returns the discounted sum of the bias, or None for dense rewards."""
    return self.reward_bias / (1.0 - gamma) if self._is_binary else None

  def value_range(self, gamma: float) -> Optional[Tuple[float, float]]:
    """Returns the return range of binary rewards, or None for dense ones."""
    if not self._is_binary:
      return None
    return value_ranges.until_success(
        self.reward_scale, self.reward_bias, gamma
    )

  def score(self, episodes: Sequence[types.Episode]) -> float:
    """Returns the success rate in percent, or D4RL's normalized return."""
    if self._is_binary:
      return super().score(episodes)
    return scores.normalized_return(
        episodes, self._task.random_return, self._task.expert_return
    )


def _make_environment(name: str, task: _Task, is_binary: bool) -> Any:
  """Returns the gymnasium-robotics environment with the task's rewards."""
  # Imported lazily: the imports are slow, and not every caller needs them.
  import gymnasium  # pylint: disable=g-import-not-at-top
  import gymnasium_robotics  # pylint: disable=g-import-not-at-top

  gymnasium.register_envs(gymnasium_robotics)

  class Rewards(gymnasium.Wrapper):
    """Applies D4RL's rewards or binary success rewards."""

    def step(self, action):
      observation, reward, terminated, truncated, info = self.env.step(action)
      is_success = bool(info['success'])
      if name == 'pen' and not is_binary:
        # gymnasium-robotics continues after that; D4RL does not.
        state: Any = self.env.unwrapped
        height = state.data.xpos[state.obj_body_id][2]
        terminated = terminated or bool(height < _DROPPED_PEN_HEIGHT)
      if is_binary:
        reward, terminated = float(is_success), is_success
      elif task.palm_to_object:
        # gymnasium-robotics has added 0.1 times this distance since version
        # 1.2.1; D4RL subtracts it.
        parts = [observation[part] for part in task.palm_to_object]
        offset = parts[0] - (parts[1] if len(parts) > 1 else 0.0)
        reward = float(reward) - 0.2 * np.linalg.norm(offset)
      return observation, float(reward), terminated, truncated, info

  environment = gymnasium.make(
      f'AdroitHand{name.title()}-v1', render_mode='rgb_array'
  )
  return Rewards(environment.unwrapped)
