"""Random numbers that identify the directories of runs and spools."""

import os
import secrets
from typing import Optional

from parl_tf import synced_file

# The files are hidden, because a log counts its visible files as episodes.
RUN = '.run_id'
"""File with the number of the run that a directory belongs to."""
SPOOL = '.spool_id'
"""File with the number of a spool."""
LEARNER = '.learner_id'
"""File with the number of a learner."""


def read_or_make(directory: str, name: str, num_bits: int = 62) -> int:
  """Returns the number of a directory; draws one if the file is missing.

  Args:
    directory: An existing directory.
    name: `RUN`, `SPOOL` or `LEARNER`.
    num_bits: Number of bits of a drawn number.

  Raises:
    OSError: If the file cannot be read or written.
    ValueError: If the file does not contain a number.
  """
  number = _read(directory, name)
  if number is None:
    number = secrets.randbits(num_bits)
    _write(directory, name, number)
  return number


def check_run(directory: str, run_id: int) -> None:
  """Binds a directory to a run, or checks that it already is.

  Args:
    directory: Existing directory of a spool, a learner or an evaluator.
    run_id: Number of the run of the service's log.

  Raises:
    OSError: If the file cannot be read or written.
    ValueError: If the directory is bound to another run, or the file does not
      contain a number.
  """
  bound_to = _read(directory, RUN)
  if bound_to is None:
    _write(directory, RUN, run_id)
  elif bound_to != run_id:
    raise ValueError(
        f'{directory} must belong to the run of the service ({run_id:x}), but'
        f' it belongs to another run ({bound_to:x}). Choose another'
        ' `--root_dir`, or move the directory away.'
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
    raise ValueError(f'{path}: must contain a number, got {text!r}.') from error


def _write(directory: str, name: str, number: int) -> None:
  with synced_file.write(os.path.join(directory, name)) as file:
    file.write(f'{number:x}\n'.encode())
