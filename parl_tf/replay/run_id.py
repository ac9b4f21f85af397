"""Which run a log of episodes, or a spool, belongs to."""

import os
import secrets
from typing import Optional

from parl_tf.replay import synced_file

# Hidden: what counts a log's episodes counts files.
_FILE_NAME = '.run_id'


def read_or_make(directory: str) -> int:
  """Returns the id of a log's run; a log that has none gets one at random.

  Args:
    directory: Of the log, which must exist.

  Raises:
    OSError: If it cannot be read or written.
    ValueError: If the file holds no number.
  """
  run_id = _read(directory)
  if run_id is None:
    run_id = secrets.randbits(62)
    _write(directory, run_id)
  return run_id


def check(directory: str, run_id: int) -> None:
  """Binds a spool to a run, or finds it bound to that one.

  Args:
    directory: Of the spool, which must exist.
    run_id: Of the service's log.

  Raises:
    OSError: If it cannot be read or written.
    ValueError: If it is bound to another run, or the file holds no number.
  """
  bound_to = _read(directory)
  if bound_to is None:
    _write(directory, run_id)
  elif bound_to != run_id:
    raise ValueError(
        f'{directory}: the spool must be of the run that the service has'
        f' ({run_id:x}), but holds episodes of another ({bound_to:x}). Give the'
        ' collector another `--root_dir`, or move that spool away.'
    )


def _read(directory: str) -> Optional[int]:
  path = os.path.join(directory, _FILE_NAME)
  try:
    with open(path, encoding='ascii') as file:
      text = file.read()
  except FileNotFoundError:
    return None
  try:
    return int(text, 16)
  except ValueError as error:
    raise ValueError(f'{path}: must hold a number, got {text!r}.') from error


def _write(directory: str, run_id: int) -> None:
  with synced_file.write(os.path.join(directory, _FILE_NAME)) as file:
    file.write(f'{run_id:x}\n'.encode())
