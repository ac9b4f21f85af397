"""Tests of the robot domain on a simulated arm and a manual clock."""

import os
import threading
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from examples.robot import simulated_arm
from parl_tf.datasets import generate
from parl_tf.domains import arm
from parl_tf.domains import domain as domain_lib
from parl_tf.training import evaluation
from tests.domains import domain_conformance
from tests.domains import manual_clock
from tests.domains import robot_gin

_STILL = np.zeros(2, np.float32)


class RobotConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    clock = manual_clock.ManualClock()
    self.addCleanup(gin.clear_config)
    return robot_gin.make_domain(
        lambda: simulated_arm.SimulatedArm(
            # Powers of two, so that times are exact at any time of day.
            latency=1.0 / 16.0, drop_rate=0.2, clock=clock
        ),
        controller_ctor=simulated_arm.Demonstrator,
        max_episode_steps=12,
        clock_ctor=lambda: clock,
        control_rate=4.0,
        is_safe=simulated_arm.stays_on_table,
    )


class RobotTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._clock = manual_clock.ManualClock()
    self.addCleanup(gin.clear_config)

  def _make(self, **options):
    """Returns an environment whose arm reacts immediately."""
    self._arm = simulated_arm.SimulatedArm(
        latency=0.0, drop_rate=0.0, clock=self._clock
    )
    options = {
        'control_rate': 4.0, 'clock_ctor': lambda: self._clock, **options
    }
    self._domain = robot_gin.make_domain(lambda: self._arm, **options)
    environment = self._domain.make_environment(seed=3, evaluation=False)
    self.addCleanup(environment.close)
    return environment

  def _go_to_goal(self, environment):
    demonstrator = simulated_arm.Demonstrator()
    time_steps = [environment.reset()]
    while not time_steps[-1].last():
      action = demonstrator.action(time_steps[-1], environment)
      time_steps.append(environment.step(action))
    return time_steps

  def test_success_ends_the_episode_with_reward_1_and_discount_0(self):
    environment = self._make()
    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      *before, last = self._go_to_goal(environment)
    self.assertTrue(environment.is_success())
    self.assertEqual((last.reward, last.discount), (1.0, 0.0))
    for time_step in before[1:]:
      self.assertEqual((time_step.reward, time_step.discount), (0.0, 1.0))
    self.assertFalse(self._arm.is_moving)
    self.assertRegex(
        logs.output[-1],
        rf'success after {len(before)} steps; 0 ticks missed, worst lateness'
        r' 0\.000 s',
    )

  def test_an_action_in_driver_units_holds_for_one_period(self):
    environment = self._make()
    start = environment.reset().observation
    after = environment.step(np.array([1.0, -0.5], np.float32)).observation
    # 0.25 m/s and -0.125 m/s for 0.25 s.
    np.testing.assert_allclose(
        after - start, [0.0625, -0.03125, 0.25, -0.125], atol=1e-6
    )

  def test_the_first_action_has_no_time_limit(self):
    environment = self._make(max_missed_ticks=0)
    environment.reset()
    self._clock.sleep(60.0)
    environment.step(_STILL)
    self.assertEqual(environment.info()['missed_ticks'], 0)

  def test_lateness_is_reported_per_step_and_per_episode(self):
    environment = self._make(max_episode_steps=3)
    environment.reset()
    environment.step(_STILL)
    self._clock.sleep(0.625)  # 0.375 s after the tick; 0.5 s pass one more.
    environment.step(_STILL)
    self.assertEqual(environment.info()['missed_ticks'], 2)
    self.assertAlmostEqual(environment.info()['lateness'], 0.375, places=6)
    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      self.assertTrue(environment.step(_STILL).last())
    self.assertEqual(environment.info()['missed_ticks'], 0)
    self.assertRegex(
        logs.output[-1],
        r'no success after 3 steps; 2 ticks missed, worst lateness 0\.375 s',
    )

  def test_too_many_missed_ticks_lose_the_episode_and_stop_the_arm(self):
    environment = self._make(max_missed_ticks=2)
    environment.reset()
    for work in (0.3, 0.3):
      environment.step(np.ones(2, np.float32))
      self._clock.sleep(work)
    sent = self._arm.num_commands
    self._clock.sleep(0.5)
    with self.assertRaisesRegex(
        domain_lib.EpisodeLostError, 'but 4 were missed.*policy 0.800 s'
    ):
      environment.step(np.ones(2, np.float32))
    self.assertEqual(self._arm.num_commands, sent)
    self.assertFalse(self._arm.is_moving)
    self.assertTrue(environment.step(_STILL).first())

  def test_old_observations_lose_the_episode_and_stop_the_arm(self):
    environment = self._make(max_observation_age=0.6)
    environment.reset()
    environment.step(np.ones(2, np.float32))
    self._arm.drop_rate = 1.0
    environment.step(np.ones(2, np.float32))
    environment.step(np.ones(2, np.float32))
    self.assertAlmostEqual(
        environment.info()['observation_age'], 0.5, places=6
    )
    with self.assertRaisesRegex(
        domain_lib.EpisodeLostError, r'at most 0\.6 s old .*, got 0\.750 s'
    ):
      environment.step(np.ones(2, np.float32))
    self.assertFalse(self._arm.is_moving)

  def test_a_lost_episode_is_repeated(self):
    environment = self._make(max_observation_age=0.6)

    def act():
      attempts.append(True)
      environment.seed(1)
      environment.reset()
      self._arm.drop_rate = 1.0 if len(attempts) == 1 else 0.0
      return [environment.step(_STILL).observation for _ in range(4)]

    attempts = []
    observations = domain_lib.act_until_kept(act)
    self.assertLen(attempts, 2)
    self.assertLen(observations, 4)

  @parameterized.named_parameters(
      ('refused', dict(is_safe=lambda observation, action: action[0] < 0.2),
        '`is_safe` rejected it'),
      ('jump', dict(max_action_change=0.5),
       r'by 1\.000 .* dimension 0 \(`max_action_change` is 0\.5\)'),
  )
  def test_an_unsafe_action_is_not_sent_and_ends_the_episode(
      self, options, message
  ):
    environment = self._make(**options)
    environment.reset()
    environment.step(np.array([0.4, 0.5], np.float32))
    before = environment.step(np.array([0.0, 0.5], np.float32))
    self.assertTrue(self._arm.is_moving)
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      last = environment.step(np.array([1.0, 0.5], np.float32))
    self.assertRegex(logs.output[0], message)
    self.assertEqual(self._arm.num_commands, 2)
    self.assertFalse(self._arm.is_moving)
    self.assertTrue(last.last())
    self.assertEqual((last.reward, last.discount), (0.0, 1.0))
    np.testing.assert_array_equal(last.observation, before.observation)
    self.assertFalse(environment.is_success())

  @parameterized.parameters(KeyboardInterrupt, ConnectionError)
  def test_any_exception_stops_the_arm(self, error):
    environment = self._make()
    environment.reset()
    environment.step(np.ones(2, np.float32))

    def fail():
      raise error

    self._clock.on_sleep = fail
    with self.assertRaises(error):
      environment.step(np.ones(2, np.float32))
    self._clock.on_sleep = lambda: None
    self.assertFalse(self._arm.is_moving)

  def test_if_stopping_fails_it_is_tried_again_and_the_first_error_is_kept(
      self,
  ):
    stop, tries = simulated_arm.SimulatedArm.stop, []
    stopped = threading.Event()

    def fail_twice(robot):
      tries.append(True)
      if len(tries) < 3:
        raise OSError('no connection')
      stop(robot)
      stopped.set()

    with mock.patch.object(simulated_arm.SimulatedArm, 'stop', fail_twice):
      # The watchdog waits for (0 + 2) / 20 s.
      environment = self._make(control_rate=20.0, max_missed_ticks=0)
      environment.reset()
      environment.step(np.ones(2, np.float32))
      with self.assertRaisesRegex(ValueError, 'finite'):
        environment.step(np.full(2, np.nan, np.float32))
      self.assertTrue(stopped.wait(30.0))
    self.assertLen(tries, 3)
    self.assertFalse(self._arm.is_moving)

  def test_the_first_action_is_checked_with_a_new_observation(self):
    seen = []

    def is_safe(observation, action):
      del action
      seen.append(observation)
      return True

    environment = self._make(is_safe=is_safe)
    first = environment.reset().observation
    moved = first + 1.0
    measure = self._arm.observe
    self._arm.observe = lambda: arm.Measurement(moved, measure().time)
    environment.step(_STILL)
    np.testing.assert_array_equal(seen, [moved])

  def test_a_recording_that_ends_within_an_episode_stops_the_arm(self):
    environment = self._make()
    recordings = list(
        generate.generate(
            environment,
            simulated_arm.Demonstrator(),
            num_steps=2,
            min_noise=0.0,
            max_noise=0.0,
            seed=0,
        )
    )
    self.assertEqual([x.episode.num_steps for x in recordings], [2])
    self.assertGreater(self._arm.num_commands, 0)
    self.assertFalse(self._arm.is_moving)

  def test_an_invalid_action_stops_the_arm(self):
    environment = self._make()
    environment.reset()
    environment.step(np.ones(2, np.float32))
    with self.assertRaisesRegex(ValueError, 'finite'):
      environment.step(np.full(2, np.nan, np.float32))
    self.assertFalse(self._arm.is_moving)

  def test_a_task_solved_at_the_start_is_reset_again(self):
    resets = []
    environment = self._make(
        reset_hook=lambda: resets.append(True),
        success_detector=lambda observation: len(resets) == 1,
    )
    with self.assertRaisesRegex(domain_lib.EpisodeLostError, 'Arrange'):
      environment.reset()
    self.assertFalse(environment.reset().last())
    self.assertLen(resets, 2)

  def test_a_pause_stops_the_arm_and_misses_no_ticks(self):
    path = os.path.join(self.create_tempdir().full_path, 'pause')
    environment = self._make(pause_path=path, max_missed_ticks=0)
    environment.reset()
    environment.step(np.ones(2, np.float32))
    moved = []

    def look():
      moved.append(self._arm.is_moving)
      if len(moved) == 1:
        open(path, 'w').close()
      if self._clock.time > 130.0:
        os.remove(path)

    # The first sleep is within the step, while its command still holds.
    self._clock.on_sleep = look
    observation = environment.step(np.ones(2, np.float32)).observation
    self.assertTrue(moved[0])
    self.assertFalse(any(moved[1:]))
    self.assertGreater(self._clock.time, 130.0)
    np.testing.assert_array_equal(observation[2:], [0.0, 0.0])
    self._clock.on_sleep = lambda: None
    environment.step(_STILL)
    self.assertEqual(environment.info()['missed_ticks'], 0)

  @parameterized.parameters(0, 1)
  def test_a_pause_while_the_policy_decides_delays_the_action(self, num_steps):
    path = os.path.join(self.create_tempdir().full_path, 'pause')
    seen, moved = [], []
    environment = self._make(
        pause_path=path,
        is_safe=lambda observation, action: seen.append(observation) or True,
    )
    environment.reset()
    for _ in range(num_steps):
      environment.step(np.ones(2, np.float32))
    open(path, 'w').close()

    def look():
      if os.path.exists(path):
        moved.append(self._arm.is_moving)
        if self._clock.time > 130.0:
          os.remove(path)

    self._clock.on_sleep = look
    environment.step(np.ones(2, np.float32))
    self.assertGreater(self._clock.time, 130.0)
    self.assertEqual(set(moved), {False})
    np.testing.assert_array_equal(seen[-1][2:], [0.0, 0.0])  # It stood still.
    self.assertEqual(environment.info()['missed_ticks'], 0)

  def test_a_pause_also_delays_resets(self):
    path = os.path.join(self.create_tempdir().full_path, 'pause')
    hooks = []

    def go_on():
      if os.path.exists(path):
        os.remove(path)
        hooks.append('pause')

    self._clock.on_sleep = go_on
    open(path, 'w').close()
    environment = self._make(
        pause_path=path,
        reset_hook=lambda: (hooks.append('reset'), open(path, 'w').close()),
    )
    environment.reset()
    self.assertEqual(hooks, ['pause', 'reset', 'pause'])

  def test_an_evaluation_plays_several_episodes(self):
    self._make()
    sizes = []

    def act(observation, seed):
      del seed
      sizes.append(len(observation))
      velocity = (simulated_arm.GOAL - observation[:, :2]) / 0.5
      return np.clip(velocity / 0.25, -1.0, 1.0)

    result = evaluation.Evaluator(
        self._domain, num_episodes=3, seed=0
    ).run(act)
    self.assertEqual(result.success_rate, 1.0)
    self.assertEqual(set(sizes), {1})
    starts = [e.observation[0, 0] for e in result.episodes]
    self.assertLen(set(starts), 3)

  def test_a_measurement_time_of_another_clock_is_an_error(self):
    environment = self._make()
    environment.reset()
    environment.step(_STILL)
    # The measurement is then in the future.
    self._clock.on_sleep = lambda: setattr(self._clock, 'time', 50.0)
    with self.assertRaisesRegex(ValueError, '`Measurement.time`.*monotonic'):
      environment.step(_STILL)

  def test_value_of_never_succeeding_sums_the_bias(self):
    domain = robot_gin.make_domain(simulated_arm.SimulatedArm)
    # -1 / (1 - 0.99)
    self.assertAlmostEqual(domain.never_succeeds_value(0.99), -100.0)
    self.assertSequenceAlmostEqual(domain.value_range(0.99), (-100.0, 0.0))
    np.testing.assert_allclose(
        domain.raw_action_bounds, [[-0.25] * 2, [0.25] * 2]
    )

  @parameterized.parameters(
      ('control_rate', 0.0),
      ('max_action_change', 0.0),
      ('max_missed_ticks', -1),
      ('max_observation_age', 0.0),
      ('max_episode_steps', 0),
      ('reward_scale', 0.0),
  )
  def test_an_argument_out_of_range_is_named(self, name, value):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be'):
      self._make(**{name: value})


if __name__ == '__main__':
  absltest.main()
