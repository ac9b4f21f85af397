"""Tests of the robot domain in real time, on the machine's clock."""

import os
import threading
import time

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from examples.robot import simulated_arm
from parl_tf.domains import domain as domain_lib
from tests.domains import robot_gin

_STILL = np.zeros(2, np.float32)


class RealRateTest(parameterized.TestCase):
  """Uses an arm with latency and lost messages."""

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  def _make(self, **options):
    self._arm = simulated_arm.SimulatedArm(latency=0.05, drop_rate=0.2)
    domain = robot_gin.make_domain(lambda: self._arm, **options)
    environment = domain.make_environment(seed=1, evaluation=True)
    self.addCleanup(environment.close)
    return environment

  @parameterized.parameters((5.0, 10), (3.0, 5))
  def test_steps_keep_the_rate_and_late_steps_are_counted(
      self, rate, num_steps
  ):
    # A busy machine may miss a tick; then the counts must be consistent.
    environment = self._make(control_rate=rate, max_missed_ticks=10)
    environment.reset()
    missed, start = 0, time.monotonic()
    for step in range(num_steps):
      if step == 2:
        time.sleep(1.2 / rate)
      environment.step(np.array([0.1, 0.1], np.float32))
      missed += environment.info()['missed_ticks']
      # Each tick lies on the grid of the first action.
      ticks = (time.monotonic() - start) * rate
      self.assertBetween(ticks - missed, step + 1.0, step + 2.5)
      if step == 2:
        self.assertGreaterEqual(environment.info()['missed_ticks'], 1)
        self.assertGreaterEqual(environment.info()['lateness'], 0.2 / rate)
      self.assertBetween(environment.info()['observation_age'], 0.05, 0.5)
    self.assertLess(missed, num_steps)

  def test_the_arm_reaches_the_goal(self):
    environment = self._make(control_rate=5.0)
    demonstrator = simulated_arm.Demonstrator()
    time_step = environment.reset()
    while not time_step.last():
      time_step = environment.step(
          demonstrator.action(time_step, environment)
      )
    self.assertTrue(environment.is_success())

  def test_a_hanging_policy_stops_the_arm(self):
    environment = self._make(control_rate=5.0, max_missed_ticks=1)
    self._arm.drop_rate = 0.0
    environment.reset()
    environment.step(np.array([0.1, 0.1], np.float32))
    self.assertTrue(self._arm.is_moving)
    start = time.monotonic()
    self._hang()
    # Three ticks of 0.2 s after the last tick.
    self.assertGreater(time.monotonic() - start, 0.5)
    self.assertFalse(self._arm.is_moving)
    with self.assertRaisesRegex(domain_lib.EpisodeLostError, 'max_missed'):
      environment.step(_STILL)

  def test_a_hanging_driver_stops_the_arm(self):
    environment = self._make(control_rate=5.0, max_missed_ticks=0)
    self._arm.drop_rate = 0.0
    environment.reset()
    observe = self._arm.observe
    self._arm.observe = lambda: (self._hang(), observe())[1]
    environment.step(np.array([0.1, 0.1], np.float32))
    self.assertFalse(self._arm.is_moving)
    self._arm.observe = observe
    with self.assertRaisesRegex(domain_lib.EpisodeLostError, 'max_missed'):
      environment.step(_STILL)

  def _hang(self):
    """Returns when the arm has stopped, or after a minute."""
    deadline = time.monotonic() + 60.0
    while self._arm.is_moving and time.monotonic() < deadline:
      time.sleep(0.02)

  def test_an_operator_pauses_and_resumes(self):
    path = os.path.join(self.create_tempdir().full_path, 'pause')
    environment = self._make(
        control_rate=5.0, pause_path=path, max_missed_ticks=10
    )
    environment.reset()
    environment.step(_STILL)
    open(path, 'w').close()
    threading.Timer(1.0, os.remove, [path]).start()
    start = time.monotonic()
    environment.step(_STILL)
    self.assertGreater(time.monotonic() - start, 0.95)
    environment.step(_STILL)
    # The pause took five ticks; a busy machine may miss one or two.
    self.assertLess(environment.info()['missed_ticks'], 4)


if __name__ == '__main__':
  absltest.main()
