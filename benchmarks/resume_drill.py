"""Kills a run in each phase and compares it with undisturbed runs.

  python benchmarks/resume_drill.py --root_dir runs/drill

Starts two undisturbed runs, and one that is killed with SIGKILL at a random
moment of behavior cloning, offline RL and the online phase, and resumed each
time. Prints how much work each restart repeats, and whether `metrics.csv` is
equal in every column except `wall_seconds`. Exits with 1 if it is not.
"""

import csv
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import Dict, List, Sequence

from absl import app
from absl import flags

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of the three runs; must be new.', required=True
)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the runs.')
_MOMENT_SEED = flags.DEFINE_integer('moment_seed', 0, 'Seed of the kill times.')
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings',
    [
        'BehaviorCloning.num_steps = 2_000',
        'Offline.num_steps = 1_000',
        'Online.num_episodes = 16',
    ],
    'Changes to quickstart.gin.',
)
_PHASES = ('behavior_cloning', 'offline', 'online')
_POLL_SECONDS = 0.2
_REPEATED = re.compile(
    r'(\d+) training steps, ([\d.]+) s of work, are repeated'
)


def start(root_dir: str) -> subprocess.Popen:
  """Starts or resumes a run; its log goes to `<root_dir>.log`."""
  command = [
      sys.executable, '-m', 'parl_tf.binaries.train', f'--root_dir={root_dir}',
      '--gin_file=quickstart.gin', f'--seed={_SEED.value}',
  ]
  command += [f'--gin_bindings={b}' for b in _GIN_BINDINGS.value]
  environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL='3')
  with open(root_dir + '.log', 'a', encoding='utf-8') as log:
    return subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env=environment
    )


def finish(process: subprocess.Popen, root_dir: str) -> None:
  """Waits for a run to end successfully."""
  if process.wait():
    raise RuntimeError(f'The run failed; see {root_dir}.log.')


def read_rows(root_dir: str) -> List[Dict[str, str]]:
  """Returns the complete rows of `metrics.csv` so far."""
  path = os.path.join(root_dir, 'metrics.csv')
  if not os.path.exists(path):
    return []
  with open(path, encoding='utf-8') as file:
    lines = file.read().split('\n')[:-1]
  return list(csv.DictReader(lines))


def kill_in(phase: str, root_dir: str, num_rows: int) -> None:
  """Starts or resumes a run and kills it after some rows of a phase."""
  process = start(root_dir)
  while process.poll() is None:
    rows = [row for row in read_rows(root_dir) if row['phase'] == phase]
    if len(rows) >= num_rows:
      # Also kill between two rows.
      time.sleep(random.uniform(0.0, 2.0))
      process.send_signal(signal.SIGKILL)
      process.wait()
      return
    time.sleep(_POLL_SECONDS)
  raise RuntimeError(f'The run ended before it could be killed in {phase}.')


def comparable(rows: Sequence[Dict[str, str]]) -> List[Dict[str, str]]:
  """Returns the rows without the wall clock."""
  return [
      {k: v for k, v in row.items() if k != 'wall_seconds'} for row in rows
  ]


def main(argv: Sequence[str]) -> int:
  """Runs the drill."""
  del argv
  os.makedirs(_ROOT_DIR.value)
  random.seed(_MOMENT_SEED.value)
  names = {
      name: os.path.join(_ROOT_DIR.value, name)
      for name in ('undisturbed', 'undisturbed_again', 'killed')
  }
  for name in ('undisturbed', 'undisturbed_again'):
    finish(start(names[name]), names[name])
  wanted = comparable(read_rows(names['undisturbed']))
  for phase in _PHASES:
    num_rows = sum(row['phase'] == phase for row in wanted)
    moment = random.randint(1, max(1, num_rows - 1))
    kill_in(phase, names['killed'], moment)
    print(f'killed in {phase} after {moment} of its {num_rows} rows')
  finish(start(names['killed']), names['killed'])
  with open(names['killed'] + '.log', encoding='utf-8') as log:
    for steps, seconds in _REPEATED.findall(log.read()):
      print(f'a restart repeated {steps} training steps, {seconds} s of work')
  is_good = True
  for name in ('undisturbed_again', 'killed'):
    is_equal = comparable(read_rows(names[name])) == wanted
    is_good &= is_equal
    print(f'{name}: {len(wanted)} rows, equal to undisturbed: {is_equal}')
  return 0 if is_good else 1


if __name__ == '__main__':
  app.run(main)
