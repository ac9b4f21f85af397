"""The smallest run that goes through every phase, for tests.

`metrics.csv` has ten rows of behavior cloning, six of the offline phase and
three of the online phase: a warm-up episode and two episodes with training.
"""

import csv
import fcntl
import functools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Callable, Dict, List, Sequence

from tests import absent_libraries
from tests import programs

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIN_FILE = 'quickstart.gin'
NUM_ROWS = 19
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
    'Offline.batch_size = 8',  # As online: the critic's loss is traced once.
    'Online.num_episodes = 2',
    'Online.evaluation_interval = 1',
    'Online.critic_batch_size = 8',
    'Online.policy_batch_size = 8',
    'Search.num_samples = 2',
    'ActionOptimizer.num_candidates = 2',
    'ActionOptimizer.num_gradient_steps = 2',
    'CalQLCritic.num_conservative_actions = 1',
    'HLGauss.num_bins = 8',
    'CriticEnsemble.num_members = 2',
    'CriticEnsemble.hidden_sizes = (16,)',
    'DiffusionPolicy.num_denoising_steps = 2',
    'DenoisingNetwork.hidden_size = 16',
    'DenoisingNetwork.time_size = 8',
    'DenoisingNetwork.num_blocks = 1',
    'GaussianPolicy.hidden_sizes = (16,)',
    # Each export takes a tenth of such a run.
    "run_experiment.exported_policies = ('base_policy', 'greedy_policy')",
    # A new process imports TensorFlow, which takes seconds.
    'exports.in_new_process = False',
    # XLA compiles for a quarter of such a run; `frames_run_test` runs with it.
    'Search.jit_compile = False',
)

ONE_EXPORT = ("run_experiment.exported_policies = ('greedy_policy',)",)
# Parts that trace in half the time, for tests of any algorithm.
CHEAP_CRITIC = (
    'build_agent.critic_ctor = @IQLCritic',
    'ActionOptimizer.num_gradient_steps = 0',
)
CHEAP_PARTS = (
    *CHEAP_CRITIC,
    *ONE_EXPORT,
    'build_agent.policy_ctor = @GaussianPolicy',
)

FLAGS = (
    f'--gin_file={GIN_FILE}',
    '--seed=3',
    *(f'--gin_bindings={x}' for x in BINDINGS),
)

_SECONDS = 900.0  # Timeout, with room for a busy machine.


class Run:
  """A process of `parl-train`.

  Attributes:
    root_dir: The run's directory.
  """

  def __init__(
      self,
      root_dir: str,
      bindings: Sequence[str] = (),
      absent: Sequence[str] = (),
  ):
    """Starts or resumes the run with seed 3.

    Args:
      root_dir: The run's directory; what the process prints is appended to the
        file of the same name that ends in `.log`.
      bindings: Gin bindings in addition to `BINDINGS`.
      absent: Libraries to hide; if there are any, the run is a new Python.
    """
    self.root_dir = root_dir
    module, output = 'parl_tf.binaries.train', root_dir + '.log'
    arguments = (
        f'--root_dir={root_dir}',
        *FLAGS,
        *(f'--gin_bindings={x}' for x in bindings),
    )
    if not absent:
      self._process = programs.Program(module, *arguments, output=output)
      return
    with open(output, 'ab') as log:
      self._process = subprocess.Popen(
          [sys.executable, '-m', module, *arguments],
          env=environment(absent),
          cwd=ROOT,
          stdout=log,
          stderr=subprocess.STDOUT,
      )

  def finish(self) -> None:
    """Waits until the process ends.

    Raises:
      AssertionError: If the process fails.
    """
    try:
      status = self._process.wait(_SECONDS)
    finally:
      self._process.kill()
    if status:
      raise AssertionError(f'Status {status}:\n{self.output()}')

  def kill_when(self, is_time: Callable[[], bool]) -> None:
    """Sends SIGKILL as soon as `is_time` returns true.

    Raises:
      AssertionError: If the process ends first, or the wait times out.
    """
    deadline = time.monotonic() + _SECONDS
    try:
      while not is_time():
        if self._process.poll() is not None or time.monotonic() > deadline:
          raise AssertionError(
              f'The awaited condition never held:\n{self.output()}'
          )
        time.sleep(0.01)
    finally:
      self._process.send_signal(signal.SIGKILL)
      self._process.wait()

  def output(self) -> str:
    """Returns the output of all processes on this directory."""
    return read_output(self.root_dir)

  def num_rows(self) -> int:
    """Returns the number of complete rows in `metrics.csv`."""
    path = pathlib.Path(self.root_dir, 'metrics.csv')
    return max(path.read_text().count('\n') - 1, 0) if path.exists() else 0


def environment(absent: Sequence[str] = ()) -> Dict[str, str]:
  """Returns the environment for a program, which sets its own log level.

  Args:
    absent: Libraries to hide from the program.
  """
  folder = tempfile.mkdtemp(dir=make_folder())
  variables = absent_libraries.environment(absent, folder)
  variables.pop('TF_CPP_MIN_LOG_LEVEL', None)
  return variables


def finished_run() -> str:
  """Completes one run shared by all tests; returns its directory.

  Its process has no Reverb, which runs in memory do not need.
  """
  folder = os.environ.get('PARL_TF_SHARED_TMPDIR') or make_folder()
  root_dir = os.path.join(folder, 'undisturbed')
  with open(root_dir + '.lock', 'w') as lock:
    # Several test processes run at the same time.
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not os.path.exists(os.path.join(root_dir, 'summary.json')):
      Run(root_dir, absent=['reverb']).finish()
  return root_dir


@functools.lru_cache(maxsize=None)
def make_folder() -> str:
  """Returns a folder for files shared by the tests of a process."""
  return tempfile.mkdtemp(dir=os.environ.get('TEST_TMPDIR'), prefix='tiny_')


def read_output(root_dir: str) -> str:
  """Returns the output of all processes on a directory."""
  return pathlib.Path(root_dir + '.log').read_text(encoding='utf-8')


def read_metrics(root_dir: str) -> List[Dict[str, str]]:
  """Returns the rows of `metrics.csv`."""
  with open(os.path.join(root_dir, 'metrics.csv'), encoding='utf-8') as file:
    return list(csv.DictReader(file))
