"""A lock that keeps two programs from moving one arm."""

import fcntl
import os
import tempfile
from typing import Dict, TextIO

# Locks of this process, by path; the system releases them when it ends.
_HELD: Dict[str, TextIO] = {}


def hold(name: str) -> None:
  """Reserves an arm for this process until it ends, even if it is killed.

  Args:
    name: Name of the arm; each arm of a computer needs its own.

  Raises:
    ValueError: If another process of this user has the arm, which the message
      names.
  """
  path = os.path.join(
      tempfile.gettempdir(), f'parl_tf_{name}_{os.getuid()}.lock'
  )
  if path in _HELD:
    return
  file = open(path, 'a+', encoding='utf-8')  # noqa: SIM115 (kept open)
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
  _HELD[path] = file
