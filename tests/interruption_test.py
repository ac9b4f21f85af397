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
_TURNS = """
import os, signal, time
from parl_tf import interruption
from parl_tf.binaries import console

def main(argv):
  with interruption.turns():
    os.kill(os.getpid(), signal.SIGTERM)
    print('goes on', flush=True)
    {turn}
    interruption.end_turn(lambda: print('saves'), is_due=False)

console.run('program', main, lambda: None, is_resumable=True)
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

# Until a service is lost, which takes two seconds.
_WAITING = """
import os, signal, threading, time
from parl_tf import interruption

lost = threading.Event()
threading.Timer(2.0, lost.set).start()
start = time.monotonic()
with interruption.ends_soon(
    lambda: f'after {time.monotonic() - start:.1f} s', lost.is_set
):
  signal.signal(signal.SIGINT, lambda *_: None)  # As while TensorFlow waits.
  os.kill(os.getpid(), signal.SIGINT)
  time.sleep(60)
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

  def test_a_program_ends_once_it_may(self):
    done = _run(_WAITING)
    self.assertEqual(done.returncode, 130, done.stderr)
    self.assertRegex(done.stderr, '^after [23]')

  def test_sigterm_ends_a_program_without_turns_as_ctrl_c_does(self):
    for stuck in ('time.sleep(60)', _STUCK):
      program = _PROGRAM.replace('(), signal.SIGINT', '(), signal.SIGTERM')
      done = _run(program.format(stuck=stuck))
      self.assertEqual(done.returncode, 130, done.stderr)
      self.assertEqual(
          done.stderr, "\nInterrupted. To resume: program 'a b'\n"
      )

  def test_sigterm_saves_at_the_end_of_a_turn(self):
    done = _run(_TURNS.format(turn='pass'))
    self.assertEqual(done.returncode, 130, done.stderr)
    self.assertEqual(done.stdout, 'goes on\nsaves\n')
    self.assertEqual(done.stderr, '\nInterrupted. To resume: program\n')

  def test_a_second_sigterm_ends_the_turn(self):
    done = _run(_TURNS.format(turn='os.kill(os.getpid(), signal.SIGTERM)'))
    self.assertEqual(done.returncode, 130, done.stderr)
    self.assertEqual(done.stdout, 'goes on\n')
    self.assertEqual(done.stderr, '\nInterrupted. To resume: program\n')

  def test_a_turn_that_takes_long_is_not_waited_for(self):
    program = _TURNS.replace(
        'def main', 'interruption._TURN_SECONDS = 1.0\ndef main'
    )
    done = _run(program.format(turn='time.sleep(60)'))
    self.assertEqual(done.returncode, 130, done.stderr)
    self.assertEqual(done.stdout, 'goes on\n')
    self.assertEqual(done.stderr, '\nInterrupted. To resume: program\n')

  @parameterized.parameters('SIGINT', 'SIGTERM', 'SIGHUP')
  def test_a_program_that_stops_a_machine_is_not_ended(self, name):
    sent = 'os.kill(os.getpid(), signal.'
    done = _run(_STOPPING.replace(f'{sent}SIGINT', f'{sent}{name}'))
    self.assertEqual(done.returncode, 130, done.stderr)
    self.assertEqual(done.stdout, 'stopped\n')

  def test_a_machine_is_stopped_within_a_turn(self):
    program = _TURNS.replace('  with', '  interruption.take_time()\n  with')
    done = _run(program.format(turn='time.sleep(60)'))
    self.assertEqual(done.returncode, 130, done.stderr)
    self.assertEqual(done.stdout, '')


if __name__ == '__main__':
  absltest.main()
