"""Measures the fixed overhead of a run, mainly compilation.

  python -m benchmarks.compilation --root_dir runs/compilation

Trains twice on a small point maze with the networks, batch and search of the
AntMaze setting of `hot_path.py`, the second time with twice the data, and twice
the steps in every phase. The fixed overhead (imports, tracing and compilation,
tables, evaluation, export) is then twice the first duration minus the second. A
third run is stopped at its first critic update, to measure the time until then.
"""

import os
import subprocess
import sys
import time

from absl import app
from absl import flags

from benchmarks import hot_path_settings

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'New directory of the runs.', required=True
)
_STEPS = flags.DEFINE_integer('steps', 4, 'Training steps per phase.')

_BINDINGS = (
    "PointMaze.size = 'UMaze'",
    # Too far to reach, so that all episodes have the same length.
    'PointMaze.min_start_distance = 4',
    'run_experiment.num_evaluation_episodes = 1',
    'BehaviorCloning.batch_size = 256',
    'Offline.batch_size = 256',
    'Offline.interval = 1',
    'Offline.evaluation_interval = 1_000',
    'Online.critic_batch_size = 256',
    'Online.policy_batch_size = 256',
    'Online.evaluation_interval = 1_000',
    'Online.num_episodes = 2',
    'DenoisingNetwork.hidden_size = 256',
    'DenoisingNetwork.num_blocks = 3',
    'CriticEnsemble.num_members = 10',
    'CalQLCritic.num_conservative_actions = 10',
    'Search.num_samples = 32',
    'ActionOptimizer.num_candidates = 10',
    'ActionOptimizer.num_gradient_steps = 10',
)


def start_run(root_dir: str, num_steps: int) -> subprocess.Popen:
  """Starts a training run with `num_steps` steps per phase."""
  bindings = (
      *_BINDINGS,
      *hot_path_settings.SETTINGS['antmaze'].gin_bindings,
      # Drawing the samples of all recorded states takes seconds.
      f'run_experiment.num_recorded_steps = {150 * num_steps}',
      f'BehaviorCloning.num_steps = {num_steps}',
      f'BehaviorCloning.min_steps = {num_steps}',
      f'Offline.num_steps = {num_steps}',
      # An online turn has as many training steps as its episode has steps.
      f'PointMaze.max_episode_steps = {num_steps}',
  )
  return subprocess.Popen(
      [
          sys.executable,
          '-m',
          'parl_tf.binaries.train',
          f'--root_dir={root_dir}',
          '--gin_file=quickstart.gin',
          *(f'--gin_bindings={binding}' for binding in bindings),
      ],
      stdout=sys.stderr,
  )


def seconds_of_run(root_dir: str, num_steps: int) -> float:
  """Runs a training and returns its duration in seconds."""
  start = time.perf_counter()
  status = start_run(root_dir, num_steps).wait()
  if status:
    raise RuntimeError(f'The run {root_dir} failed with status {status}.')
  return time.perf_counter() - start


def seconds_to_first_update(root_dir: str, num_steps: int) -> float:
  """Returns the seconds from the process's start to its first critic update.

  This includes data, cloning and an evaluation.
  """
  start = time.perf_counter()
  process = start_run(root_dir, num_steps)
  path = os.path.join(root_dir, 'metrics.csv')
  try:
    while process.poll() is None:
      if os.path.exists(path):
        with open(path, encoding='utf-8') as file:
          if '\noffline,' in file.read():
            return time.perf_counter() - start
      time.sleep(0.05)
  finally:
    process.kill()
    process.wait()
  raise RuntimeError(f'The run {root_dir} ended before its first update.')


def main(_):
  """Runs the trainings and prints the results."""
  start = time.perf_counter()
  subprocess.run(
      [sys.executable, '-c', 'import parl_tf.binaries.training_run'],
      check=True,
      stderr=subprocess.DEVNULL,
  )
  imports = time.perf_counter() - start
  seconds = []
  for factor in (1, 2):
    root_dir = os.path.join(_ROOT_DIR.value, str(factor))
    seconds.append(seconds_of_run(root_dir, factor * _STEPS.value))
    print(f'{factor * _STEPS.value} steps per phase: {seconds[-1]:.1f} s')
  beside = 2 * seconds[0] - seconds[1]
  print(
      f'Fixed overhead of a run: {beside:.1f} s, of which {imports:.1f} s are'
      ' imports.'
  )
  first = seconds_to_first_update(
      os.path.join(_ROOT_DIR.value, 'first'), _STEPS.value
  )
  print(f'The first critic update finishes {first:.1f} s after the start.')


if __name__ == '__main__':
  app.run(main)
