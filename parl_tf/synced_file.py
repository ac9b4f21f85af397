"""Files that stand whole and synced under their name, or not at all."""

import contextlib
import os
from typing import BinaryIO, Iterator

PARTIAL_SUFFIX = '.partial'
"""Of the name that a file has until it is whole."""


@contextlib.contextmanager
def write(path: str) -> Iterator[BinaryIO]:
  """Opens a file that gets its name once it is written and synced.

  Args:
    path: Of the file; one that stands there is replaced.

  Raises:
    OSError: If it cannot be written.
  """
  partial = path + PARTIAL_SUFFIX
  with open(partial, 'wb') as file:
    yield file
    file.flush()
    os.fsync(file.fileno())
  os.rename(partial, path)
  # The new name is in the directory's data: without this a power cut may
  # forget it.
  descriptor = os.open(os.path.dirname(path) or '.', os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
