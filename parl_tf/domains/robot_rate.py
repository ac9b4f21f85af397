"""Acting at a fixed rate: a clock, its ticks, and what happens without them."""

import math
import threading
import time
from typing import Callable


class Clock:
  """The seconds of this machine that never go back: `time.monotonic`."""

  def now(self) -> float:
    """Returns the present time, in seconds."""
    return time.monotonic()

  def sleep(self, seconds: float) -> None:
    """Returns after `seconds`."""
    time.sleep(seconds)


class Schedule:
  """Ticks on an absolute grid, so that no error adds up.

  A tick is due one period after the last one. Whoever waits for it too late has
  missed it, and every other that passed: the next tick of the grid is waited
  for, and none is made up for.

  Attributes:
    lateness: Seconds after the due tick at which the last wait began, or 0.
    missed_ticks: Ticks that were missed before the last wait.
    num_missed_ticks: All that were missed since `begin`.
    worst_lateness: The largest `lateness` since `begin`.
  """

  def __init__(self, rate: float, clock: Clock):
    """Makes a schedule; `begin` starts it.

    Args:
      rate: Ticks a second.
      clock: What tells the time.
    """
    self._rate = rate
    self._clock = clock
    self.begin()

  def begin(self) -> None:
    """Makes the present the first tick and forgets what was missed."""
    self.lateness, self.worst_lateness = 0.0, 0.0
    self.missed_ticks, self.num_missed_ticks = 0, 0
    self._missed_in_a_row = 0
    self.resume()

  def resume(self) -> None:
    """Makes the present the last tick: what passed before it is not missed."""
    self._start = self._clock.now()
    self._tick = 0  # Number of the last one since `_start`.

  def missed_in_a_row(self) -> int:
    """Returns how many ticks, up to now, were missed one after another."""
    return self._in_a_row(self._missed(self._clock.now()))

  def wait(self) -> None:
    """Returns at the next tick."""
    now = self._clock.now()
    missed = self._missed(now)
    due = self._start + (self._tick + 1) / self._rate
    self.lateness = max(0.0, now - due)
    self.worst_lateness = max(self.worst_lateness, self.lateness)
    self.missed_ticks = missed
    self.num_missed_ticks += missed
    self._missed_in_a_row = self._in_a_row(missed)
    self._tick += missed + 1
    self._clock.sleep(max(0.0, self._start + self._tick / self._rate - now))

  def _missed(self, now: float) -> int:
    passed = math.floor((now - self._start) * self._rate)
    return max(0, passed - self._tick)

  def _in_a_row(self, missed: int) -> int:
    return self._missed_in_a_row + missed if missed else 0


class Watchdog:
  """Calls a function, in a thread of its own, unless it is disarmed in time.

  The interpreter waits for it at its end, so that an error elsewhere does not
  keep it from being called.
  """

  def __init__(self, seconds: float, function: Callable[[], None]):
    """Makes a watchdog, which is not armed.

    Args:
      seconds: Real ones, from `arm` to the call.
      function: What is called.
    """
    self._seconds = seconds
    self._function = function
    self._lock = threading.Lock()
    self._timer = None

  def arm(self) -> None:
    """Has the function called after the time from now, unless disarmed."""
    self.disarm()
    self._timer = threading.Timer(self._seconds, self._call)
    self._timer.start()

  def disarm(self) -> None:
    """Keeps the function from being called; one under way is waited for."""
    with self._lock:
      if self._timer is not None:
        self._timer.cancel()
      self._timer = None

  def _call(self) -> None:
    with self._lock:
      if self._timer is threading.current_thread():
        self._function()
