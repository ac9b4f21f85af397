"""The run directory: whose it is, and under which configuration."""

import contextlib
import difflib
import fcntl
import os
import re
from typing import Iterator, List

import gin

from parl_tf import synced_file

_FILE = 'config.gin'
_SEED_LINE = re.compile(r'# seed = (\d+)')

# Numbers of steps, episodes and evaluations may change between sessions.
_MAY_CHANGE = re.compile(
    r'num_steps|num_episodes|num_turns|num_evaluation_episodes|evaluation_interval'
    r'|interval|min_steps|tolerance|checkpoint_seconds'
)


@contextlib.contextmanager
def hold(root_dir: str, file_name: str = 'run.lock') -> Iterator[None]:
  """Keeps other processes out of a directory, which is made if it is missing.

  However a process ends, it lets go.

  Args:
    root_dir: The directory.
    file_name: The file in it that is locked.

  Raises:
    ValueError: If another process holds it; names that.
  """
  os.makedirs(root_dir, exist_ok=True)
  with open(os.path.join(root_dir, file_name), 'a+', encoding='utf-8') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      raise ValueError(
          '`root_dir` must be that of one process at a time, but process '
          f'{file.read() or "?"} is at work in {root_dir}. Once that has '
          'ended, the same command goes on.'
      ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    yield


def claim(root_dir: str, seed: int) -> bool:
  """Makes the directory this configuration's, or checks that it is.

  One in which no run has begun is free: a start that failed over its data or
  its configuration is no hindrance to the next.

  Args:
    root_dir: The run's directory, made if it is missing.
    seed: Seed of the run.

  Returns:
    Whether what stands there was made with this configuration.

  Raises:
    ValueError: If a run of another seed or another configuration, numbers of
      steps, episodes and evaluations apart, stands there; names what differs.
  """
  path = os.path.join(root_dir, _FILE)
  config = f'# seed = {seed}\n{gin.config_str()}'
  before = None
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      before = file.read()
  changes = _changes(before or '', config)
  if changes and _holds_run(root_dir):
    if before is None:
      raise ValueError(f'{root_dir} holds a run without its {_FILE}.')
    raise ValueError(
        f'{path}: the directory must belong to this configuration, but was '
        'made with another (- there, + here):\n  ' + '\n  '.join(changes)
    )
  os.makedirs(root_dir, exist_ok=True)
  _write(path, config)
  return not changes


def config_path(root_dir: str) -> str:
  """Returns the path of the run's gin configuration.

  Raises:
    ValueError: If there is none.
  """
  path = os.path.join(root_dir, _FILE)
  if not os.path.exists(path):
    raise ValueError(f'{root_dir} must hold a run, but has no {_FILE}.')
  return path


def read_seed(root_dir: str) -> int:
  """Returns the seed of the run."""
  with open(config_path(root_dir), encoding='utf-8') as file:
    return int(_SEED_LINE.match(file.readline())[1])


def write_operative_config(root_dir: str) -> None:
  """Writes the bindings that were used, defaults included."""
  _write(
      os.path.join(root_dir, 'operative_config.gin'),
      gin.operative_config_str(),
  )


def _holds_run(root_dir: str) -> bool:
  """Whether a run has begun there: it saves before its first step."""
  episodes = os.path.join(root_dir, 'episodes')
  checkpoint = os.path.join(root_dir, 'checkpoints', 'checkpoint')
  return os.path.exists(checkpoint) or (
      os.path.isdir(episodes)
      and any(name.endswith('.npz') for name in os.listdir(episodes))
  )


def _changes(before: str, after: str) -> List[str]:
  """The lines of both that differ and must not, marked `-` and `+`."""
  lines = difflib.unified_diff(
      _fixed_lines(before), _fixed_lines(after), lineterm='', n=0
  )
  return [line for line in lines if not line.startswith(('---', '+++', '@@'))]


def _fixed_lines(config: str) -> List[str]:
  """The bindings that must not change, one a line, sorted."""
  joined = config.replace('\\\n', ' ')
  lines = []
  for line in joined.splitlines():
    line = ' '.join(line.split())
    if not line or (line.startswith('#') and not _SEED_LINE.match(line)):
      continue
    if line.startswith('import '):
      continue  # gin gives them other aliases where one is added.
    name = line.split('=')[0].strip()
    if not _MAY_CHANGE.fullmatch(name.split('.')[-1]):
      lines.append(line)
  return sorted(lines)


def _write(path, text):
  with synced_file.write(path) as file:
    file.write(text.encode())
