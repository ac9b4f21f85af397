"""One run of a study: its process, budget and state."""

import ctypes
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import time
from typing import List, NamedTuple, Optional, Sequence

from parl_tf import synced_file

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_STATE = 'study_run.json'
_LOG = 'log.txt'
# Maximum time that a killed study fails to charge to a run.
_SAVE_SECONDS = 5.0
_GRACE_SECONDS = 10.0
# Last lines of a traceback; continuation lines of a message are indented.
_ERROR = re.compile(
    r'^[ \t]*[\w.]*(Error|Exception|Exit)\b.*(\n[ \t]+\S.*)*', re.MULTILINE
)
_LIBC = ctypes.CDLL(None)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2).

INITIAL_RUN = 'run_experiment.initial_run'
"""Gin parameter with the directory of the run where a run begins."""

FINISHED = 'finished'
STOPPED = 'stopped at its budget'
FAILED = 'failed'


class Job(NamedTuple):
  """One run.

  Attributes:
    name: Directory relative to the study.
    seed: Seed of the run.
    folder: Directory of the run.
    command: Command that starts or resumes the run.
    budget: Core-minutes over all restarts; None for no limit.
    initial_job: Name of the job where the run begins, and for which it waits.
  """

  name: str
  seed: int
  folder: str
  command: Sequence[str]
  budget: Optional[float] = None
  initial_job: Optional[str] = None

  @property
  def initial_folder(self) -> Optional[str]:
    """Directory of the run where the run begins, if there is one."""
    root_dir = self.folder.removesuffix(self.name)
    return self.initial_job and os.path.join(root_dir, self.initial_job)


class Outcome(NamedTuple):
  """How a run ended: `FINISHED`, `STOPPED`, or `FAILED` with its last error."""

  status: str
  error: str = ''


class State(NamedTuple):
  """State that a study stores in a run's directory.

  Attributes:
    core_minutes: Core-minutes used so far. A run has one core, so these are
      minutes.
    settings: Arguments of the last command, without the directory.
    commits: Commits of the checkout that the run used.
    is_finished: Whether that command has finished.
  """

  core_minutes: float = 0.0
  settings: Sequence[str] = ()
  commits: Sequence[str] = ()
  is_finished: bool = False


def read_state(job: Job) -> Optional[State]:
  """Returns the stored state of a run, or None if it has none.

  Raises:
    ValueError: If the file is no JSON, such as after a full disk.
  """
  path = os.path.join(job.folder, _STATE)
  if not os.path.exists(path):
    return None
  with open(path, encoding='utf-8') as file:
    try:
      return State(**json.load(file))
    except ValueError as error:
      raise ValueError(
          f'{path} must be JSON ({error}); remove it to count from zero.'
      ) from error


def known_outcome(job: Job) -> Optional[Outcome]:
  """Returns how a run ended in an earlier session, or None to continue it.

  Runs finished by hand count as finished; runs finished with other arguments do
  not. Other arguments are a failure if no budget is left, or the run cannot be
  continued because its checkpoints were removed, as in committed results. So is
  a run that has not begun, and whose initial run has not got as far as the
  phase where it begins.
  """
  state = read_state(job)
  is_same = state is None or list(state.settings) == _settings(job)
  if _has_summary(job.folder) and (
      state is None or (state.is_finished and is_same)
  ):
    return Outcome(FINISHED)
  if state and job.budget is not None and state.core_minutes >= job.budget:
    if not is_same:
      return Outcome(FAILED, 'has used up its budget with other arguments')
    return Outcome(STOPPED)
  checkpoints = os.path.join(job.folder, 'checkpoints')
  if _has_summary(job.folder) and not is_same and not os.path.exists(
      checkpoints
  ):
    return Outcome(
        FAILED,
        'the directory has the results of other arguments, without checkpoints;'
        ' give another --root_dir',
    )
  # A run that has begun no longer needs it.
  needs_initial = job.initial_job and not os.path.exists(checkpoints)
  if needs_initial and not _can_be_initial(job.initial_folder):
    return Outcome(
        FAILED,
        f'its initial run {job.initial_job} has not finished offline RL',
    )
  return None


class Process:
  """A run in progress.

  Attributes:
    job: The job.
  """

  def __init__(self, job: Job):
    """Starts or resumes the run on one core; its output goes to `log.txt`."""
    self.job = job
    os.makedirs(job.folder, exist_ok=True)
    state = read_state(job) or State()
    self._state = state._replace(
        settings=_settings(job),
        commits=list(dict.fromkeys([*state.commits, _commit()])),
        is_finished=False,
    )
    log = os.path.join(job.folder, _LOG)
    self._log_start = os.path.getsize(log) if os.path.exists(log) else 0
    with open(log, 'ab') as file:
      self._process = subprocess.Popen(
          job.command,
          stdin=subprocess.DEVNULL,
          stdout=file,
          stderr=subprocess.STDOUT,
          env=_environment(),
          preexec_fn=_die_with_parent,
      )
    self._charged_at = time.monotonic()
    self._save()

  @property
  def pid(self) -> int:
    """Returns the process id."""
    return self._process.pid

  def poll(self) -> Optional[Outcome]:
    """Returns how the run ended, or None while it is running.

    Stops a run that has used up its budget.
    """
    status = self._process.poll()
    if status is not None:
      self._charge()
      self._state = self._state._replace(is_finished=status == 0)
      self._save()
      return Outcome(FAILED, self._error(status)) if status else Outcome(
          FINISHED
      )
    elapsed = (time.monotonic() - self._charged_at) / 60.0
    budget = self.job.budget
    if budget is not None and self._state.core_minutes + elapsed >= budget:
      stop_all([self])
      return Outcome(STOPPED)
    if elapsed * 60.0 >= _SAVE_SECONDS:
      self._charge()
      self._save()
    return None

  def terminate(self) -> None:
    """Sends SIGTERM to the process."""
    self._process.terminate()

  def wait(self, seconds: float) -> None:
    """Waits for the process to end, and kills it after `seconds`."""
    try:
      self._process.wait(seconds)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._charge()
    self._save()

  def _charge(self):
    now = time.monotonic()
    minutes = self._state.core_minutes + (now - self._charged_at) / 60.0
    self._state = self._state._replace(core_minutes=minutes)
    self._charged_at = now

  def _save(self):
    path = os.path.join(self.job.folder, _STATE)
    with synced_file.write(path) as file:
      file.write(json.dumps(self._state._asdict(), indent=2).encode())

  def _error(self, status) -> str:
    if status < 0:
      return f'killed by {signal.Signals(-status).name}'
    with open(os.path.join(self.job.folder, _LOG), 'rb') as file:
      file.seek(self._log_start)
      text = file.read().decode(errors='replace')
    errors = [match.group() for match in _ERROR.finditer(text)]
    lines = [line for line in text.splitlines() if line.strip()]
    last = (errors or lines or [f'exit status {status}'])[-1]
    return ' '.join(last.split())


def stop_all(processes: Sequence[Process]) -> None:
  """Terminates processes, and kills those that do not end within seconds."""
  for process in processes:
    process.terminate()
  deadline = time.monotonic() + _GRACE_SECONDS
  for process in processes:
    process.wait(max(0.0, deadline - time.monotonic()))


def _settings(job: Job) -> List[str]:
  # Ignores the interpreter and the directory, so that a study can be moved.
  settings = [x for x in job.command[1:] if not x.startswith('--root_dir=')]
  if job.initial_job is None:
    return settings
  binding = f'--gin_bindings={INITIAL_RUN} ='
  settings = [x for x in settings if not x.startswith(binding)]
  return [*settings, f'initial_job={job.initial_job}']


def _has_summary(folder: str) -> bool:
  path = os.path.join(folder, 'summary.json')
  if not os.path.exists(path):
    return False
  with open(path, encoding='utf-8') as file:
    try:
      return bool(json.load(file)['phases'])
    except (json.JSONDecodeError, KeyError):
      return False


def _can_be_initial(folder: str) -> bool:
  """Returns whether a run has finished, or at least its offline phase."""
  return _has_summary(folder) or os.path.exists(
      os.path.join(folder, 'phases', 'offline')
  )


def _environment():
  """Limits a run to one core; more threads only wait for other runs."""
  return {
      'CUDA_VISIBLE_DEVICES': '',
      'TF_CPP_MIN_LOG_LEVEL': '3',
      **os.environ,
      'OMP_NUM_THREADS': '1',
      'TF_NUM_INTRAOP_THREADS': '1',
      'TF_NUM_INTEROP_THREADS': '1',
  }


def _die_with_parent() -> None:
  # Otherwise the runs of a killed study would be started a second time.
  _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


@functools.lru_cache(maxsize=None)
def _commit() -> str:
  """Returns the commit of the checkout, with `-dirty` if it has changes."""
  try:
    done = subprocess.run(
        # Without tags, only the hash remains.
        'git describe --always --dirty --abbrev=12 --exclude=*'.split(),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
  except OSError:  # git is not installed.
    return 'unknown'
  return done.stdout.strip() or 'unknown'
