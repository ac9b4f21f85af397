"""Progress of one phase: a bar on a terminal, else a line now and then."""

import collections
import sys
import time
from typing import Callable, Optional, TextIO

import rich.console
import rich.progress

_WINDOW_SECONDS = 20.0
_LINE_SECONDS = 10.0
_BAR_SECONDS = 0.1


class Progress:
  """Shows steps, steps per second, time left and the latest metrics.

  ```
  with Progress('offline', total=4_000, start=restored_step) as progress:
    progress.update(step, **{'losses/critic': loss})
  ```
  """

  def __init__(
      self,
      phase: str,
      total: int,
      start: int = 0,
      *,
      stream: Optional[TextIO] = None,
      clock: Callable[[], float] = time.monotonic,
  ):
    """Initializes the display.

    Args:
      phase: The name to show.
      total: The step at which the phase ends.
      start: The step at which this session takes the phase up.
      stream: Where to write; standard error by default.
      clock: Seconds that never go back.
    """
    self._phase = phase
    self._total = total
    self._stream = sys.stderr if stream is None else stream
    self._clock = clock
    self._step = start
    self._start_step = start
    self._values = {}
    # The rate is that of a window, so that tracing at the start wears off.
    self._history = collections.deque()
    self._bar = _make_bar(self._stream)
    self._task = None
    self._shown_at = None

  def __enter__(self):
    now = self._clock()
    self._started_at = self._shown_at = now
    self._history.append((now, self._step))
    if self._bar is not None:
      self._bar.start()
      self._task = self._bar.add_task(
          self._phase, total=self._total, completed=self._step, status=''
      )
    return self

  def __exit__(self, *unused_exception):
    self._show(self._clock())
    if self._bar is not None:
      self._bar.stop()

  def update(self, step: int, **values):
    """Notes that `step` is done; `values` stay until they are given again."""
    now = self._clock()
    self._step = step
    self._values.update(values)
    pause = _LINE_SECONDS if self._bar is None else _BAR_SECONDS
    if now - self._shown_at >= pause:
      self._show(now)

  def _show(self, now: float):
    self._shown_at = now
    self._history.append((now, self._step))
    while len(self._history) > 2 and (
        now - self._history[1][0] >= _WINDOW_SECONDS
    ):
      self._history.popleft()
    if self._bar is None:
      print(
          f'{self._phase}: {self._step}/{self._total}  {self._status()}',
          file=self._stream,
          flush=True,
      )
    else:
      self._bar.update(
          self._task, completed=self._step, status=self._status()
      )

  def _status(self) -> str:
    (earlier, earlier_step), (now, step) = self._history[0], self._history[-1]
    rate = (step - earlier_step) / (now - earlier) if now > earlier else 0.0
    if self._step >= self._total:
      # At the end, what the whole phase took is of more use.
      elapsed = now - self._started_at
      rate = (step - self._start_step) / elapsed if elapsed > 0 else 0.0
      time_text = f'{_duration(elapsed)} taken'
    else:
      left = (self._total - step) / rate if rate else None
      time_text = f'{"--:--" if left is None else _duration(left)} left'
    parts = [f'{rate:.3g} steps/s', time_text]
    parts += [f'{k}={float(v):.4g}' for k, v in self._values.items()]
    return '  '.join(parts)


def _make_bar(stream: TextIO) -> Optional[rich.progress.Progress]:
  """Returns a bar, or None where `stream` cannot draw over a line again."""
  console = rich.console.Console(file=stream)
  if not stream.isatty() or console.is_dumb_terminal:
    return None
  return rich.progress.Progress(
      rich.progress.TextColumn('{task.description}'),
      rich.progress.BarColumn(bar_width=24),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TextColumn('{task.fields[status]}', markup=False),
      console=console,
  )


def _duration(seconds: float) -> str:
  minutes, seconds = divmod(int(round(seconds)), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes:02d}:{seconds:02d}'
