"""A task as a newcomer brings it: FetchReach within 2 cm, from noisy data.

`precise_reach.gin` selects it. FetchReach's own radius is 5 cm, which cloning
alone solves. Here the controller is slow and its noise large, so that the data
rarely stays at the goal.
"""

import gin
import gymnasium
from gymnasium_robotics.envs.fetch import reach
import numpy as np

from parl_tf.domains import domain


class PreciseReach(reach.MujocoFetchReachEnv):
  """FetchReach with a success radius of 2 cm."""

  def __init__(self, difference: bool = False, **kwargs):
    """Initializes the environment.

    Args:
      difference: Whether observations also have the vector from the gripper to
        the goal, in metres.
      **kwargs: Arguments of the base class.
    """
    self._difference = False  # until there is a goal
    super().__init__(**kwargs)
    self._difference = difference
    self.distance_threshold = 0.02  # metres
    if difference:
      self.observation_space = gymnasium.spaces.Dict({
          **self.observation_space.spaces,
          'difference': gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64),
      })

  def _get_obs(self):
    observation = super()._get_obs()
    if self._difference:
      observation['difference'] = (
          observation['desired_goal'] - observation['achieved_goal']
      )
    return observation


gymnasium.register(
    'PreciseReach-v0',
    entry_point='benchmarks.precise_reach:PreciseReach',
    max_episode_steps=50,
)


@gin.configurable
class SlowController(domain.Controller):
  """Moves slowly towards the goal, with Gaussian noise."""

  def __init__(
      self, gain: float = 2.0, noise: float = 0.7, num_noisy: int = 4
  ):
    """Initializes the controller.

    Args:
      gain: Action per metre of distance to the goal.
      noise: Standard deviation of the noise of each action element.
      num_noisy: Number of leading elements with noise. The fourth, which
        changes nothing, opens the gripper.
    """
    self._gain = gain
    self._noise = np.where(np.arange(4) < num_noisy, noise, 0.0)
    self._random = np.random.default_rng(0)

  def reset(self, seed):
    self._random = np.random.default_rng(seed)

  def action(self, time_step, environment):
    x = time_step.observation
    velocity = self._gain * (x['desired_goal'] - x['achieved_goal'])
    noise = self._random.normal(0.0, self._noise, 4)
    return np.clip(np.append(velocity, 0) + noise, -1, 1).astype(np.float32)
