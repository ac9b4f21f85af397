"""The smallest run that goes through every phase, for tests.

Ten rows of `metrics.csv` in behaviour cloning, six offline, and three online:
one warm-up episode and two that are trained after.
"""

import os
import pathlib
import subprocess
import sys
from typing import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIN_FILE = 'quickstart.gin'
BINDINGS = (
    "PointMaze.size = 'UMaze'",
    'PointMaze.min_start_distance = 2',
    'PointMaze.max_episode_steps = 15',
    'run_experiment.num_recorded_steps = 600',
    'run_experiment.num_evaluation_episodes = 4',
    'BehaviorCloning.num_steps = 18',
    'BehaviorCloning.min_steps = 18',
    'BehaviorCloning.interval = 2',
    'BehaviorCloning.batch_size = 16',
    'Offline.num_steps = 12',
    'Offline.interval = 2',
    'Offline.evaluation_interval = 4',
    'Offline.batch_size = 16',
    'Online.num_episodes = 2',
    'Online.evaluation_interval = 1',
    'Online.critic_batch_size = 8',
    'Online.policy_batch_size = 8',
    'Search.num_samples = 2',
    'ActionOptimizer.num_candidates = 2',
    'ActionOptimizer.num_gradient_steps = 1',
    'CalQLCritic.num_conservative_actions = 1',
    'HLGauss.num_bins = 8',
    'CriticEnsemble.num_members = 2',
    'CriticEnsemble.hidden_sizes = (16,)',
    'DiffusionPolicy.num_denoising_steps = 2',
    'DiffusionPolicy.hidden_size = 16',
    'DiffusionPolicy.time_size = 8',
    'DiffusionPolicy.num_blocks = 1',
)


def environment():
  """Returns the variables of a process that runs on one thread."""
  return {
      **os.environ,
      'PYTHONPATH': str(ROOT),
      'CUDA_VISIBLE_DEVICES': '',
      'TF_CPP_MIN_LOG_LEVEL': '3',
      'TF_NUM_INTRAOP_THREADS': '1',
      'TF_NUM_INTEROP_THREADS': '1',
  }


def start(
    root_dir: str, log_path: str, *, seed: int = 0, bindings: Sequence[str] = ()
) -> subprocess.Popen:
  """Starts `parl-train` on `root_dir`; its output goes to `log_path`."""
  with open(log_path, 'ab') as log:
    return subprocess.Popen(
        [
            sys.executable,
            '-m',
            'parl_tf.binaries.train',
            f'--root_dir={root_dir}',
            f'--gin_file={GIN_FILE}',
            f'--seed={seed}',
            *(f'--gin_bindings={x}' for x in (*BINDINGS, *bindings)),
        ],
        env=environment(),
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
