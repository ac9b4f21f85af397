"""A lock that keeps two programs from moving one arm."""

import fcntl
import os
from typing import Dict, TextIO
from urllib import parse

from absl import logging

# Locks of this process, by path; the system releases them when it ends.
_HELD: Dict[str, TextIO] = {}


def _release() -> None:
  """Closes the locks that a forked process inherits; the parent's stay."""
  for file in _HELD.values():
    file.close()
  _HELD.clear()


os.register_at_fork(after_in_child=_release)


def path_of(name: str) -> str:
  """Returns the path of an arm's lock."""
  # Neither `TMPDIR`, which may differ between programs, nor the folder of a
  # login session, which a service does not have.
  name = parse.quote(name, safe='')  # It may be a path.
  return f'/tmp/parl_tf_{name}_{os.getuid()}.lock'


def check(name: str) -> None:
  """Raises `ValueError` if another process has the arm; reserves nothing."""
  path = path_of(name)
  if path not in _HELD:
    hold(name)
    _HELD.pop(path).close()


def hold(name: str) -> None:
  """Reserves an arm for this process until it ends, even if it is killed.

  Args:
    name: Name of the arm; each arm of a computer needs its own.

  Raises:
    ValueError: If another process of this user has the arm, which the message
      names.
  """
  path = path_of(name)
  if path in _HELD:
    if _is_at(_HELD[path], path):
      os.utime(_HELD[path].fileno())  # Or the system may remove an old file.
      return
    logging.warning('Robot: the lock %s was removed; it is taken again.', path)
    _HELD.pop(path).close()  # Another process may have locked a new file.
  file = _lock(path, name)
  while not _is_at(file, path):  # Removed between opening and locking.
    file.close()
    file = _lock(path, name)
  _HELD[path] = file


def is_held(name: str) -> bool:
  """Returns whether this process has the arm."""
  return path_of(name) in _HELD


def _lock(path: str, name: str) -> TextIO:
  """Locks a file and writes this process into it."""
  file = _open(path)
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.seek(0)
    process = file.read() or '?'
    file.close()
    raise ValueError(
        f'The arm is in use by process {process}: two programs must not move'
        ' it. If this is another arm of the same computer, bind'
        f' `RobotEnvironment.lock_name` to a name of its own, got {name!r}.'
    ) from error
  file.truncate(0)
  file.write(str(os.getpid()))
  file.flush()
  return file


def _open(path: str) -> TextIO:
  """Opens a lock; in `/tmp`, others could put a link or a file there."""
  flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
  try:
    number = os.open(path, flags, 0o600)
  except OSError as error:
    raise ValueError(
        f'The lock {path} must be a file of this user: {error.strerror}.'
    ) from error
  status = os.fstat(number)
  if status.st_uid != os.getuid() or status.st_nlink > 1:
    os.close(number)
    raise ValueError(f'The lock {path} must be a file of this user.')
  return os.fdopen(number, 'a+', encoding='utf-8')


def _is_at(file: TextIO, path: str) -> bool:
  """Returns whether an open file is the one that has this path."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except FileNotFoundError:
    return False
