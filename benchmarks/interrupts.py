"""Measures how long `parl-train` takes to end after Ctrl-C.

  python -m benchmarks.interrupts --root_dir runs/interrupts

Interrupts one quickstart again and again, when its output first shows each of
the moments below, and starts it again by the command that the program names.
The last start goes on to the end of a shortened run. Prints the seconds from
the signal to the end of the process.
"""

import re
import shlex
import signal
import subprocess
import sys
import time
from typing import List, Sequence

from absl import app
from absl import flags

_SHORT = (
    'run_experiment.num_recorded_steps = 10_000',
    'BehaviorCloning.min_steps = 500',
    'BehaviorCloning.num_steps = 500',
    'Offline.num_steps = 300',
    'Online.num_episodes = 6',
)
# What the output has at each moment, and the seconds to wait after it.
_MOMENTS = (
    ('importing', r'', 1.0),
    ('recording', r'Run directory', 0.2),
    ('compiling', r'behavior_cloning: 0/', 0.0),
    ('cloning', r'behavior_cloning: [1-9]', 0.0),
    ('drawing samples', r'samples: 0/', 0.5),
    ('offline', r'offline: [1-9]', 0.0),
    ('evaluating', r'offline: 300/', 0.0),
    ('online', r'online: [1-9]', 0.0),
    ('exporting', r'Phase online', 2.0),
)


def interrupt(command: List[str], pattern: str, delay: float) -> float:
  """Starts a command and interrupts it.

  Args:
    command: The command.
    pattern: Regular expression of a line of its output.
    delay: Seconds from this line, or from the start if it is empty.

  Returns:
    Seconds from the signal to the process's end.

  Raises:
    RuntimeError: If it ends before the signal, or does not name the command
      that resumes.
  """
  process = subprocess.Popen(
      command,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      # Shells make background processes ignore SIGINT.
      preexec_fn=lambda: signal.signal(
          signal.SIGINT, signal.default_int_handler
      ),
  )
  output = ''
  while pattern and not re.search(pattern, output):
    line = process.stdout.readline()
    if not line:
      raise RuntimeError(f'No {pattern!r} in the output:\n{output}')
    output += line
  time.sleep(delay)
  if process.poll() is not None:
    raise RuntimeError(f'It ended before the signal:\n{output}')
  start = time.monotonic()
  process.send_signal(signal.SIGINT)
  output += process.stdout.read()
  process.wait()
  seconds = time.monotonic() - start
  if f'To resume: {shlex.join(["parl-train", *command[3:]])}' not in output:
    raise RuntimeError(f'The output names no command:\n{output}')
  return seconds


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  command = [
      *(sys.executable, '-m', 'parl_tf.binaries.train'),
      *('--root_dir', flags.FLAGS.root_dir, '--gin_file', 'quickstart.gin'),
      *(f'--gin_bindings={x}' for x in _SHORT),
  ]
  print('| moment | seconds |\n|---|---|')
  for name, pattern, delay in _MOMENTS:
    seconds = interrupt(command, pattern, delay)
    print(f'| {name} | {seconds:.1f} |', flush=True)
  subprocess.run(command, check=True)


def run() -> None:
  """Defines the flag and runs the command."""
  flags.DEFINE_string(
      'root_dir', None, 'New directory of the run.', required=True
  )
  app.run(main)


if __name__ == '__main__':
  run()
