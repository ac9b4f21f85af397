"""Play: episodes without a goal, with the rewards of every task.

Play moves objects, or the body, to random places, and success ends no episode.
Each step records the raw reward and the success of every task in the scene, as
that task's own environment would return them for the same motion. The reader of
the dataset selects the task; see `parl_tf.datasets.reading`.
"""

from typing import Any, Callable, Mapping, NamedTuple

import dm_env
from dm_env import specs
import numpy as np

from parl_tf import types
from parl_tf.domains import domain


class Outcome(NamedTuple):
  """Reward and success in each of K tasks.

  Attributes:
    reward: `[K]` raw reward of one or all repetitions of an action.
    success: `[K]` bool.
  """

  reward: np.ndarray
  success: np.ndarray


_NOTHING = Outcome(np.array(0.0), np.array(False))


class PlayEnvironment(domain.Environment):
  """Repeats actions and sums the rewards of every task.

  As in a single-task environment, an action earns no further reward once it has
  solved the task. Unlike there, its repetitions continue.
  """

  def __init__(
      self,
      environment: Any,
      judge: Callable[[], Outcome],
      *,
      task: int,
      action_repeat: int,
      judges_first: bool,
      is_healthy: Callable[[], bool] = lambda: True,
  ):
    """Takes ownership of `environment`.

    Args:
      environment: Environment that does not repeat actions and whose episodes
        end only by timeout.
      judge: Returns the outcome of the current state for one repetition.
      task: Index, starting at 0, of the task whose reward the time steps have.
      action_repeat: Number of steps of `environment` per action; must divide
        its episode length.
      judges_first: Whether a repetition is judged by the state before it, as in
        OGBench, rather than by the state after it.
      is_healthy: Returns whether the current state may be in a dataset.
    """
    self._environment = environment
    self._judge = judge
    self._task = task
    self._action_repeat = action_repeat
    self._judges_first = judges_first
    self._is_healthy = is_healthy
    self._was_healthy = True
    self._needs_reset = True
    self._is_success = False
    self._outcome = _NOTHING

  @property
  def unwrapped(self) -> Any:
    """The wrapped environment."""
    return self._environment

  def seed(self, seed: int) -> None:
    self._environment.seed(seed)

  def reset(self) -> dm_env.TimeStep:
    time_step = self._environment.reset()
    self._needs_reset = False
    self._is_success = False
    self._was_healthy = self._is_healthy()
    return time_step

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    if self._needs_reset:
      return self.reset()
    self._outcome = _NOTHING
    for _ in range(self._action_repeat):
      if self._judges_first:
        self._count()
      time_step = self._environment.step(action)
      if not self._judges_first:
        self._count()
      self._was_healthy = self._was_healthy and self._is_healthy()
    self._needs_reset = time_step.last()
    self._is_success = bool(self._outcome.success[self._task])
    return time_step._replace(
        reward=np.float32(self._outcome.reward[self._task])
    )

  def is_success(self) -> bool:
    """Returns whether the last action solved the constructor's `task`."""
    return self._is_success

  def info(self) -> Mapping[str, np.ndarray]:
    return self._environment.info()

  def step_info(self) -> Mapping[str, np.ndarray]:
    return {
        'task_rewards': self._outcome.reward.astype(np.float32),
        'task_successes': self._outcome.success,
    }

  def may_be_recorded(self) -> bool:
    return self._was_healthy

  def observation_spec(self) -> types.Nest:
    return self._environment.observation_spec()

  def action_spec(self) -> specs.BoundedArray:
    return self._environment.action_spec()

  def render(self) -> np.ndarray:
    return self._environment.render()

  def close(self) -> None:
    self._environment.close()

  def _count(self) -> None:
    """Adds the outcome of the current state, but no reward to solved tasks."""
    new = self._judge()
    reward, success = self._outcome
    self._outcome = Outcome(
        reward + np.where(success, 0.0, new.reward), success | new.success
    )
