"""Tests of the schedule and the watchdog."""

import threading
import time
from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.domains import robot_rate
from tests.domains import manual_clock


class ScheduleTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._clock = manual_clock.ManualClock()  # Starts at 100 s.
    self._schedule = robot_rate.Schedule(4.0, self._clock)

  def _wait(self, work):
    """Works for some seconds, waits, and returns the time of the tick."""
    self._clock.sleep(work)
    self._schedule.wait()
    return self._clock.time

  def test_ticks_stay_on_the_grid_however_long_the_work_takes(self):
    # 4 Hz: 100.25, 100.5, 100.75, 101.
    ticks = [self._wait(work) for work in (0.0, 0.125, 0.2, 0.01)]
    for tick, wanted in zip(ticks, (100.25, 100.5, 100.75, 101.0), strict=True):
      self.assertAlmostEqual(tick, wanted, places=9)
    self.assertEqual(self._schedule.num_missed_ticks, 0)
    self.assertEqual(self._schedule.worst_lateness, 0.0)

  def test_a_missed_tick_is_counted_and_skipped(self):
    self._wait(0.0)
    # Due at 100.5, ready at 100.875: 0.375 s late, with two ticks passed.
    self.assertEqual(self._wait(0.625), 101.0)
    self.assertEqual(self._schedule.missed_ticks, 2)
    self.assertEqual(self._schedule.lateness, 0.375)
    # The next step has a full period.
    self.assertEqual(self._wait(0.125), 101.25)
    self.assertEqual(self._schedule.missed_ticks, 0)
    self.assertEqual(self._schedule.lateness, 0.0)
    self.assertEqual(self._schedule.num_missed_ticks, 2)
    self.assertEqual(self._schedule.worst_lateness, 0.375)

  def test_consecutive_missed_ticks_count_from_the_last_tick_on_time(self):
    self._wait(0.3)
    self.assertEqual(self._schedule.missed_in_a_row(), 0)
    self._clock.sleep(0.6)
    self.assertEqual(self._schedule.missed_in_a_row(), 3)  # 1, then 2.
    self._schedule.wait()
    self._wait(0.1)
    self._clock.sleep(0.3)
    self.assertEqual(self._schedule.missed_in_a_row(), 1)

  def test_a_late_wakeup_makes_the_next_step_late(self):
    self._clock.on_sleep = lambda: setattr(
        self._clock, 'time', self._clock.time + 0.5
    )
    self._schedule.wait()  # Due at 100.25; wakes up at 100.75.
    self.assertEqual(self._schedule.missed_in_a_row(), 2)

  def test_ticks_before_resuming_are_not_missed(self):
    self._wait(0.4)
    self._clock.sleep(60.0)
    self._schedule.resume()  # At 160.5.
    self.assertEqual(self._schedule.missed_in_a_row(), 0)
    self.assertEqual(self._wait(0.0), 160.75)
    self.assertEqual(self._schedule.num_missed_ticks, 1)
    self._schedule.begin()
    self.assertEqual(self._schedule.num_missed_ticks, 0)


class WatchdogTest(absltest.TestCase):

  def test_it_calls_the_function_unless_disarmed(self):
    calls = []
    called = threading.Event()
    disarmed = robot_rate.Watchdog(0.05, lambda: calls.append('disarmed'))
    armed = robot_rate.Watchdog(
        0.1, lambda: (calls.append('armed'), called.set())
    )
    for watchdog in (disarmed, armed):
      watchdog.arm()
    disarmed.disarm()
    self.assertTrue(called.wait(30.0))
    self.assertEqual(calls, ['armed'])

  def test_a_terminal_that_accepts_no_output_delays_nothing(self):
    called, is_read = threading.Event(), threading.Event()
    self.addCleanup(is_read.set)
    with mock.patch.object(
        robot_rate.logging, 'warning', lambda *_: is_read.wait(30.0)
    ):
      robot_rate.Watchdog(0.01, called.set).arm()
      self.assertTrue(called.wait(10.0))

  def test_a_function_that_raises_is_called_ten_times(self):
    calls, last = [], threading.Event()

    def fail():
      calls.append(time.monotonic())
      if len(calls) == 10:
        last.set()
      raise OSError('no connection')

    robot_rate.Watchdog(0.01, fail).arm()
    self.assertTrue(last.wait(30.0))
    time.sleep(0.05)
    self.assertLen(calls, 10)
    self.assertGreaterEqual(min(np.diff(calls)), 0.01)

  def test_arming_again_restarts_the_time(self):
    called = threading.Event()
    watchdog = robot_rate.Watchdog(0.5, called.set)
    start = time.monotonic()
    watchdog.arm()
    time.sleep(0.2)
    watchdog.arm()
    self.assertTrue(called.wait(30.0))
    self.assertGreaterEqual(time.monotonic() - start, 0.7)

  def test_disarming_waits_for_a_call_in_progress(self):
    begun, may_end = threading.Event(), threading.Event()
    ended = []

    def stop():
      begun.set()
      may_end.wait(30.0)
      ended.append(True)

    watchdog = robot_rate.Watchdog(0.01, stop)
    watchdog.arm()
    self.assertTrue(begun.wait(30.0))
    threading.Timer(0.05, may_end.set).start()
    watchdog.disarm()
    self.assertEqual(ended, [True])


if __name__ == '__main__':
  absltest.main()
