"""A task on a single real robot; see `robot_environment`."""

from typing import Any, Callable, Optional, Tuple

from dm_env import specs
import gin
import numpy as np

from parl_tf.domains import arm as arm_lib
from parl_tf.domains import domain
from parl_tf.domains import robot_environment
from parl_tf.domains import value_ranges


@gin.configurable
class Robot(domain.Domain):
  """A robot task: reward 1 at success, else 0; the paper's bias is -1."""

  max_environments = 1

  def __init__(
      self,
      arm_ctor: Callable[[], arm_lib.Arm] = gin.REQUIRED,
      *,
      controller_ctor: Optional[Callable[[], domain.Controller]] = None,
      max_episode_steps: int = 200,
      reward_scale: float = 1.0,
      reward_bias: float = -1.0,
  ):
    """Creates the driver.

    Args:
      arm_ctor: Constructor of the driver.
      controller_ctor: Constructor of the controller that records a dataset,
        such as a script or a teleoperation device; None if the dataset exists.
      max_episode_steps: Steps before the timeout.
      reward_scale: Factor on the raw reward.
      reward_bias: Added to the scaled reward.

    Raises:
      ValueError: If an argument is out of range or a spec is invalid.
    """
    self._set_constants(max_episode_steps, reward_scale, reward_bias)
    self._controller_ctor = controller_ctor
    self._environment = robot_environment.RobotEnvironment(
        arm_ctor(), max_episode_steps=max_episode_steps, seed=0
    )

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> robot_environment.RobotEnvironment:
    """Returns the only environment, with its next reset seeded by `seed`."""
    del evaluation  # There is only one robot.
    self._environment.seed(seed)
    return self._environment

  def make_data_controller(
      self, environment: robot_environment.RobotEnvironment
  ) -> Optional[domain.Controller]:
    del environment  # Passed to each call of `action`.
    return self._controller_ctor and self._controller_ctor()

  def observation_spec(self) -> Any:
    return self._environment.observation_spec()

  def action_spec(self) -> specs.BoundedArray:
    return self._environment.action_spec()

  @property
  def raw_action_bounds(self) -> Tuple[np.ndarray, np.ndarray]:
    return self._environment.raw_action_bounds

  @property
  def control_rate(self) -> float:
    """Steps per second."""
    return self._environment.control_rate

  def never_succeeds_value(self, gamma: float) -> float:
    """Returns the discounted sum of the bias; the raw reward stays 0."""
    return self.reward_bias / (1.0 - gamma)

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.until_success(
        self.reward_scale, self.reward_bias, gamma
    )
