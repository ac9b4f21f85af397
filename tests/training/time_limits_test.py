"""Tests of the warning of a time limit that ends episodes as failures."""

from absl import logging
from absl.testing import absltest
import numpy as np

from parl_tf import types
from parl_tf.training import time_limits
from tests.training import line_walk


def _episode(num_steps, discount=0.0, success=False):
  discounts = np.ones(num_steps, np.float32)
  discounts[-1] = discount
  successes = np.zeros(num_steps, bool)
  successes[-1] = success
  return types.Episode(
      observation=np.zeros([num_steps + 1, 1], np.float32),
      action=np.zeros([num_steps, 1], np.float32),
      reward=np.zeros(num_steps, np.float32),
      discount=discounts,
      success=successes,
  )


class TimeLimitsTest(absltest.TestCase):

  def _limits(self, limit=4):
    domain = line_walk.LineWalk()
    domain.max_episode_steps = limit
    return time_limits.TimeLimits(domain)

  def test_failures_at_the_limit_are_warned_of_once(self):
    limits = self._limits()
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      limits.see(_episode(3))
      limits.see(_episode(3))
      limits.see(_episode(4, success=True))
      limits.see(_episode(4))  # It may have failed just then.
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      for _ in range(3):
        limits.see(_episode(4))
    self.assertLen(logs.output, 1)
    self.assertIn(
        'without success in step 4, at the time limit', logs.output[0]
    )

  def test_a_right_time_out_acquits_the_task(self):
    limits = self._limits()
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      limits.see(_episode(4, discount=1.0))
      for _ in range(5):
        limits.see(_episode(4))

  def test_a_task_of_one_step_is_no_fault(self):
    limits = self._limits(limit=1)
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      for _ in range(5):
        limits.see(_episode(1))


if __name__ == '__main__':
  absltest.main()
