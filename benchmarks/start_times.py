"""Measures how long the programs take to start.

  python -m benchmarks.start_times
  python -m benchmarks.start_times --root_dir runs/quickstart

Prints the median seconds, elapsed and of the processor, of fresh processes:
`--help` of every program, `import parl_tf`, `parl-data info` on a small file,
`parl-evaluate` on an exported policy of the point maze and `parl-train` on its
finished run. `--root_dir` names a finished run of `quickstart.gin`; by default,
a small one is trained in a temporary directory first.
"""

import importlib.metadata
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import List, Sequence, Tuple

from absl import app
from absl import flags

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of a finished run; by default, one is trained.'
)
_SEED = flags.DEFINE_integer('run_seed', 0, 'Seed of that run.')
_NUM_REPEATS = flags.DEFINE_integer(
    'num_repeats', 3, 'Processes per measurement.', lower_bound=1
)
_NUM_EPISODES = 2
_CHILDREN = resource.RUSAGE_CHILDREN
# All programs of the package.
_MODULES = ('parl_tf.binaries.', 'reverb_server.')
_GIN_FILE = '--gin_file=quickstart.gin'
_SMALL = (
    "run_experiment.phase_names = ('behavior_cloning',)",
    'run_experiment.num_recorded_steps = 600',
    'run_experiment.num_evaluation_episodes = 2',
    'BehaviorCloning.num_steps = 10',
    'BehaviorCloning.min_steps = 10',
)


def program(name: str) -> str:
  """Returns the path of an installed program."""
  return os.path.join(os.path.dirname(sys.executable), name)


def programs() -> List[str]:
  """Returns the names of all programs of parl_tf."""
  scripts = importlib.metadata.entry_points(group='console_scripts')
  return sorted(x.name for x in scripts if x.module.startswith(_MODULES))


def seconds(command: Sequence[str]) -> Tuple[float, float]:
  """Runs one process; returns its elapsed and its processor seconds.

  Raises:
    subprocess.CalledProcessError: If the process fails.
  """
  start, before = time.monotonic(), resource.getrusage(_CHILDREN)
  subprocess.run(command, check=True, capture_output=True)
  elapsed, after = time.monotonic() - start, resource.getrusage(_CHILDREN)
  user = after.ru_utime - before.ru_utime
  return elapsed, user + after.ru_stime - before.ru_stime


def measure(label: str, command: Sequence[str]) -> None:
  """Prints one row: the medians of elapsed and of processor seconds."""
  times = [seconds(command) for _ in range(_NUM_REPEATS.value)]
  elapsed, cpu = map(statistics.median, zip(*times))
  print(f'{label:28s} {elapsed:8.2f} {cpu:8.2f}', flush=True)


def main(argv: Sequence[str]) -> None:
  """Runs all measurements."""
  del argv
  with tempfile.TemporaryDirectory() as folder:
    root_dir = _ROOT_DIR.value or os.path.join(folder, 'run')
    bindings = () if _ROOT_DIR.value else _SMALL
    train = [
        program('parl-train'), f'--root_dir={root_dir}', _GIN_FILE,
        f'--seed={_SEED.value}', *(f'--gin_bindings={x}' for x in bindings),
    ]
    data = os.path.join(folder, 'data.hdf5')
    subprocess.run(
        [program('parl-data'), 'generate', 'pointmaze', f'--output={data}',
         '--num_steps=600'],
        check=True, capture_output=True,
    )
    if not _ROOT_DIR.value:
      subprocess.run(train, check=True, capture_output=True)
    policy = os.path.join(root_dir, 'policies', 'base_policy')
    print(f'{"median seconds":28s} {"elapsed":>8s} {"cpu":>8s}')
    measure('python', [sys.executable, '-c', 'pass'])
    measure('import parl_tf', [sys.executable, '-c', 'import parl_tf'])
    measure('import tensorflow', [sys.executable, '-c', 'import tensorflow'])
    for name in programs():
      measure(f'{name} --help', [program(name), '--help'])
    measure('parl-data info', [program('parl-data'), 'info', data])
    measure(
        f'parl-evaluate, {_NUM_EPISODES} episodes',
        [program('parl-evaluate'), f'--policy={policy}', _GIN_FILE,
         f'--num_episodes={_NUM_EPISODES}'],
    )
    measure('parl-train, finished run', train)


if __name__ == '__main__':
  app.run(main)
