"""Makes robot domains with options of both classes, bound as gin would."""

import inspect

import gin

from examples.robot import simulated_arm
from parl_tf.domains import robot


def make_domain(arm_ctor, **options):
  """Returns the domain.

  Args:
    arm_ctor: Constructor of the driver.
    **options: Arguments of `Robot` and `RobotEnvironment`. Without a success
      detector the task is to reach the simulated arm's goal.
  """
  options = {'success_detector': simulated_arm.is_at_goal, **options}
  of_domain = inspect.signature(robot.Robot.__init__).parameters
  own = {name: options.pop(name) for name in of_domain if name in options}
  for name, value in options.items():
    gin.bind_parameter(f'RobotEnvironment.{name}', value)
  return robot.Robot(arm_ctor, **own)
