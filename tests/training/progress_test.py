import io
import os
import pty
from unittest import mock

from absl.testing import absltest

from parl_tf.training import progress


class _Clock:

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


class ProgressTest(absltest.TestCase):

  def test_lines_come_every_ten_seconds_where_there_is_no_terminal(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress(
        'offline', 120, start=20, stream=stream, clock=clock
    ) as display:
      for step in range(21, 121):
        clock.now += 0.25  # Four steps a second.
        display.update(step, **{'losses/critic': step / 100})
    self.assertEqual(
        stream.getvalue().splitlines(),
        [
            'offline: 60/120  4 steps/s  00:15 left  losses/critic=0.6',
            'offline: 100/120  4 steps/s  00:05 left  losses/critic=1',
            'offline: 120/120  4 steps/s  00:25 taken  losses/critic=1.2',
        ],
    )

  def test_rate_forgets_a_slow_start(self):
    stream, clock = io.StringIO(), _Clock()
    with progress.Progress('online', 1_000, stream=stream, clock=clock) as p:
      clock.now += 60.0  # Tracing.
      p.update(1)
      for step in range(2, 202):
        clock.now += 0.2
        p.update(step)
    self.assertIn('5 steps/s', stream.getvalue().splitlines()[-1])

  def test_without_a_step_nothing_is_known_of_the_time_left(self):
    stream = io.StringIO()
    with progress.Progress('online', 10, stream=stream, clock=_Clock()):
      pass
    self.assertEqual(stream.getvalue(), 'online: 0/10  0 steps/s  --:-- left\n')

  def test_bar_is_drawn_on_a_terminal(self):
    self.assertIn('\r', self._drawn_on_terminal('xterm'))

  def test_lines_are_written_on_a_terminal_that_cannot_go_back(self):
    self.assertEqual(
        self._drawn_on_terminal('dumb').split(),
        ['online:', '4/4', '2', 'steps/s', '00:02', 'taken'],
    )

  def _drawn_on_terminal(self, kind):
    reader, writer = pty.openpty()
    self.addCleanup(os.close, reader)
    clock = _Clock()
    with mock.patch.dict(os.environ, TERM=kind), os.fdopen(writer, 'w') as file:
      with progress.Progress('online', 4, stream=file, clock=clock) as display:
        clock.now += 2.0
        display.update(4)
    drawn = b''
    while True:
      try:
        part = os.read(reader, 1 << 16)
      except OSError:  # How Linux tells that the other end is closed.
        part = b''
      if not part:
        break
      drawn += part
    self.assertIn(b'4/4', drawn)
    return drawn.decode()


if __name__ == '__main__':
  absltest.main()
