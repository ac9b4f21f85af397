"""D4RL's kitchen: an arm opens, moves and switches four objects.

The environments are D4RL's own (Gupta et al., 2019, arXiv:1910.11956; Fu et
al., 2020, arXiv:2004.07219), from the package `d4rl`, which `make d4rl`
installs. The gymnasium-robotics versions have different observations. The raw
reward is the number of sub-tasks solved so far, whereas D4RL rewards each only
once. With the paper's bias of -4, the reward is 0 once all are solved.
"""

import collections
import collections.abc
import os
from typing import Any, Sequence, Tuple

from dm_env import specs
import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import value_ranges

_NUM_SUB_TASKS = 4
_MAX_EPISODE_STEPS = 280
_TASKS = ('complete', 'partial', 'mixed')
_OBSERVATION_SPEC = specs.Array((60,), np.float32, name='observation')
_ACTION_SPEC = specs.BoundedArray((9,), np.float32, -1.0, 1.0, name='action')


@gin.configurable
class Kitchen(domain.Domain):
  """Four sub-tasks in any order, each worth a score of 25."""

  max_episode_steps = _MAX_EPISODE_STEPS

  def __init__(
      self,
      *,
      task: str = 'complete',
      reward_scale: float = 1.0,
      reward_bias: float = -4.0,
  ):
    """Initializes the task.

    Args:
      task: `complete`, `partial` or `mixed`, the names of D4RL's datasets.
        The sub-tasks of `mixed` differ from those of the other two.
      reward_scale: Factor on the raw reward, 0 to 4.
      reward_bias: Added to the scaled reward.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('task', task, _TASKS)
    self._set_constants(_MAX_EPISODE_STEPS, reward_scale, reward_bias)
    self._name = f'kitchen-{task}-v0'

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> gymnasium_adapter.GymnasiumEnvironment:
    del evaluation  # Both have the same initial states.
    return gymnasium_adapter.GymnasiumEnvironment(
        _make_environment(self._name),
        seed=seed,
        max_episode_steps=_MAX_EPISODE_STEPS,
    )

  def observation_spec(self) -> specs.Array:
    return _OBSERVATION_SPEC

  def action_spec(self) -> specs.BoundedArray:
    return _ACTION_SPEC

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.of_rewards(
        0, _NUM_SUB_TASKS, self.reward_scale, self.reward_bias, gamma
    )

  def score(self, episodes: Sequence[types.Episode]) -> float:
    """Returns 25 times the mean number of sub-tasks solved.

    Raises:
      ValueError: If there are no episodes.
    """
    solved = domain.mean_over(episodes, lambda x: np.max(x.reward))
    return 100.0 / _NUM_SUB_TASKS * solved


def _make_environment(name: str) -> Any:
  """Returns D4RL's environment wrapped as a gymnasium environment."""
  # Imported lazily: the imports are slow, and not every caller needs them.
  import gymnasium  # pylint: disable=g-import-not-at-top

  kitchen = _make_original(name)

  class CurrentInterface(gymnasium.Env):
    """Adapts the interface of gym 0.23 to that of gymnasium."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, _ACTION_SPEC.shape)
    observation_space = gymnasium.spaces.Box(
        -np.inf, np.inf, _OBSERVATION_SPEC.shape
    )

    def reset(self, *, seed=None, options=None):
      super().reset(seed=seed, options=options)
      if seed is not None:
        kitchen.seed(seed)
      return kitchen.reset(), {}

    def step(self, action):
      observation, *_ = kitchen.step(action)
      num_solved = _NUM_SUB_TASKS - len(kitchen.tasks_to_complete)
      is_success = num_solved == _NUM_SUB_TASKS
      info = {'success': is_success}
      return observation, float(num_solved), is_success, False, info

  return CurrentInterface()


def _make_original(name: str) -> Any:
  """Returns D4RL's own environment, written for older Python and gym."""
  for missing in ('Mapping', 'MutableMapping', 'Sequence'):
    if not hasattr(collections, missing):
      setattr(collections, missing, getattr(collections.abc, missing))
  # d4rl prints a message for every other suite it fails to import.
  os.environ.setdefault('D4RL_SUPPRESS_IMPORT_ERROR', '1')
  try:
    import d4rl.kitchen  # pylint: disable=g-import-not-at-top, unused-import # noqa: F401
    import gym  # pylint: disable=g-import-not-at-top
  except ImportError as error:
    raise ImportError(
        'The kitchen needs the package d4rl, which is missing or lacks a'
        f' dependency ({error}). Run `make d4rl` to install it.'
    ) from error
  return gym.make(name).unwrapped
