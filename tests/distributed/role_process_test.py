"""Tests of the process of a role."""

import os
import signal
import subprocess
import sys
import time
from unittest import mock

from absl.testing import absltest

from parl_tf.distributed import role_process

_SECONDS = 60.0  # Timeout, with room for a busy machine.


def _wait_until(is_time):
  deadline = time.monotonic() + _SECONDS
  while not is_time():
    if time.monotonic() > deadline:
      raise AssertionError('The awaited condition never held.')
    time.sleep(0.01)


class RoleProcessTest(absltest.TestCase):

  def _start(self, command, **environment):
    process = role_process.RoleProcess(command, environment)
    self.addCleanup(process.stop)
    return process

  def test_output_and_status_are_reported(self):
    process = self._start(['sh', '-c', 'echo $WORD; exit 3'], WORD='hello')
    _wait_until(lambda: process.poll() is not None)

    self.assertEqual(process.poll(), 3)
    self.assertEqual(process.read(0), b'hello\n')
    self.assertEqual(process.read(2), b'llo\n')

  def test_output_that_was_read_is_freed(self):
    command = 'head -c 1000000 /dev/zero; echo last'
    process = self._start(['sh', '-c', command])
    _wait_until(lambda: process.poll() is not None)
    self.assertLen(process.read(0), 1_000_005)
    file = f'/proc/{os.getpid()}/fd/{process._output.fileno()}'
    self.assertGreater(os.stat(file).st_blocks, 1_900)

    self.assertEqual(process.read(1_000_000), b'last\n')
    self.assertLess(os.stat(file).st_blocks, 20)

  def test_all_output_of_an_ended_process_is_observed(self):
    process = self._start(['sh', '-c', 'sleep 0.1; echo late'])
    # It ends between the two observations.
    wait = process._process.wait
    with mock.patch.object(process, 'poll', wait):
      self.assertEqual(process.observe(0), (0, b'late\n'))

  def test_stop_ends_the_process(self):
    process = self._start(['sleep', '1000'])
    self.assertIsNone(process.poll())

    process.stop()

    self.assertEqual(process.poll(), -signal.SIGTERM)

  def test_process_ends_with_its_parent(self):
    code = (
        'from parl_tf.distributed import role_process\n'
        'import time\n'
        'process = role_process.RoleProcess(["sleep", "1000"])\n'
        'print(process.pid(), flush=True)\n'
        'time.sleep(1000)\n'
    )
    parent = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE
    )
    child = int(parent.stdout.readline())
    self.assertTrue(os.path.exists(f'/proc/{child}'))

    parent.kill()
    parent.communicate()

    _wait_until(lambda: not _is_running(child))


def _is_running(pid):
  try:
    with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
      return file.read().split()[2] != 'Z'
  except FileNotFoundError:
    return False


if __name__ == '__main__':
  absltest.main()
