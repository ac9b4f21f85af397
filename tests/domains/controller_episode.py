"""Runs an episode that a domain's controller must solve."""

from typing import List

from absl.testing import absltest


def solve(
    test: absltest.TestCase, domain, environment, controller=None
) -> List[float]:
  """Runs an episode, asserts that it ends with success, and returns rewards.

  Args:
    test: Test case that asserts.
    domain: `Domain`.
    environment: An environment of the domain.
    controller: Controller to use in its current state; None makes a new one.
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
