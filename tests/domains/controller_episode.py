"""An episode that a domain's controller must solve, for tests."""

from typing import List

from absl.testing import absltest


def solve(
    test: absltest.TestCase, domain, environment, controller=None
) -> List[float]:
  """Returns the rewards of an episode, which success must end, as a terminal.

  Args:
    test: Asserts.
    domain: `Domain`.
    environment: Its environment.
    controller: Its controller for that, as it stands; a new one where None.
  """
  if controller is None:
    controller = domain.make_controller(environment)
    controller.reset(0)
  time_step = environment.reset()
  rewards = []
  while not time_step.last():
    test.assertFalse(environment.is_success())
    time_step = environment.step(controller.action(time_step, environment))
    rewards.append(float(time_step.reward))
  test.assertTrue(environment.is_success())
  test.assertEqual(time_step.discount, 0.0)
  return rewards
