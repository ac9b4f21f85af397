"""Monitors a distributed run: its processes and episode accounts."""

import collections
import csv
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from absl import logging

from benchmarks import counted_domain
from benchmarks import cut_link
from parl_tf.distributed import journal as journal_lib
from parl_tf.distributed import launcher
from parl_tf.distributed import server_link
from parl_tf.distributed import spool

SHORT_PHASES = (
    'run_experiment.num_recorded_steps = 2_000',
    'run_experiment.num_evaluation_episodes = 2',
    'BehaviorCloning.num_steps = 250',
    'BehaviorCloning.min_steps = 0',
    'Offline.num_steps = 100',
)
"""Point maze bindings for benchmarks that need only the online phase."""
_ROOT = pathlib.Path(__file__).resolve().parents[1]
_MODULES = {
    'service': 'reverb_server.server',
    'learner': 'parl_tf.binaries.learn',
    'collector': 'parl_tf.binaries.collect',
}
_POLL_SECONDS = 0.1
_MAX_SECONDS = 1800.0  # Maximum time to wait for one condition.
_RESTART_SECONDS = 1.0
_STOP_SECONDS = 20.0
_FILE_NAME = re.compile(r'episode_(\d+)(?:_(\d+))?\.npz')


class Books(NamedTuple):
  """Episode accounts of a run at one moment.

  Attributes:
    finished: Episodes counted by the environment, by collector.
    acknowledged: Episodes synced to a spool or the log, by collector.
    num_logged: Number of episodes in the log.
    num_doubled: Number of log files with a duplicate id.
    num_missing: Number of acknowledged episodes that are not in the log (yet).
    num_table_steps: Number of transitions in table `online`.
    num_journal_steps: Number of environment steps in the journal.
    ratio_error: Training steps minus those required by the learner's episodes.
    longest: Steps of the longest episode.
  """

  finished: Dict[int, int]
  acknowledged: Dict[int, int]
  num_logged: int
  num_doubled: int
  num_missing: int
  num_table_steps: int
  num_journal_steps: int
  ratio_error: int
  longest: int

  @property
  def num_lost(self) -> int:
    """Number of finished episodes that are stored nowhere."""
    return sum(self.finished.values()) - sum(self.acknowledged.values())


class Run:
  """All roles of one run on this machine; restarts roles that die.

  Attributes:
    root_dir: The run's directory.
    link: Link to the service.
    cut_link: Relay between the service and `collector_0`.
    num_deaths: Number of unexpected exits, by role.
  """

  def __init__(
      self,
      root_dir: str,
      gin_files: Sequence[str],
      gin_bindings: Sequence[str],
      *,
      seed: int,
      num_collectors: int,
  ):
    """Initializes the run; starts no role.

    Args:
      root_dir: The run's directory. The output of each role is appended to
        `<name>.log` in it.
      gin_files: Gin files of all roles, without `distributed.gin`.
      gin_bindings: Gin bindings of all roles.
      seed: Seed of the run.
      num_collectors: Number of collectors.
    """
    self.root_dir = root_dir
    self.collectors = [f'collector_{i}' for i in range(num_collectors)]
    self.roles = ['service', 'learner', *self.collectors]
    self.num_deaths = collections.Counter()
    self._arguments = [f'--root_dir={root_dir}']
    self._arguments += [f'--gin_file={x}' for x in gin_files]
    self._arguments += ['--gin_file=distributed.gin']
    self._arguments += [f'--gin_bindings={x}' for x in gin_bindings]
    self._seed = seed
    self._port = launcher.free_port()
    self._processes: Dict[str, subprocess.Popen] = {}
    self.cut_link = cut_link.CutLink(self._port)
    self.link = server_link.ServerLink(f'localhost:{self._port}')
    os.makedirs(root_dir, exist_ok=True)

  def start(self, name: str) -> None:
    """Starts or restarts a role."""
    kind, _, number = name.partition('_')
    command = [sys.executable, '-m', _MODULES[kind], *self._arguments]
    environment = dict(os.environ)
    if kind == 'service':
      command += [f'--port={self._port}']
    else:
      port = self.cut_link.port if number == '0' else self._port
      command += [f'--replay=localhost:{port}', f'--seed={self._seed}']
    if number:
      command += [f'--collector={number}']
      environment[counted_domain.FILE_VARIABLE] = self._finished_path(number)
    with open(self._path(f'{name}.log'), 'ab') as log:
      self._processes[name] = subprocess.Popen(
          command,
          env=environment,
          cwd=_ROOT,
          stdout=log,
          stderr=subprocess.STDOUT,
      )

  def signal(self, name: str, number: int) -> None:
    """Sends a signal to a role; if it kills the role, waits for it to end."""
    self._processes[name].send_signal(number)
    if number == signal.SIGKILL:
      self._processes[name].wait()

  def limit_files(self, name: str, num_bytes: Optional[int]) -> None:
    """Limits the size of files a role writes; None removes the limit."""
    limit = resource.RLIM_INFINITY if num_bytes is None else num_bytes
    resource.prlimit(
        self._processes[name].pid,
        resource.RLIMIT_FSIZE,
        (limit, resource.RLIM_INFINITY),
    )

  def cpu_seconds(self, name: str) -> float:
    """Returns the processor time used by all threads of a role."""
    path = f'/proc/{self._processes[name].pid}/stat'
    with open(path, encoding='utf-8') as file:
      # proc(5): fields 14 and 15. Field 2 may contain blanks.
      fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

  def is_over(self, name: str) -> bool:
    """Returns whether a role has finished."""
    return self._processes[name].poll() == 0

  def wait(self, what: str, is_time: Callable[[], bool]) -> float:
    """Waits for a condition, restarting roles that die; returns the seconds.

    Raises:
      TimeoutError: If it takes too long.
    """
    start = time.monotonic()
    while not is_time():
      if time.monotonic() - start > _MAX_SECONDS:
        raise TimeoutError(f'Timed out waiting until {what}.')
      for name, process in self._processes.items():
        if process.poll():
          logging.error('%s died unexpectedly; see its log.', name)
          self.num_deaths[name] += 1
          time.sleep(_RESTART_SECONDS)
          self.start(name)
      time.sleep(_POLL_SECONDS)
    return time.monotonic() - start

  def stop(self, *names: str) -> None:
    """Stops the named roles, or all roles."""
    processes = [self._processes.pop(x) for x in names or [*self._processes]]
    for process in processes:
      process.send_signal(signal.SIGCONT)
      process.terminate()
    for process in processes:
      try:
        process.wait(_STOP_SECONDS)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

  def text(self, name: str) -> str:
    """Returns all output of a role, across restarts."""
    with open(
        self._path(f'{name}.log'), encoding='utf-8', errors='replace'
    ) as log:
      return log.read()

  def train_step(self) -> int:
    """Returns the learner's latest training step."""
    with open(
        self._path('learner', 'heartbeat.json'), encoding='utf-8'
    ) as file:
      return json.load(file)['train_step']

  def online_rows(self) -> List[Dict[str, str]]:
    """Returns the learner's rows of the online phase, one per episode."""
    path = self._path('learner', 'metrics.csv')
    if not os.path.exists(path):
      return []
    with open(path, encoding='utf-8') as file:
      lines = file.read().split('\n')[:-1]
    return [x for x in csv.DictReader(lines) if x['phase'] == 'online']

  def num_finished(self, collector: int) -> int:
    """Returns the number of episodes counted by a collector's environment."""
    path = self._finished_path(collector)
    if not os.path.exists(path):
      return 0
    with open(path, encoding='utf-8') as file:
      return file.read().count('\n')

  def log_names(self) -> List[str]:
    """Returns the file names of the log, in order."""
    return [x[0] for x in self._files('episodes')]

  def books(self) -> Books:
    """Returns the accounts once the service is ready."""
    # Read in the order in which an episode is stored. An episode then looks
    # lost only if it ends at this moment.
    numbers = range(len(self.collectors))
    finished = {i: self.num_finished(i) for i in numbers}
    spooled = {
        (i, int(x[1])) for i in numbers for x in self._files('spool', str(i))
    }
    logged = [int(x[2]) for x in self._files('episodes')]
    arrived = {(spool.collector_of(x), spool.number_of(x)) for x in logged}
    acknowledged = collections.Counter(i for i, _ in spooled | arrived)
    journal = self.link.wait_for('journal', lambda: journal_lib.read(self.link))
    return Books(
        finished=finished,
        acknowledged={i: acknowledged[i] for i in numbers},
        num_logged=len(logged),
        num_doubled=len(logged) - len(set(logged)),
        num_missing=len(spooled - arrived),
        num_table_steps=self.link.size('online'),
        num_journal_steps=int(journal.num_steps.sum()),
        ratio_error=self._ratio_error(journal),
        longest=int(journal.num_steps.max(initial=0)),
    )

  def _ratio_error(self, journal):
    """Returns training steps minus environment steps after the warm-up."""
    rows = self.online_rows()
    if not rows:
      return 0
    first, last = int(rows[0]['train_step']), int(rows[-1]['train_step'])
    num_warm_up = sum(int(row['train_step']) == first for row in rows)
    num_steps = journal.num_steps[num_warm_up : int(rows[-1]['episodes'])]
    return last - first - int(num_steps.sum())

  def _files(self, *place):
    folder = self._path(*place)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return list(filter(None, map(_FILE_NAME.fullmatch, names)))

  def _finished_path(self, number):
    return self._path(f'finished_{number}.txt')

  def _path(self, *names):
    return os.path.join(self.root_dir, *names)
