"""A distributed run under observation: its processes and its books."""

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
"""Bindings of the point maze, for who looks at the online phase alone."""
_ROOT = pathlib.Path(__file__).resolve().parents[1]
_MODULES = {
    'service': 'reverb_server.server',
    'learner': 'parl_tf.binaries.learn',
    'collector': 'parl_tf.binaries.collect',
}
_POLL_SECONDS = 0.1
_MAX_SECONDS = 1800.0  # Of waiting for one thing.
_RESTART_SECONDS = 1.0
_STOP_SECONDS = 20.0
_FILE_NAME = re.compile(r'episode_(\d+)(?:_(\d+))?\.npz')


class Books(NamedTuple):
  """What is known of a run's episodes at one moment.

  Attributes:
    finished: Episodes that ended, by collector, counted by the environment.
    acknowledged: Those that a spool or the log has, synced, by collector.
    num_logged: Episodes of the log.
    num_doubled: Files of the log whose id stands in it already.
    num_missing: Acknowledged ones that are not in the log (yet).
    num_table_steps: Transitions in table `online`.
    num_journal_steps: Environment steps that the journal tells of.
    ratio_error: Training steps less those that the learner's episodes call for.
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
    """Finished episodes that nothing has."""
    return sum(self.finished.values()) - sum(self.acknowledged.values())


class Run:
  """All roles of one run on this machine; one that dies is started anew.

  Attributes:
    root_dir: The run's directory.
    link: To the service.
    cut_link: Between the service and `collector_0`.
    num_deaths: Of roles that ended by themselves, by name.
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
    """Starts nothing yet.

    Args:
      root_dir: The run's directory; what a role prints is appended to
        `<name>.log` in it.
      gin_files: Of all roles, `distributed.gin` left out.
      gin_bindings: Of all roles.
      seed: Of the run.
      num_collectors: Collectors.
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
    """Starts a role, anew where it was killed."""
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
    """Sends a signal to a role; waits for its end where that kills it."""
    self._processes[name].send_signal(number)
    if number == signal.SIGKILL:
      self._processes[name].wait()

  def limit_files(self, name: str, num_bytes: Optional[int]) -> None:
    """Lets no file of a role grow beyond a size; None lifts the limit."""
    limit = resource.RLIM_INFINITY if num_bytes is None else num_bytes
    resource.prlimit(
        self._processes[name].pid,
        resource.RLIMIT_FSIZE,
        (limit, resource.RLIM_INFINITY),
    )

  def cpu_seconds(self, name: str) -> float:
    """Returns the processor time that a role has used, of all its threads."""
    path = f'/proc/{self._processes[name].pid}/stat'
    with open(path, encoding='utf-8') as file:
      # proc(5): fields 14 and 15, of which the second may hold blanks.
      fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

  def is_over(self, name: str) -> bool:
    """Whether a role has come to its end."""
    return self._processes[name].poll() == 0

  def wait(self, what: str, is_time: Callable[[], bool]) -> float:
    """Waits, and starts anew who dies meanwhile; returns the seconds.

    Raises:
      TimeoutError: If it takes too long.
    """
    start = time.monotonic()
    while not is_time():
      if time.monotonic() - start > _MAX_SECONDS:
        raise TimeoutError(f'It was never true that {what}.')
      for name, process in self._processes.items():
        if process.poll():
          logging.error('%s died by itself; see its log.', name)
          self.num_deaths[name] += 1
          time.sleep(_RESTART_SECONDS)
          self.start(name)
      time.sleep(_POLL_SECONDS)
    return time.monotonic() - start

  def stop(self, *names: str) -> None:
    """Ends roles, all where none is named."""
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
    """Returns what a role has printed, in all of its lives."""
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
    """Returns the learner's rows of the online phase, one an episode."""
    path = self._path('learner', 'metrics.csv')
    if not os.path.exists(path):
      return []
    with open(path, encoding='utf-8') as file:
      lines = file.read().split('\n')[:-1]
    return [x for x in csv.DictReader(lines) if x['phase'] == 'online']

  def num_finished(self, collector: int) -> int:
    """Returns the episodes that a collector's environment has counted."""
    path = self._finished_path(collector)
    if not os.path.exists(path):
      return 0
    with open(path, encoding='utf-8') as file:
      return file.read().count('\n')

  def log_names(self) -> List[str]:
    """Returns the files of the log, in order."""
    return [x[0] for x in self._files('episodes')]

  def books(self) -> Books:
    """Returns the books, once the service is ready."""
    # In the order in which an episode travels, so that none looks lost, but
    # for one that ended this moment.
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
    """Training steps less environment steps after the warm-up."""
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
