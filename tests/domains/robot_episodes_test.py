"""Tests of what a robot's episodes and pauses carry over, and do not."""

import os

from absl import logging
from absl.testing import absltest
import gin
import numpy as np

from examples.robot import simulated_arm
from parl_tf.domains import domain as domain_lib
from tests.domains import manual_clock
from tests.domains import robot_gin


class RobotEpisodesTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._clock = manual_clock.ManualClock()
    self._arm = simulated_arm.SimulatedArm(
        latency=0.0, drop_rate=0.0, clock=self._clock
    )

  def _make(self, **options):
    domain = robot_gin.make_domain(
        lambda: self._arm,
        control_rate=4.0,
        clock_ctor=lambda: self._clock,
        **options,
    )
    environment = domain.make_environment(seed=3, evaluation=False)
    self.addCleanup(environment.close)
    return environment

  def test_the_driver_is_monitored_after_a_pause(self):
    still = np.zeros(2, np.float32)
    path = os.path.join(self.create_tempdir().full_path, 'pause')
    environment = self._make(pause_path=path)
    environment.reset()
    environment.step(still)
    monitored, observe = [], self._arm.observe

    def look():
      monitored.append(environment._watchdog._timer is not None)
      return observe()

    def pause():  # Within the step, for one interval.
      if monitored or os.path.exists(path):
        os.remove(path)
      else:
        with open(path, 'w', encoding='utf-8'):
          pass

    self._arm.observe = look
    self._clock.on_sleep = pause
    environment.step(still)
    self.assertEqual(monitored, [True])

  def test_an_operator_may_end_an_episode_without_success(self):
    failures = []

    def detect(observation):
      del observation
      if failures:
        raise domain_lib.EpisodeFailedError('The cup fell.')
      return False

    environment = self._make(success_detector=detect)
    environment.reset()
    still = np.zeros(2, np.float32)
    self.assertFalse(environment.step(still).last())
    failures.append(True)
    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      last = environment.step(still)

    self.assertTrue(last.last())
    self.assertEqual((last.reward, last.discount), (0.0, 1.0))
    self.assertFalse(environment.is_success())
    self.assertFalse(self._arm.is_moving)
    self.assertIn('The cup fell.', logs.output[0])
    # Typed before the scene was arranged, it is of no episode.
    with self.assertRaises(domain_lib.EpisodeLostError):
      environment.reset()

  def test_changes_of_the_action_are_shares_of_its_range(self):
    environment = self._make(max_action_change=0.5)
    environment.reset()
    for _ in range(2):  # 0.9 is 0.225 in the driver's units.
      environment.step(np.full(2, 0.9, np.float32))
    self.assertEqual(self._arm.num_commands, 2)

  def test_the_last_action_of_an_episode_does_not_bound_the_next_one(self):
    environment = self._make(max_action_change=0.5)
    for number in (0.5, -0.5):
      environment.reset()
      time_step = environment.step(np.full(2, number, np.float32))
      self.assertFalse(time_step.last())
    self.assertEqual(self._arm.num_commands, 2)


if __name__ == '__main__':
  absltest.main()
