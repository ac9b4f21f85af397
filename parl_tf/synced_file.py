"""Atomic file writes, synced to disk, and free names."""

import contextlib
import csv
import io
import itertools
import os
import shutil
from typing import Any, BinaryIO, Iterable, Iterator, Mapping, Sequence

PARTIAL_SUFFIX = '.partial'
"""Suffix of a file's name until the file is complete."""

# No name that a user would choose: what has it is removed.
_OLD_SUFFIX = '.replaced-by-parl_tf'


def sync(path: str) -> None:
  """Writes a file or a directory to the disk.

  Raises:
    OSError: If it does not exist or cannot be synced.
  """
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def make_directory(directory: str) -> None:
  """Creates a directory and its parents, and syncs their names.

  Args:
    directory: The directory; it may exist.

  Raises:
    OSError: If it cannot be created or synced.
  """
  place = os.path.abspath(directory)
  parents = []
  while not os.path.lexists(place):
    place = os.path.dirname(place)
    parents.append(place)
  os.makedirs(directory, exist_ok=True)
  for parent in reversed(parents):
    sync(parent)


@contextlib.contextmanager
def write(path: str) -> Iterator[BinaryIO]:
  """Opens a temporary file and renames it to `path` once written and synced.

  Args:
    path: Path of the file; an existing file is replaced.

  Raises:
    OSError: If the file cannot be written.
  """
  partial = path + PARTIAL_SUFFIX
  with named_errors(path), open(partial, 'wb') as file:
    yield file
    file.flush()
    os.fsync(file.fileno())
  os.rename(partial, path)
  # The directory stores the new name: without this sync a power failure may
  # lose it.
  sync(os.path.dirname(path) or '.')


@contextlib.contextmanager
def named_errors(path: str) -> Iterator[None]:
  """Adds a path to errors that name none, as those of a full disk.

  Raises:
    OSError: With the path.
  """
  try:
    yield
  except OSError as error:
    if error.errno is None or error.filename is not None:
      raise
    raise OSError(error.errno, error.strerror, path) from error


def replace_directory(partial: str, directory: str) -> None:
  """Syncs all files of a directory, then puts it in another one's place.

  TensorFlow does not sync its files. A power failure could damage those
  written in the last half minute. After a kill, `restore_directory` finds the
  earlier directory or the new one.

  Args:
    partial: The new directory.
    directory: Its place; a directory there is removed. A symbolic link to one
      is replaced, and what it points to is kept.

  Raises:
    OSError: If a file cannot be synced.
  """
  directory = os.path.normpath(directory)  # Without a slash at its end.
  for folder, _, names in os.walk(partial):
    for path in [*(os.path.join(folder, name) for name in names), folder]:
      sync(path)
  restore_directory(directory)
  old = directory + _OLD_SUFFIX
  if os.path.exists(directory):
    os.replace(directory, old)
  os.replace(partial, directory)
  sync(os.path.dirname(os.path.abspath(directory)))
  _remove(old)


def _remove(directory: str) -> None:
  if os.path.islink(directory):
    os.remove(directory)
  else:
    shutil.rmtree(directory, ignore_errors=True)


def restore_directory(directory: str) -> None:
  """Completes or undoes a `replace_directory` that was killed.

  Args:
    directory: The directory's place.
  """
  directory = os.path.normpath(directory)
  old = directory + _OLD_SUFFIX
  if not os.path.exists(old):
    return
  if os.path.exists(directory):
    _remove(old)
  else:
    os.replace(old, directory)


def write_csv(
    path: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> None:
  """Writes a CSV file as `write` does.

  Args:
    path: Path of the file; an existing file is replaced.
    columns: Names of the columns.
    rows: Cells by column. Other keys are left out, and missing cells are empty.

  Raises:
    OSError: If the file cannot be written.
  """
  text = io.StringIO()
  writer = csv.DictWriter(
      text, columns, extrasaction='ignore', lineterminator='\n'
  )
  writer.writeheader()
  writer.writerows(rows)
  with write(path) as file:
    file.write(text.getvalue().encode())


def free_path(path: str, label: str) -> str:
  """Returns the first free of `<name>.<label>-1<extension>`, `-2` and so on."""
  root, extension = os.path.splitext(path)
  candidates = (f'{root}.{label}-{i}{extension}' for i in itertools.count(1))
  return next(x for x in candidates if not os.path.exists(x))
