"""Tests of what a robot checks before it moves."""

import os
import threading
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from examples.robot import simulated_arm
from parl_tf import interruption
from parl_tf.distributed import remote_source
from parl_tf.domains import arm as arm_lib
from parl_tf.domains import arm_lock
from parl_tf.domains import domain
from parl_tf.training import sources
from tests.domains import manual_clock
from tests.domains import robot_gin


class RobotSafetyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._clock = manual_clock.ManualClock()
    self.addCleanup(gin.clear_config)

  def _make(self, **options):
    self._arm = simulated_arm.SimulatedArm(
        latency=0.0, drop_rate=0.0, clock=self._clock
    )
    self._calls = []
    home = self._arm.home
    self._arm.home = lambda random: (self._calls.append('home'), home(random))
    self._domain = robot_gin.make_domain(
        lambda: self._arm, control_rate=4.0, clock_ctor=lambda: self._clock,
        **options,
    )
    environment = self._domain.make_environment(seed=3, evaluation=False)
    self.addCleanup(environment.close)
    return environment

  def _measure(self, observation, age=0.0):
    self._arm.observe = lambda: arm_lib.Measurement(
        np.array(observation, np.float32), self._clock.now() - age
    )

  def test_faults_of_a_driver_are_found_before_the_arm_moves(self):
    environment = self._make()
    self._measure([0.0, 0.0, 0.0])
    with self.assertRaisesRegex(ValueError, r'with shape \(4,\).*got \(3,\)'):
      environment.reset()
    self._measure([0.0] * 4, age=-1.0)  # As by the wall clock.
    with self.assertRaisesRegex(ValueError, '`Measurement.time`.*monotonic'):
      environment.reset()
    self.assertEqual(self._calls, [])

  def test_an_arm_is_stopped_although_no_thread_can_be_started(self):
    environment = self._make()
    environment.reset()
    stop = self.enter_context(mock.patch.object(self._arm, 'stop'))
    error = RuntimeError("can't start new thread")
    with mock.patch.object(threading.Thread, 'start', side_effect=error):
      with self.assertRaisesRegex(RuntimeError, 'new thread'):
        environment.step(np.zeros([4], np.float32))
    stop.assert_called_once()

  def test_a_driver_that_cannot_be_checked_is_named(self):
    environment = self._make()
    self._arm.observe = mock.Mock(side_effect=ConnectionRefusedError('off'))
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      environment.check()
    self.assertRegex(logs.output[0], 'could not be checked: .*off')

  def test_a_pause_before_homing_is_followed_by_another_announcement(self):
    path = os.path.join(self.create_tempdir().full_path, 'pause')
    environment = self._make(home_delay=3.0, pause_path=path)
    pauses = [path]

    def on_sleep():
      if pauses:
        open(pauses.pop(), 'w').close()
      elif os.path.exists(path):
        os.remove(path)

    self._clock.on_sleep = on_sleep
    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      environment.reset()
    said = [x for x in logs.output if 'moves home' in x]
    self.assertLen(said, 2)

  def test_sensors_may_need_the_first_motion(self):
    environment = self._make()
    observe = self._arm.observe
    self._measure([np.nan] * 4)
    home = self._arm.home
    self._arm.home = lambda random: (
        home(random), setattr(self._arm, 'observe', observe)
    )
    environment.reset()
    self.assertEqual(self._calls, ['home'])

  def test_a_run_that_acts_checks_its_robot_at_the_start(self):
    self._make(success_detector=lambda observation: self._ask())
    with self.assertRaisesRegex(EOFError, 'No terminal'):
      sources.LocalSource.check_domain(None, self._domain, evaluates=False)
    self.assertEqual(self._calls, [])

  def test_a_learner_checks_the_arm_that_it_evaluates_on(self):
    self._make(success_detector=lambda observation: self._ask())
    interruption._takes_time.set()
    self.addCleanup(interruption.take_no_time)
    check = remote_source.RemoteSource.check_domain
    with self.assertRaisesRegex(EOFError, 'No terminal'):
      check(None, self._domain, evaluates=True)
    self.assertTrue(interruption._takes_time.is_set())
    # Without evaluations it moves nothing, and ends soon after Ctrl-C.
    check(None, self._domain, evaluates=False)
    self.assertFalse(interruption._takes_time.is_set())

  def _ask(self):
    raise EOFError('No terminal.')

  def test_a_robot_in_use_is_refused_at_the_start(self):
    name = f'robot_safety_test_{os.getpid()}'
    path = arm_lock.path_of(name)
    self.addCleanup(os.remove, path)
    self._make(lock_name=name)
    # An arm that nothing uses is not reserved before it moves.
    for _ in range(2):
      sources.LocalSource.check_domain(None, self._domain, evaluates=False)
    self.assertNotIn(path, arm_lock._HELD)
    with open(path, 'w', encoding='utf-8') as file:
      arm_lock.fcntl.flock(file, arm_lock.fcntl.LOCK_EX)
      with self.assertRaisesRegex(ValueError, 'The arm is in use by process'):
        sources.LocalSource.check_domain(None, self._domain, evaluates=False)

  def test_the_first_observation_is_from_after_the_reset(self):
    environment = self._make(max_observation_age=1.0)
    # A sensor measures every second; at the reset, the latest is 0.4 s old.
    start = self._clock.now()
    self._arm.observe = lambda: arm_lib.Measurement(
        np.full([4], 0.1 * np.floor(self._clock.now() - start + 0.4)).astype(
            np.float32
        ),
        start + np.floor(self._clock.now() - start + 0.4) - 0.4,
    )
    time_step = environment.reset()
    np.testing.assert_allclose(time_step.observation[0], 0.1)

  def test_an_observation_that_stays_old_loses_the_episode(self):
    environment = self._make(max_observation_age=1.0)
    measurement = self._arm.observe()
    self._clock.sleep(0.5)
    self._arm.observe = lambda: measurement
    with self.assertRaisesRegex(
        domain.EpisodeLostError, 'at most 1 s old'
    ):
      environment.reset()

  def test_homing_is_announced(self):
    environment = self._make(home_delay=3.0)
    start = self._clock.now()
    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      environment.reset()
    self.assertIn('Robot: moves home in 3 s.', logs.output[0])
    self.assertGreaterEqual(self._clock.now() - start, 3.0)

  def test_a_reset_within_an_episode_stops_the_arm_before_it_waits(self):
    environment = self._make(home_delay=3.0)
    environment.reset()
    environment.step(np.ones(2, np.float32))
    self.assertTrue(self._arm.is_moving)
    seen = []
    self._clock.on_sleep = lambda: seen.append(self._arm.is_moving)
    environment.reset()
    self.assertNotEmpty(seen)
    self.assertNotIn(True, seen)

  def test_a_reset_after_a_failed_stop_stops_the_arm_before_it_waits(self):
    environment = self._make(home_delay=3.0)
    environment.reset()
    environment.step(np.ones(2, np.float32))
    stop, seen = self._arm.stop, []
    fails = [ConnectionError('cable'), ConnectionError('cable')]

    def fail_twice():
      if fails:
        raise fails.pop()
      stop()

    with mock.patch.object(self._arm, 'stop', fail_twice):
      with self.assertRaises(domain.EpisodeLostError):
        environment.abandon()
      with self.assertRaises(domain.EpisodeLostError):
        environment.reset()
      self._clock.on_sleep = lambda: seen.append(self._arm.is_moving)
      environment.reset()
    self.assertNotEmpty(seen)
    self.assertNotIn(True, seen)

  def test_an_action_whose_check_took_too_long_is_not_sent(self):
    def is_safe(observation, action):
      del observation, action
      self._clock.sleep(2.0)
      return True

    environment = self._make(is_safe=is_safe, max_missed_ticks=2)
    environment.reset()
    with self.assertRaisesRegex(domain.EpisodeLostError, '`is_safe` 2.0'):
      environment.step(np.ones(2, np.float32))
    self.assertEqual(self._arm.num_commands, 0)

  def test_changes_are_limited_by_dimension(self):
    environment = self._make(max_action_change=(0.5, 2.0))
    environment.reset()
    environment.step(np.array([0.0, -1.0], np.float32))
    self.assertFalse(environment.step(np.array([0.4, 1.0], np.float32)).last())
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      last = environment.step(np.array([1.0, 1.0], np.float32))
    self.assertTrue(last.last())
    self.assertRegex(logs.output[0], r'0\.600 .* dimension 0 \(.* is 0\.5\)')

  @parameterized.parameters((0.5,), ((0.5, 0.5, 0.5),), ((0.5, 0.0),))
  def test_limits_need_one_number_or_one_for_each_dimension(self, limit):
    if limit == 0.5:
      self._make(max_action_change=limit)
      return
    with self.assertRaisesRegex(ValueError, '`max_action_change` must be'):
      self._make(max_action_change=limit)


if __name__ == '__main__':
  absltest.main()
