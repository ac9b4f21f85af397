"""Tests of how Ctrl-C ends a program that does not react."""

import subprocess
import sys
import time

from absl.testing import absltest
from absl.testing import parameterized

from tests.binaries import tiny

# A thread keeps Python alive, as one that compiles does.
_PROGRAM = """
import os, signal, sys, threading, time
from parl_tf.binaries import console

# A shell's background job, in which tests may run, ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

def main(argv):
  threading.Thread(target=time.sleep, args=[60]).start()
  os.kill(os.getpid(), signal.SIGINT)
  {stuck}

sys.argv = ['program', 'a b']
console.run('program', main, lambda: None, is_resumable=True)
"""
_STUCK = """
  while True:
    try:
      time.sleep(60)
    except KeyboardInterrupt:
      pass
"""
_STOPPING = """
import os, signal, time
from parl_tf.binaries import console
from parl_tf.domains import domain as domain_lib

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` ignores it.

class Robot:
  max_environments = 1

def main(argv):
  domain_lib.select_domain(Robot())
  try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
  finally:
    time.sleep(2.5)  # The arm comes to rest.
    print('stopped')

console.run('program', main, lambda: None)
"""


def _run(program):
  return subprocess.run(
      [sys.executable, '-c', program],
      cwd=tiny.ROOT,
      capture_output=True,
      text=True,
      timeout=30,
      check=False,
  )


class InterruptionTest(parameterized.TestCase):

  def test_a_stuck_program_ends_and_prints_the_command_once(self):
    for stuck in ('time.sleep(60)', _STUCK):
      started = time.monotonic()
      done = _run(_PROGRAM.format(stuck=stuck))
      self.assertEqual(done.returncode, 130, done.stderr)
      self.assertEqual(
          done.stderr, "\nInterrupted. To resume: program 'a b'\n"
      )
      # One second, and the start of Python.
      self.assertLess(time.monotonic() - started, 20.0)

  @parameterized.parameters('SIGINT', 'SIGTERM', 'SIGHUP')
  def test_a_program_that_stops_a_machine_is_not_ended(self, name):
    sent = 'os.kill(os.getpid(), signal.'
    done = _run(_STOPPING.replace(f'{sent}SIGINT', f'{sent}{name}'))
    self.assertEqual(done.returncode, 130, done.stderr)
    self.assertEqual(done.stdout, 'stopped\n')


if __name__ == '__main__':
  absltest.main()
