import io
import os
import pty
import re
from unittest import mock

from absl.testing import absltest

from parl_tf.training import progress


class _Clock:

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


class ProgressTest(absltest.TestCase):

  def test_lines_are_logged_every_ten_seconds_without_a_terminal(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress(
        'offline', 120, start=20, stream=stream, clock=clock
    ) as display:
      for step in range(21, 121):
        clock.now += 0.25  # Four steps per second.
        display.update(step, success_rate=step / 200)
    self.assertEqual(
        stream.getvalue().splitlines(),
        [
            'offline: 20/120',
            'offline: 60/120  4 steps/s  00:15 left  success 0.300',
            'offline: 100/120  4 steps/s  00:05 left  success 0.500',
            'offline: 120/120  4 steps/s  in 00:25  success 0.600',
        ],
    )

  def test_parts_of_long_steps_are_shown(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress(
        'online', 2, unit='epoch', stream=stream, clock=clock
    ) as display:
      display.show_part('collecting')  # Too soon after the first line.
      for step in (1, 2):
        clock.now += 50.0
        display.show_part('fitting')
        clock.now += 50.0
        display.update(step)
    self.assertEqual(
        stream.getvalue().splitlines(),
        [
            'online: 0/2',
            'online: 0/2, fitting',
            'online: 1/2',
            'online: 1/2, fitting',
            'online: 2/2  100.0 s/epoch  in 03:20',
        ],
    )

  def test_the_time_left_of_the_first_steps_is_not_shown(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress('online', 100, stream=stream, clock=clock) as p:
      for step, seconds in ((1, 5.0), (2, 20.0), (3, 20.0), (4, 20.0)):
        clock.now += seconds
        p.update(step)
    lines = stream.getvalue().splitlines()[1:-1]
    self.assertEqual(['left' in line for line in lines], [False, False, True])
    self.assertStartsWith(lines[-1], 'online: 4/100')

  def test_success_of_the_policy_alone_is_shown_and_the_end_only_once(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress('online', 1, stream=stream, clock=clock) as display:
      clock.now += 60.0
      display.update(1, success_rate=1.0, success_rate_without_search=0.25)
    self.assertEqual(
        stream.getvalue().splitlines()[1:],
        ['online: 1/1  60.0 s/step  in 01:00  success 1.000 (0.250 alone)'],
    )

  def test_without_any_success_the_return_is_shown(self):
    for rates, ending in (
        ((0.0, 0.0), 'success 0.000 (0.000 alone), return -801.2'),
        ((0.0, 0.5), 'success 0.000 (0.500 alone)'),
    ):
      stream, clock = io.StringIO(), _Clock()
      with progress.Progress('online', 1, stream=stream, clock=clock) as p:
        p.update(
            1,
            success_rate=rates[0],
            success_rate_without_search=rates[1],
            mean_return=-801.23,
        )
      self.assertEndsWith(stream.getvalue().splitlines()[-1], ending)

  def test_the_time_left_hardly_depends_on_when_evaluations_happen(self):
    clock, stream = _Clock(), io.StringIO()
    with progress.Progress('online', 100, stream=stream, clock=clock) as p:
      for step in range(1, 101):
        clock.now += 26.0 if step % 10 == 0 else 1.0  # 3.5 s on average
        p.update(step)
    for line in stream.getvalue().splitlines()[5:-1]:
      step = int(re.match(r'online: (\d+)/', line)[1])
      minutes, seconds = re.search(r'(\d+):(\d+) left', line).groups()
      left = 60 * int(minutes) + int(seconds)
      self.assertBetween(left / (3.5 * (100 - step)), 0.7, 1.3, line)

  def test_a_long_phase_has_few_lines(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress('offline', 43_200, stream=stream, clock=clock) as p:
      for step in range(43_200):  # The seconds in twelve hours.
        clock.now += 1.0
        p.update(step)
    # 20 lines up to 200 s, a twentieth more time each up to 6,000 s: 70 lines,
    # then one in 5 minutes: 124.
    self.assertBetween(stream.getvalue().count('\n'), 200, 220)

  def test_rate_forgets_a_slow_start(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress('online', 1_000, stream=stream, clock=clock) as p:
      clock.now += 60.0  # Tracing.
      p.update(1)
      for step in range(2, 202):
        clock.now += 0.2
        p.update(step)
    self.assertIn('5 steps/s', stream.getvalue().splitlines()[-2])

  def test_slow_steps_are_shown_as_seconds_each(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress(
        'online', 4, unit='episode', stream=stream, clock=clock
    ) as display:
      clock.now += 10.0
      display.update(4)
    self.assertEqual(
        stream.getvalue().splitlines()[-1],
        'online: 4/4  2.5 s/episode  in 00:10',
    )

  def test_the_warm_up_is_counted_apart(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress(
        'online', 5, warm_up=2, stream=stream, clock=clock
    ) as display:
      for step in range(1, 6):
        clock.now += 60.0
        display.update(step)
    counts = [line.split('  ')[0] for line in stream.getvalue().splitlines()]
    self.assertEqual(
        counts,
        ['online: warm-up 0/2', 'online: warm-up 1/2']
        + [f'online: {count}/3' for count in range(4)],
    )

  def test_rate_and_time_are_shown_once_they_are_known(self):
    stream = io.StringIO()
    with progress.Progress('online', 10, stream=stream, clock=_Clock()):
      self.assertEqual(stream.getvalue(), 'online: 0/10\n')
    self.assertEndsWith(stream.getvalue(), 'online: 0/10  in 00:00\n')

  def test_bar_is_drawn_on_a_terminal(self):
    self.assertIn('\r', self._drawn_on_terminal('xterm'))

  def test_bar_fits_the_terminal(self):
    # The name, a space, a bar of at least 8 columns, a space and the text.
    for columns, left_out in (
        (80, []),
        (60, [' steps/s']),
        (44, [' steps/s', 'success']),
        (33, [' steps/s', 'success', '00:02']),
    ):
      drawn = self._drawn_on_terminal('xterm', columns)
      lines = re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '\r', drawn).split('\r')
      self.assertLessEqual(max(map(len, lines)), columns)
      self.assertNotIn('…', drawn)
      for text in ('behavior_cloning', '4/4', ' steps/s', '00:02', 'success'):
        self.assertEqual(text in drawn, text not in left_out, (columns, text))

  def test_lines_are_written_on_a_terminal_without_cursor_movement(self):
    self.assertEqual(
        self._drawn_on_terminal('dumb').splitlines()[-1],
        'behavior_cloning: 4/4  2 steps/s  in 00:02  success 1.000',
    )

  def _drawn_on_terminal(self, kind, columns=80):
    reader, writer = pty.openpty()
    self.addCleanup(os.close, reader)
    clock = _Clock()
    with (
        mock.patch.dict(os.environ, TERM=kind, COLUMNS=str(columns)),
        os.fdopen(writer, 'w') as file,
    ):
      with progress.Progress(
          'behavior_cloning', 4, stream=file, clock=clock
      ) as display:
        clock.now += 2.0
        display.update(4, success_rate=1.0)
    drawn = b''
    while True:
      try:
        part = os.read(reader, 1 << 16)
      except OSError:  # Linux raises this if the other end is closed.
        part = b''
      if not part:
        break
      drawn += part
    self.assertIn(b'4/4', drawn)
    return drawn.decode()


if __name__ == '__main__':
  absltest.main()
