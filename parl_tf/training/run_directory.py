"""The directory of a run: its lock and its configuration."""

import contextlib
import difflib
import fcntl
import glob
import os
import re
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import gin

from parl_tf import synced_file
from parl_tf.reports import run_files
from parl_tf.training import effective_bindings

_FILE = 'config.gin'
# Exists from the end of a run until the directory is claimed again.
_FINISHED = 'finished'
_NUM_CHANGES_SHOWN = 8
# A power failure may damage TensorFlow's list of its checkpoints.
_CHECKPOINTS = (('checkpoints', 'checkpoint'), ('checkpoints', 'ckpt-*.index'))
_SEED_LINE = re.compile(r'# seed = (\d+)')

# Numbers of steps, episodes and evaluations may differ between sessions, and so
# may the exported policies, what is held in memory, and the addresses and
# deadlines of a policy's servers, whose weights have versions, and what limits
# the roles of a distributed run.
_MAY_CHANGE = re.compile(
    r'(.*[./])?('
    r'(BehaviorCloning|Offline)\.(num_steps|interval)'
    r'|BehaviorCloning\.(min_steps|tolerance)'
    r'|Online\.num_episodes|OnPolicy\.num_turns|ServedOnline\.num_epochs'
    r'|ReplayService\.(max_size|max_queue_size)|collect\.max_episodes_ahead'
    r'|follow\.min_seconds'
    r'|\w+\.(evaluation_interval|video_interval|num_evaluation_episodes'
    r'|checkpoint_seconds|address|exported_policies|picture_memory_bytes'
    r'|max_block_bytes|patience_seconds|call_seconds|workers)'
    r')'
)
_INITIAL_RUN = re.compile(r'[-+]run_experiment\.initial_run = ')


class OtherRunError(ValueError):
  """A directory belongs to another run, or to one without checkpoints."""


@contextlib.contextmanager
def hold(root_dir: str, file_name: str = 'run.lock') -> Iterator[None]:
  """Locks a directory against other processes; creates it if it is missing.

  The lock is released even if the process is killed.

  Args:
    root_dir: The directory.
    file_name: Name of the lock file.

  Raises:
    ValueError: If another process holds the lock, which the message names, or
      the directory cannot be created.
  """
  check_place(root_dir)
  synced_file.make_directory(root_dir)
  with open(os.path.join(root_dir, file_name), 'a+', encoding='utf-8') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      raise ValueError(
          f'`root_dir` {root_dir} is in use by process {file.read() or "?"}. '
          'Rerun the command after that process has ended.'
      ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    yield


def check_place(root_dir: str) -> None:
  """Checks that a directory exists or can be created.

  Raises:
    ValueError: If there is a file in its place, or it is not writable.
  """
  place = os.path.abspath(root_dir)
  while not os.path.lexists(place):
    place = os.path.dirname(place)
  if not os.path.isdir(place):
    raise ValueError(f'`root_dir` must be a directory, but {place} is a file.')
  if not os.access(place, os.W_OK):
    raise ValueError(f'`root_dir`: {place} must be writable, but is not.')


def claim(
    root_dir: str, seed: int, set_aside: Callable[[], None] = lambda: None
) -> bool:
  """Binds a directory to this configuration, or checks that it already is.

  The run is unfinished from then on, until `mark_finished` is called.

  A directory without a started run is free: an attempt that failed because of
  its data or configuration does not block the next one.

  Args:
    root_dir: Directory of the run; created if it is missing.
    seed: Seed of the run.
    set_aside: Renames what another configuration left. It is called before the
      directory is bound to this one: after a kill, it is called again.

  Returns:
    Whether the directory was already bound to this configuration.

  Raises:
    OtherRunError: If the directory has a run with another seed or
      configuration, apart from numbers of steps, episodes and evaluations, and
      the path of the run where it began. The message shows the differences. Or
      if it has the results of a run whose checkpoints were removed.
    ValueError: If the directory has a run, but no configuration.
  """
  path = os.path.join(root_dir, _FILE)
  config = _config(seed)
  before = None
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      before = file.read()
  changes = _changes(before or '', config)
  if not _has_any(root_dir, _CHECKPOINTS) and _has_results(root_dir):
    raise OtherRunError(
        f'{root_dir} has the results of a run, but no checkpoints, and would '
        'be overwritten; give another --root_dir.'
    )
  if holds_run(root_dir):
    changes = _without_initial_run(changes, root_dir)
  if changes and holds_run(root_dir):
    if before is None:
      raise ValueError(f'{root_dir} has a run, but no {_FILE}.')
    more = len(changes) - _NUM_CHANGES_SHOWN
    raise OtherRunError(
        f'{path}: the directory belongs to another configuration (- there, + '
        'here); give another --root_dir, or the same configuration:\n  '
        + '\n  '.join(changes[:_NUM_CHANGES_SHOWN])
        + (f'\n  and {more} more lines' if more > 0 else '')
    )
  synced_file.make_directory(root_dir)
  with contextlib.suppress(FileNotFoundError):
    os.remove(os.path.join(root_dir, _FINISHED))
  if changes:
    set_aside()
  _write(path, config)
  return not changes


def mark_finished(root_dir: str, mark: str = '') -> None:
  """Records that the claimed run has written all its results.

  Args:
    root_dir: Directory of the run.
    mark: Text for `finished_mark`.
  """
  _write(os.path.join(root_dir, _FINISHED), mark)


def finished_mark(root_dir: str) -> Optional[str]:
  """Returns the text that a finished run was marked with, else None."""
  path = os.path.join(root_dir, _FINISHED)
  if not os.path.exists(path):
    return None
  with open(path, encoding='utf-8') as file:
    return file.read()


def is_finished(root_dir: str, seed: int) -> bool:
  """Returns whether a directory has a finished run of this configuration.

  Numbers of steps, episodes and evaluations must also be equal.

  Args:
    root_dir: Directory of the run; it may be missing.
    seed: Seed of the run.
  """
  if not os.path.exists(os.path.join(root_dir, _FINISHED)):
    return False
  with open(config_path(root_dir), encoding='utf-8') as file:
    return file.read() == _config(seed)


def holds_run(root_dir: str) -> bool:
  """Returns whether a run has started; a run saves before its first step."""
  return _has_any(root_dir, (*_CHECKPOINTS, ('episodes', '*.npz')))


def _has_any(root_dir: str, patterns: Sequence[Tuple[str, str]]) -> bool:
  return any(
      glob.glob(os.path.join(glob.escape(root_dir), *pattern))
      for pattern in patterns
  )


def _has_results(root_dir: str) -> bool:
  """Returns whether a run has written rows; a failed start has a header."""
  path = os.path.join(root_dir, 'metrics.csv')
  if not os.path.exists(path):
    return False
  with open(path, encoding='utf-8') as file:
    return len(file.readlines()) > 1


def config_path(root_dir: str) -> str:
  """Returns the path of the run's gin configuration.

  Raises:
    ValueError: If the directory has no configuration.
  """
  path = os.path.join(root_dir, _FILE)
  if not os.path.exists(path):
    raise ValueError(f'{root_dir} is not a run directory: it has no {_FILE}.')
  return path


def read_seed(root_dir: str) -> int:
  """Returns the seed of the run."""
  with open(config_path(root_dir), encoding='utf-8') as file:
    found = _SEED_LINE.match(file.readline())
  if found is None:
    raise ValueError(f'{config_path(root_dir)} is damaged: it has no seed.')
  return int(found[1])


def write_operative_config(root_dir: str) -> None:
  """Writes the bindings that were used, including defaults."""
  _write(
      os.path.join(root_dir, 'operative_config.gin'),
      gin.operative_config_str(),
  )


def _config(seed: int) -> str:
  return f'# seed = {seed}\n{gin.config_str()}'


def _changes(before: str, after: str) -> List[str]:
  """Returns the fixed lines that differ, marked `-` and `+`."""
  lines = difflib.unified_diff(
      _fixed_lines(before), _fixed_lines(after), lineterm='', n=0
  )
  return [line for line in lines if not line.startswith(('---', '+++', '@@'))]


def _without_initial_run(changes: List[str], root_dir: str) -> List[str]:
  """Drops a new path of the initial run, which a started run never reads.

  It may have been moved. A run that did not begin from another one has no
  record of it, and cannot begin from one later.
  """
  own = [line for line in changes if _INITIAL_RUN.match(line)]
  record = os.path.join(root_dir, run_files.INITIAL_RUN)
  if len(own) != 2 or not os.path.exists(record):
    return changes
  return [line for line in changes if line not in own]


def _fixed_lines(config: str) -> List[str]:
  """Returns the bindings that must not change, one per line, sorted.

  Bindings to defaults are left out.
  """
  # Further lines of a value are indented.
  joined = re.sub(r'\\?\n[ \t]+', ' ', config)
  lines = []
  for line in joined.splitlines():
    line = ' '.join(line.split())
    if not line or (line.startswith('#') and not _SEED_LINE.match(line)):
      continue
    if line.startswith('import '):
      continue  # gin renames aliases when an import is added.
    name = line.split('=')[0].strip()
    if not _MAY_CHANGE.fullmatch(name):
      lines.append(line)
  return sorted(effective_bindings.effective(lines))


def _write(path, text):
  with synced_file.write(path) as file:
    file.write(text.encode())
