"""Random numbers that tell directories apart: logs of runs, and spools."""

import os
import secrets
from typing import Optional

from parl_tf import synced_file

# Hidden: what counts a log's episodes counts files.
RUN = '.run_id'
"""File with the number of the run whose log, spool or learner is there."""
SPOOL = '.spool_id'
"""File with the number of the spool itself."""


def read_or_make(directory: str, name: str, num_bits: int = 62) -> int:
  """Returns the number of a directory; one that has none gets one at random.

  Args:
    directory: It must exist.
    name: `RUN` or `SPOOL`.
    num_bits: Of one made here.

  Raises:
    OSError: If the file cannot be read or written.
    ValueError: If it holds no number.
  """
  number = _read(directory, name)
  if number is None:
    number = secrets.randbits(num_bits)
    _write(directory, name, number)
  return number


def check_run(directory: str, run_id: int) -> None:
  """Binds a directory to a run, or finds it bound to that one.

  Args:
    directory: Of a spool, or of a learner; it must exist.
    run_id: Of the service's log.

  Raises:
    OSError: If it cannot be read or written.
    ValueError: If it is bound to another run, or the file holds no number.
  """
  bound_to = _read(directory, RUN)
  if bound_to is None:
    _write(directory, RUN, run_id)
  elif bound_to != run_id:
    raise ValueError(
        f'{directory}: it must be of the run whose log the service has'
        f' ({run_id:x}), but is of another ({bound_to:x}). Give another'
        ' `--root_dir`, or move that directory away.'
    )


def _read(directory: str, name: str) -> Optional[int]:
  path = os.path.join(directory, name)
  try:
    with open(path, encoding='ascii') as file:
      text = file.read()
  except FileNotFoundError:
    return None
  try:
    return int(text, 16)
  except ValueError as error:
    raise ValueError(f'{path}: must hold a number, got {text!r}.') from error


def _write(directory: str, name: str, number: int) -> None:
  with synced_file.write(os.path.join(directory, name)) as file:
    file.write(f'{number:x}\n'.encode())
