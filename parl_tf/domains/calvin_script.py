"""A script for two of CALVIN's sub-tasks: the LED's button and the slider.

Positions are those of scene D, in metres. The gripper stays closed: it presses
the button from above, and pushes the slider's handle to the left.
"""

from typing import List, Sequence

import dm_env
import numpy as np

from parl_tf.domains import domain

WAYPOINTS = {
    'turn_on_led': (
        (-0.12, -0.12, 0.55), (-0.12, -0.12, 0.474), (-0.12, -0.12, 0.55)
    ),
    'move_slider_left': (
        (0.14, -0.12, 0.55), (0.14, -0.02, 0.55), (-0.16, -0.02, 0.55),
        (-0.12, -0.14, 0.55),
    ),
}
"""Where the closed gripper goes for each sub-task, in metres."""

SUB_TASKS = tuple(WAYPOINTS)
"""The sub-tasks that the script can solve."""

# Where the gripper moves about.
_LOW, _HIGH = np.array([-0.2, -0.22, 0.53]), np.array([0.16, -0.1, 0.6])
# Metres and radians of an action of 1, and the share of an error that a step of
# 1/30 s corrects: the arm lags behind its target.
_UNITS = np.array([0.02, 0.02, 0.02, 0.05, 0.05, 0.05])
_GAIN = 0.4
_ARRIVAL = 0.012  # Metres.
_SUB_TASK_RATE = 0.5  # Of the motions of play.
_MAX_STEPS = 30  # Steps of 1/30 s before the next waypoint.


class Script(domain.Controller):
  """Solves all sub-tasks in a random order, or plays.

  Play is a random sequence of sub-tasks and of places to move to. A sub-task
  may come twice; the second press of the button turns the LED off.
  """

  def __init__(
      self, sub_tasks: Sequence[str], *, plays: bool, action_repeat: int
  ):
    """Initializes the script.

    Args:
      sub_tasks: Some of `SUB_TASKS`.
      plays: Whether to play instead of solving all of them.
      action_repeat: Number of times that the table repeats an action.
    """
    self._sub_tasks = tuple(sub_tasks)
    self._plays = plays
    self._action_repeat = action_repeat

  def reset(self, seed: int) -> None:
    self._random = np.random.default_rng(seed)
    order = self._random.permutation(self._sub_tasks)
    self._waypoints: List[np.ndarray] = []
    for name in () if self._plays else order:
      self._waypoints += map(np.array, WAYPOINTS[name])
    self._angles = None
    self._num_steps = 0

  def action(
      self, time_step: dm_env.TimeStep, environment: domain.Environment
  ) -> np.ndarray:
    del environment
    pose = time_step.observation['robot'][:6].astype(np.float64)
    if self._angles is None:
      self._angles = pose[3:]
    if not self._waypoints:
      self._waypoints = self._next_motion()
    error = self._waypoints[0] - pose[:3]
    self._num_steps += self._action_repeat
    if np.linalg.norm(error) < _ARRIVAL or self._num_steps > _MAX_STEPS:
      self._waypoints.pop(0)
      self._num_steps = 0
    turn = (self._angles - pose[3:] + np.pi) % (2.0 * np.pi) - np.pi
    gain = 1.0 - (1.0 - _GAIN) ** self._action_repeat
    motion = gain * np.append(error, turn) / (_UNITS * self._action_repeat)
    return np.append(motion.clip(-1.0, 1.0), -1.0).astype(np.float32)

  def _next_motion(self) -> List[np.ndarray]:
    if self._plays and self._random.random() < _SUB_TASK_RATE:
      name = self._random.choice(self._sub_tasks)
      return [np.array(place) for place in WAYPOINTS[name]]
    return [self._random.uniform(_LOW, _HIGH)]
