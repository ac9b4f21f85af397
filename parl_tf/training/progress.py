"""Progress of a phase: a bar on a terminal, occasional lines elsewhere."""

import collections
import sys
import time
from typing import Any, Callable, Deque, Dict, Optional, Sequence, TextIO, Tuple

import rich.console
import rich.progress

# The estimate of the time left looks back this far, and no less than this share
# of the phase, so that it contains several evaluations.
_WINDOW_SECONDS = 20.0
_WINDOW_SHARE = 0.5
_WINDOW_PARTS = 100
# No time left is shown before either: the first steps compile functions.
_EARLY_SECONDS = 60.0
_EARLY_SHARE = 0.1
_BAR_SECONDS = 0.1
# Interval between lines: minimum seconds, share of the elapsed time, maximum.
_LINE_SECONDS = 10.0
_LINE_SHARE = 0.05
_MAX_LINE_SECONDS = 300.0
# Columns of the bar.
_MIN_BAR = 8
_MAX_BAR = 32

# The metric to show: the first of these that is available.
_SHOWN = (('success_rate', 'success'), ('held_out_loss', 'loss'))
# Success of the policy without search, shown beside that with search.
_ALONE = 'success_rate_without_search'
# Shown where neither has any success.
_RETURN = 'mean_return'


class Progress:
  """Shows steps, steps per second, time left and the latest success.

  ```
  with Progress('offline', total=4_000, start=restored_step) as progress:
    progress.update(step, success_rate=0.5)
  ```

  The bar fits on one line of the terminal. If its text is too long, the rate is
  dropped first, then the metric, then the time.
  """

  def __init__(
      self,
      phase: str,
      total: int,
      start: int = 0,
      *,
      unit: str = 'step',
      warm_up: int = 0,
      stream: Optional[TextIO] = None,
      clock: Callable[[], float] = time.monotonic,
  ):
    """Initializes the display.

    Args:
      phase: The name to show.
      total: The step at which the phase ends.
      start: The step at which this session resumes the phase.
      unit: The unit of a step, in the singular.
      warm_up: Number of first steps, which are counted separately.
      stream: Where to write; standard error by default.
      clock: Returns monotonic seconds.
    """
    self._phase = phase
    self._total = total
    self._stream = sys.stderr if stream is None else stream
    self._clock = clock
    self._step = start
    self._start_step = start
    self._unit = unit
    self._warm_up = warm_up
    self._is_over = False
    self._values: Dict[str, Any] = {}
    self._part = ''
    self._history: Deque[Tuple[float, int]] = collections.deque()
    self._bar = _Bar(phase, total, self._stream)

  def __enter__(self):
    now = self._clock()
    self._started_at = now
    if self._bar.is_possible:
      self._bar.start()
    self._show(now)
    return self

  def __exit__(self, *unused_exception):
    self._is_over = True
    self._show(self._clock())
    if self._bar.is_possible:
      self._bar.stop()

  def update(self, step: int, **values):
    """Shows that `step` is done; `values` persist until they are replaced."""
    now = self._clock()
    if self._step == self._start_step:
      # Functions are traced in the first step, which is slow.
      self._history.clear()
      self._history.append((now, step))
    self._step = step
    self._part = ''
    self._values.update(values)
    if step == self._total and not self._bar.is_possible:
      return  # The last line follows at the end of the phase.
    if now - self._shown_at >= self._pause(now):
      self._show(now)

  def show_part(self, part: str):
    """Shows what part of a long step now begins."""
    self._part = part
    now = self._clock()
    if now - self._shown_at >= self._pause(now):
      self._show(now)

  def _pause(self, now: float) -> float:
    """Returns the seconds between two lines or two redraws of the bar."""
    if self._bar.is_possible:
      return _BAR_SECONDS
    elapsed = now - self._started_at
    return min(max(_LINE_SECONDS, _LINE_SHARE * elapsed), _MAX_LINE_SECONDS)

  def _show(self, now: float):
    self._shown_at = now
    window = max(_WINDOW_SECONDS, _WINDOW_SHARE * (now - self._started_at))
    history = self._history
    if len(history) > 1 and now - history[-2][0] < window / _WINDOW_PARTS:
      history.pop()
    history.append((now, self._step))
    while len(history) > 2 and now - history[1][0] >= window:
      history.popleft()
    count, rate, time_text, value = self._parts()
    # Longest first.
    texts = [
        '  '.join(filter(None, parts))
        for parts in (
            (count, rate, time_text, value),
            (count, time_text, value),
            (count, time_text),
            (count,),
        )
    ]
    if self._bar.is_possible:
      self._bar.draw(self._step, texts)
    else:
      print(f'{self._phase}: {texts[0]}', file=self._stream, flush=True)

  def _parts(self) -> Tuple[str, str, str, str]:
    """Returns count, rate, time and latest metric; '' if one is unknown."""
    (earlier, earlier_step), (now, step) = self._history[0], self._history[-1]
    if self._is_over:
      # At the end, shows the duration of the whole phase.
      earlier, earlier_step = self._started_at, self._start_step
    seconds = now - earlier
    rate = (step - earlier_step) / seconds if seconds > 0 else 0.0
    time_text = ''
    if self._is_over:
      time_text = f'in {_duration(seconds)}'
    elif rate and not self._is_early(now):
      time_text = f'{_duration((self._total - step) / rate)} left'
    value = ''
    for name, label in _SHOWN:
      if name in self._values:
        value = f'{label} {float(self._values[name]):.3f}'
        if name == 'success_rate' and _ALONE in self._values:
          value += f' ({float(self._values[_ALONE]):.3f} alone)'
        if name == 'success_rate' and _RETURN in self._values:
          if not any(self._values.get(x, 0.0) for x in (name, _ALONE)):
            value += f', return {float(self._values[_RETURN]):.1f}'
        break
    if self._step < self._warm_up:
      count = f'warm-up {self._step}/{self._warm_up}'
    else:
      count = f'{self._step - self._warm_up}/{self._total - self._warm_up}'
    if self._part and not self._is_over:
      count += f', {self._part}'
    return count, _rate(rate, self._unit), time_text, value

  def _is_early(self, now: float) -> bool:
    share = (self._step - self._start_step) / (self._total - self._start_step)
    return now - self._started_at < _EARLY_SECONDS and share < _EARLY_SHARE


class _Bar:
  """A bar with text, at most as wide as the terminal.

  Attributes:
    is_possible: Whether the stream can redraw a line.
  """

  def __init__(self, name: str, total: int, stream: TextIO):
    console = rich.console.Console(file=stream)
    self.is_possible = stream.isatty() and not console.is_dumb_terminal
    self._name = name
    self._console = console
    self._column = rich.progress.BarColumn(_MIN_BAR)
    self._display = rich.progress.Progress(
        rich.progress.TextColumn('{task.description}'),
        self._column,
        rich.progress.TextColumn('{task.fields[text]}', markup=False),
        console=console,
    )
    self._task = self._display.add_task(name, total=total, text='')

  def start(self):
    self._display.start()

  def stop(self):
    self._display.stop()

  def draw(self, step: int, texts: Sequence[str]):
    """Draws the first text that leaves room for a bar."""
    # One space follows the name, another the bar.
    room = self._console.width - len(self._name) - 2
    for text in texts:
      if len(text) + _MIN_BAR <= room:
        break
    self._column.bar_width = min(max(room - len(text), 1), _MAX_BAR)
    self._display.update(self._task, completed=step, text=text)


def _rate(rate: float, unit: str) -> str:
  """Returns steps per second, or seconds per step if steps are slow."""
  if not rate:
    return ''
  if rate < 1.0:
    return f'{1.0 / rate:.1f} s/{unit}'
  return f'{rate:.0f} {unit}s/s' if rate >= 100 else f'{rate:.3g} {unit}s/s'


def _duration(seconds: float) -> str:
  minutes, seconds = divmod(int(round(seconds)), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes:02d}:{seconds:02d}'
