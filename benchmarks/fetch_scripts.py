"""Scripts for gymnasium's Fetch tasks, as a newcomer writes them."""

import abc
from typing import Mapping

import gin
import numpy as np

from parl_tf.domains import domain

_TABLE = 0.425  # metres, height of the block's center on the table


class _Script(domain.Controller):
  """Moves a block towards a misjudged goal, with noise."""

  def __init__(
      self,
      offset: float = 0.1,
      deviation: float = 0.03,
      noise: float = 0.3,
  ):
    """Initializes the script.

    Args:
      offset: Constant error of the goal's second coordinate, in metres.
      deviation: Standard deviation of the errors of its first two coordinates,
        which are drawn once per episode, in metres.
      noise: Standard deviation of each element of the motion.
    """
    self._offset = offset
    self._deviation = deviation
    self._noise = noise
    self.reset(0)

  def reset(self, seed):
    self._random = np.random.default_rng(seed)
    self._error = np.append(self._random.normal(0.0, self._deviation, 2), 0.0)
    self._error[1] += self._offset

  @abc.abstractmethod
  def move(self, observation, goal):
    """Returns the motion `[3]` and the gripper's action towards `goal`."""

  def action(self, time_step, environment):
    x = time_step.observation
    if not isinstance(x, Mapping):  # `Gymnasium.flatten_observation`
      x = {'desired_goal': x[3:6], 'observation': x[6:]}
    motion, gripper = self.move(
        x['observation'], x['desired_goal'] + self._error
    )
    motion = motion + self._random.normal(0.0, self._noise, 3)
    return np.clip(np.append(motion, gripper), -1, 1).astype(np.float32)


@gin.configurable
class PushScript(_Script):
  """Goes behind the block, descends, and pushes it."""

  def move(self, observation, goal):
    gripper, block = observation[:3], observation[3:6]
    way = (goal - block)[:2]
    distance = np.linalg.norm(way)
    forward = way / (distance + 1e-6)
    side = np.array([-forward[1], forward[0]])
    relative = (gripper - block)[:2]
    behind = block[:2] - 0.08 * forward
    is_low = gripper[2] < _TABLE + 0.035
    if is_low and relative @ forward < -0.03 and abs(relative @ side) < 0.025:
      speed = min(1.0, 8 * distance + 0.1) * forward
      return np.append(
          speed - 4 * (relative @ side) * side, 8 * (_TABLE - gripper[2])
      ), -1.0
    if np.linalg.norm(gripper[:2] - behind) < 0.02:
      return 10 * (np.append(behind, _TABLE) - gripper), -1.0
    if gripper[2] < 0.48 and np.linalg.norm(relative) < 0.12:
      return np.array([0.0, 0.0, 1.0]), -1.0
    return 10 * (np.append(behind, 0.5) - gripper), -1.0


@gin.configurable
class PickScript(_Script):
  """Grasps the block from above and carries it."""

  def move(self, observation, goal):
    gripper, block = observation[:3], observation[3:6]
    width = observation[9] + observation[10]
    relative = block - gripper
    if np.linalg.norm(relative) < 0.03 and width < 0.06:
      return 8 * (goal - block), -1.0
    if np.linalg.norm(relative) < 0.015:
      return np.zeros(3), -1.0
    if np.linalg.norm(relative[:2]) < 0.02:
      return 8 * relative, 1.0
    return 8 * (relative + [0.0, 0.0, 0.08]), 1.0
