"""Runs `parl-launch` for half an hour and monitors the memory of every role.

  python -m benchmarks.soak --root_dir runs/soak

Samples each role's resident memory every few seconds into `memory.csv`. The
measurement starts after a warm-up, in which programs are traced and tables
fill. At the end prints for each role the median memory of the first and the
last quarter, the warnings and errors in its log, and the number of its
restarts. Also draws `memory.png`. Exits with 1 if a role grew by more than
`--max_growth`, was restarted, or logged an error.
"""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from typing import Dict, List, NamedTuple, Sequence, Tuple

from absl import app
from absl import flags
from absl import logging
import numpy as np

from parl_tf.reports import drawing

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of the run.', required=True
)
_GIN_FILE = flags.DEFINE_multi_string(
    'gin_file', ['quickstart.gin'], 'gin files of the experiment.'
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings',
    [
        'Online.num_episodes = 1_000_000',
        # Full within the warm-up, because filling a table is not a leak.
        'ReplayService.max_size = 5_000',
    ],
    'Changes to the experiment.',
)
_MINUTES = flags.DEFINE_float('minutes', 30.0, 'Duration of the measurement.')
_WARM_UP_MINUTES = flags.DEFINE_float(
    'warm_up_minutes', 10.0, 'Warm-up, from the first online episode on.'
)
_SECONDS = flags.DEFINE_float('seconds', 5.0, 'Time between two readings.')
_NUM_COLLECTORS = flags.DEFINE_integer('num_collectors', 2, 'Collectors.')
_MAX_GROWTH = flags.DEFINE_float('max_growth', 0.05, 'Share of the memory.')

_MODULES = {
    'reverb_server.server': 'service',
    'parl_tf.binaries.learn': 'learner',
    'parl_tf.binaries.collect': 'collector',
    'parl_tf.binaries.evaluate': 'evaluator',
}
# absl's lines start with a letter, month and day, TensorFlow's with a time.
_WARNING = re.compile(r'[WEF]\d{4} |\S+ \S+: [EF] |Traceback')
_ERROR = re.compile(r'[EF]\d{4} |\S+ \S+: [EF] |Traceback')
# Messages that TensorFlow and TF-Agents log at every start.
_ALWAYS = re.compile(
    'Unable to register cu|SetPriority unimplemented'
    '|checkpointing the training process|run_optimizer_variable_init'
)
_STOP_SECONDS = 120.0
_STOPPED = 130  # Exit status after an interrupt.


class Reading(NamedTuple):
  """Resident memory of a role at one moment.

  Attributes:
    minutes: Minutes since the launch.
    role: Name of the role, as in the name of its log.
    process: Process id.
    mebibytes: Resident memory in MiB.
  """

  minutes: float
  role: str
  process: int
  mebibytes: float


def role_of(arguments: Sequence[str], root_dir: str) -> str:
  """Returns the role of a process in a run, or '' if it has none.

  Args:
    arguments: Command line of the process.
    root_dir: Absolute directory of the run.
  """
  flag = '--root_dir='
  folders = [x[len(flag) :] for x in arguments if x.startswith(flag)]
  if not any(x == root_dir or x.startswith(root_dir + '/') for x in folders):
    return ''
  for module, role in _MODULES.items():
    if module in arguments:
      number = [x for x in arguments if x.startswith('--collector=')]
      return role + ''.join('_' + x.partition('=')[2] for x in number)
  return ''


def read_memory(root_dir: str, minutes: float) -> List[Reading]:
  """Reads the memory of the roles that are currently running.

  Args:
    root_dir: Absolute directory of the run.
    minutes: Minutes since the launch.
  """
  readings = []
  for process in filter(str.isdecimal, os.listdir('/proc')):
    try:
      with open(f'/proc/{process}/cmdline', 'rb') as file:
        arguments = file.read().decode().split('\0')
      role = role_of(arguments, root_dir)
      if not role:
        continue
      with open(f'/proc/{process}/statm', encoding='ascii') as file:
        pages = int(file.read().split()[1])
    except (FileNotFoundError, ProcessLookupError):
      continue  # The process has just ended.
    mebibytes = pages * os.sysconf('SC_PAGE_SIZE') / 2**20
    readings.append(Reading(minutes, role, int(process), mebibytes))
  return readings


def growth(readings: Sequence[Reading]) -> Dict[str, Tuple[float, float]]:
  """Returns each role's median memory in the first and last quarter, in MiB.

  Args:
    readings: Readings of all roles, in order of time.

  Raises:
    ValueError: If `readings` is empty.
  """
  if not readings:
    raise ValueError('`readings` must not be empty.')
  start, end = readings[0].minutes, readings[-1].minutes
  quarter = (end - start) / 4
  result = {}
  for role in sorted({reading.role for reading in readings}):
    own = [reading for reading in readings if reading.role == role]
    first = [x.mebibytes for x in own if x.minutes <= start + quarter]
    last = [x.mebibytes for x in own if x.minutes >= end - quarter]
    if first and last:
      result[role] = (float(np.median(first)), float(np.median(last)))
  return result


def find_lines(path: str, pattern: re.Pattern) -> List[str]:
  """Returns the lines of a log that match, except those logged every time."""
  with open(path, encoding='utf-8', errors='replace') as log:
    return [
        line.rstrip()
        for line in log
        if pattern.match(line) and not _ALWAYS.search(line)
    ]


def draw(path: str, readings: Sequence[Reading]) -> None:
  """Draws memory over time, one line per role."""
  plot = drawing.make_plot(8.0, 5.0, 'Memory of the roles')
  panel = plot.add_subplot()
  roles = sorted({reading.role for reading in readings})
  for role, style in drawing.make_styles(roles).items():
    own = [reading for reading in readings if reading.role == role]
    panel.plot(
        [reading.minutes for reading in own],
        [reading.mebibytes for reading in own],
        color=style.color,
        linestyle=style.dashes,
        label=role,
    )
  panel.set(xlabel='minutes since the launch', ylabel='resident memory, MiB')
  panel.set_ylim(bottom=0)
  panel.legend()
  plot.savefig(path, dpi=100)


def watch(launched: subprocess.Popen, root_dir: str) -> List[Reading]:
  """Reads memory until the time is over; returns the readings after warm-up.

  Args:
    launched: Process of `parl-launch`.
    root_dir: Absolute directory of the run.

  Raises:
    RuntimeError: If `parl-launch` ends early.
  """
  start = time.monotonic()
  counted_from = None
  counted = []
  with open(
      os.path.join(root_dir, 'memory.csv'), 'w', encoding='utf-8', newline=''
  ) as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(Reading._fields)
    while True:
      if launched.poll() is not None:
        raise RuntimeError(f'parl-launch ended with {launched.returncode}.')
      minutes = (time.monotonic() - start) / 60
      readings = read_memory(root_dir, minutes)
      writer.writerows(readings)
      file.flush()
      episodes = os.path.join(root_dir, 'episodes')
      if counted_from is None and os.path.isdir(episodes):
        if any(name.endswith('.npz') for name in os.listdir(episodes)):
          counted_from = minutes + _WARM_UP_MINUTES.value
          logging.info('Online after %.1f minutes.', minutes)
      if counted_from is not None and minutes >= counted_from:
        counted.extend(readings)
        if minutes >= counted_from + _MINUTES.value:
          return counted
      time.sleep(_SECONDS.value)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  # Treated as an interrupt, which also stops the roles.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  root_dir = os.path.abspath(_ROOT_DIR.value)
  os.makedirs(root_dir, exist_ok=True)
  launched = subprocess.Popen([
      sys.executable,
      '-m',
      'parl_tf.binaries.launch',
      f'--root_dir={root_dir}',
      f'--num_collectors={_NUM_COLLECTORS.value}',
      *(f'--gin_file={x}' for x in _GIN_FILE.value),
      *(f'--gin_bindings={x}' for x in _GIN_BINDINGS.value),
  ])
  try:
    readings = watch(launched, root_dir)
  finally:
    # SIGTERM, because shells make background processes ignore SIGINT.
    launched.send_signal(signal.SIGTERM)
    status = launched.wait(_STOP_SECONDS)
  is_well = _report(root_dir, readings)
  print(f'parl-launch stopped on request with status {status}.')
  return 0 if is_well and status == _STOPPED else 1


def _report(root_dir, readings):
  with open(
      os.path.join(root_dir, 'memory.csv'), encoding='utf-8', newline=''
  ) as file:
    everything = [
        Reading(float(x[0]), x[1], int(x[2]), float(x[3]))
        for x in list(csv.reader(file))[1:]
    ]
  plot = os.path.join(root_dir, 'memory.png')
  draw(plot, everything)
  is_well = True
  print('| role | first quarter, MiB | last quarter, MiB | growth |'
        ' warnings | errors | processes |')
  print('|---|---|---|---|---|---|---|')
  for role, (first, last) in growth(readings).items():
    log = os.path.join(root_dir, 'logs', f'{role}.log')
    errors = find_lines(log, _ERROR)
    warnings = find_lines(log, _WARNING)
    processes = len({x.process for x in everything if x.role == role})
    share = last / first - 1.0
    is_well &= (
        share <= _MAX_GROWTH.value and not errors and processes == 1
    )
    print(
        f'| {role} | {first:.0f} | {last:.0f} | {100 * share:+.1f} % |'
        f' {len(warnings) - len(errors)} | {len(errors)} | {processes} |'
    )
    for line in warnings[:5]:
      print(f'  {line}')
  print(f'Figure: {plot}')
  return is_well


if __name__ == '__main__':
  app.run(main)
