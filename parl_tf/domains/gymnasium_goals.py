"""Goals of gymnasium's goal-conditioned tasks."""

from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import gymnasium
import numpy as np

from parl_tf import types
from parl_tf.domains import goals

ACHIEVED, DESIRED = 'achieved_goal', 'desired_goal'


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
      ValueError: If the observations lack a part.
    """
    self._task: Any = task.unwrapped
    self._is_success = is_success
    self._places: Optional[Dict[str, slice]] = None
    found = concatenated_keys or (
        observation_spec if isinstance(observation_spec, Mapping) else ()
    )
    if missing := [x for x in (ACHIEVED, DESIRED) if x not in found]:
      raise ValueError(
          f'The observation must have {missing[0]!r} for `Hindsight`, got'
          f' {sorted(found)}. Add it to `Gymnasium.observation_keys`.'
      )
    if concatenated_keys:
      space: Any = task.observation_space
      self._places, end = {}, 0
      for key in concatenated_keys:
        start, end = end, end + gymnasium.spaces.flatdim(space[key])
        self._places[key] = slice(start, end)

  def achieved(self, observation: types.Nest) -> np.ndarray:
    if self._places is None:
      return observation[ACHIEVED]
    return observation[:, self._places[ACHIEVED]]

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
      rewards.append(float(self._task.compute_reward(reached, goal, {})))
      ends.append(bool(self._ends(reached, goal, {})))
    return goals.Judgment(
        np.array(rewards, np.float32),
        np.array([self._is_success(reward) for reward in rewards]),
        np.array(ends),
    )

  def _ends(self, reached, goal, info) -> bool:
    compute = getattr(self._task, 'compute_terminated', None)
    return compute is not None and compute(reached, goal, info)
