"""Goals of gymnasium's goal-conditioned tasks."""

from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import gymnasium
import numpy as np

from parl_tf import types
from parl_tf.domains import goals

ACHIEVED, DESIRED = 'achieved_goal', 'desired_goal'
_TERMINATED = 'compute_terminated'


class GymnasiumGoals(goals.Goals):
  """Goals of a task with `compute_reward`, as a `GoalEnv` has.

  `GoalEnv` of gymnasium-robotics defines the names of the parts of the
  observation, `compute_reward` and `compute_terminated`. Both functions get an
  empty `info`.
  """

  def __init__(
      self,
      task: gymnasium.Env,
      observation_spec: Any,
      concatenated_keys: Optional[Sequence[str]],
      is_success: Callable[[float], bool],
  ):
    """Initializes the goals.

    Args:
      task: The task; it may be closed.
      observation_spec: Spec of the observations.
      concatenated_keys: Parts of the task's observation that are concatenated
        in this order; None if they are kept.
      is_success: Whether a step with this raw reward reaches the goal.

    Raises:
      ValueError: If the observations lack a part, or the task cannot judge a
        goal.
    """
    self._task: Any = task
    self._name = 'the task' if task.spec is None else task.spec.id
    self._can_end = task.has_wrapper_attr(_TERMINATED)
    self._is_success = is_success
    self._places: Optional[Dict[str, slice]] = None
    found = concatenated_keys or (
        observation_spec if isinstance(observation_spec, Mapping) else ()
    )
    if missing := [x for x in (ACHIEVED, DESIRED) if x not in found]:
      raise ValueError(
          f'The observation must have {missing[0]!r} for `Hindsight`, got'
          + (
              f' {sorted(found)}. Add it to `Gymnasium.observation_keys`.'
              if found
              else ' one array. The task must return a dict.'
          )
      )
    space: Any = task.observation_space
    if concatenated_keys:
      self._places, end = {}, 0
      for key in concatenated_keys:
        start, end = end, end + gymnasium.spaces.flatdim(space[key])
        self._places[key] = slice(start, end)
    for key in (ACHIEVED, DESIRED):
      if len(space[key].shape or ()) != 1:
        raise ValueError(
            f'{key!r} must be a box with one axis for `Hindsight`, got'
            f' {space[key]}.'
        )
    zeros = np.zeros([1, *space[DESIRED].shape])
    self.judge(zeros, zeros[0])  # Raises early.

  def achieved(self, observation: types.Nest) -> np.ndarray:
    if self._places is None:
      return observation[ACHIEVED]
    return observation[:, self._places[ACHIEVED]]

  def desired(self, observation: types.Nest) -> np.ndarray:
    if self._places is None:
      return observation[DESIRED]
    return observation[:, self._places[DESIRED]]

  def replaced(self, observation: types.Nest, goal: np.ndarray) -> types.Nest:
    if self._places is None:
      parts: Dict[str, np.ndarray] = dict(observation)
      parts[DESIRED] = np.full_like(parts[DESIRED], goal)
      return parts
    observation = observation.copy()
    observation[:, self._places[DESIRED]] = goal
    return observation

  def judge(self, achieved: np.ndarray, goal: np.ndarray) -> goals.Judgment:
    # In float64, as the task itself: a step near the limit should not change.
    goal = goal.astype(np.float64)
    rewards, ends = [], []
    for reached in achieved.astype(np.float64):
      rewards.append(float(self._call('compute_reward', reached, goal)))
      ends.append(
          self._can_end and bool(self._call(_TERMINATED, reached, goal))
      )
    return goals.Judgment(
        np.array(rewards, np.float32),
        np.array([self._is_success(reward) for reward in rewards], np.bool_),
        np.array(ends, np.bool_),
    )

  def _call(self, name: str, reached: np.ndarray, goal: np.ndarray):
    try:
      value = self._task.get_wrapper_attr(name)(reached, goal, {})
    except Exception as error:  # noqa: BLE001 (code of the task)
      raise ValueError(
          f'`{name}` of {self._name} must judge a goal with an empty `info` for'
          f' `Hindsight`, but raises {type(error).__name__}: {error}.'
      ) from error
    if np.shape(value) != () or not np.isfinite(value):
      raise ValueError(
          f'`{name}` of {self._name} must return a finite number for'
          f' `Hindsight`, got {value!r} of shape {list(np.shape(value))} for'
          f' achieved goal {reached} and desired goal {goal}.'
      )
    return value
