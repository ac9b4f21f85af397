"""Timing of a fixed control rate: a clock, a schedule and a watchdog."""

import contextlib
import math
import threading
import time
from typing import Callable, Dict, Iterator, Optional

from absl import logging

_NUM_CALLS = 10  # of a watchdog's function, if it raises


class Clock:
  """The monotonic clock of this machine, `time.monotonic`."""

  def now(self) -> float:
    """Returns the current time in seconds."""
    return time.monotonic()

  def sleep(self, seconds: float) -> None:
    """Waits for `seconds`."""
    time.sleep(seconds)


class Stopwatch:
  """Notes how many seconds the parts of a control step take.

  Attributes:
    seconds: The latest duration of each part.
  """

  def __init__(self, clock: Clock):
    self._clock = clock
    self.seconds: Dict[str, float] = {}

  @contextlib.contextmanager
  def timed(self, name: str) -> Iterator[None]:
    """Notes the duration of its context, unless that raises."""
    start = self._clock.now()
    yield
    self.seconds[name] = self._clock.now() - start

  def describe(self) -> str:
    """Returns all durations as text."""
    return ', '.join(f'{x} {y:.3f} s' for x, y in self.seconds.items())


class Schedule:
  """Ticks on an absolute grid, so that timing errors do not accumulate.

  A tick is due one period after the last one. A caller that calls `wait` too
  late misses that tick and any others that have passed. It then waits for the
  next tick of the grid; missed ticks are not made up for.

  Attributes:
    lateness: Seconds by which the last wait started after the due tick, or 0.
    missed_ticks: Number of ticks missed before the last wait.
    num_missed_ticks: Total number of ticks missed since `begin`.
    worst_lateness: Maximum `lateness` since `begin`.
  """

  def __init__(self, rate: float, clock: Clock):
    """Initializes and starts the schedule.

    Args:
      rate: Ticks per second.
      clock: Clock to use.
    """
    self._rate = rate
    self._clock = clock
    self.begin()

  def begin(self) -> None:
    """Makes the current time the first tick and resets all statistics."""
    self.lateness, self.worst_lateness = 0.0, 0.0
    self.missed_ticks, self.num_missed_ticks = 0, 0
    self._missed_in_a_row = 0
    self.resume()

  def resume(self) -> None:
    """Restarts the grid at the current time, so no earlier tick is missed."""
    self._start = self._clock.now()
    self._tick = 0  # Index of the last tick since `_start`.

  def missed_in_a_row(self) -> int:
    """Returns the number of consecutive ticks missed up to now."""
    return self._in_a_row(self._missed(self._clock.now()))

  def wait(self) -> None:
    """Waits for the next tick."""
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
  """Calls a function in a separate thread unless disarmed in time.

  At exit, the interpreter waits for the thread, so an error elsewhere does not
  prevent the call. If the function raises, it is called again after the same
  time, ten times in all.
  """

  def __init__(self, seconds: float, function: Callable[[], None]):
    """Initializes a disarmed watchdog.

    Args:
      seconds: Time from `arm` to the call, on the real clock.
      function: Function to call.
    """
    self._seconds = seconds
    self._function = function
    self._lock = threading.Lock()
    self._timer: Optional[threading.Timer] = None

  def arm(self) -> None:
    """Restarts the time until the call.

    Raises:
      RuntimeError: If no thread can be started; an earlier time still runs.
    """
    with self._lock:
      before = self._timer
      self._start(_NUM_CALLS)
      if before is not None:
        before.cancel()

  @contextlib.contextmanager
  def stopping(self) -> Iterator[None]:
    """Watches while the arm is stopped: calls if that fails or hangs."""
    try:
      self.arm()
    except RuntimeError:  # The arm must be stopped all the same.
      logging.exception('Robot: the watchdog cannot watch the arm.')
    yield
    self.disarm()

  def disarm(self) -> None:
    """Cancels the call; waits for one already in progress."""
    with self._lock:
      if self._timer is not None:
        self._timer.cancel()
      self._timer = None

  def _start(self, num_calls: int) -> None:
    timer = threading.Timer(self._seconds, self._call, [num_calls])
    timer.start()
    self._timer = timer

  def _announce(self) -> None:
    logging.warning(
        'Robot: nothing happened for %g s, so that the watchdog stops the arm.'
        ' If it still moves, press the emergency stop.',
        self._seconds,
    )

  def _call(self, num_calls: int) -> None:
    with self._lock:
      if self._timer is not threading.current_thread():
        return
      # From a thread of its own: a terminal that accepts no output, or a
      # `stop` that hangs as the driver does, must delay nothing.
      threading.Thread(target=self._announce, daemon=True).start()
      try:
        self._function()
      except Exception:  # noqa: BLE001 (the driver's, whatever it is)
        if num_calls > 1:
          self._start(num_calls - 1)
        logging.exception('Robot: the watchdog could not stop the arm.')
