"""Shared base of the HDF5 formats: an open file and its error handling."""

import contextlib
from typing import Iterator, Tuple

import h5py

from parl_tf.datasets import rows as rows_lib


@contextlib.contextmanager
def damage_named(path: str) -> Iterator[None]:
  """Converts the exceptions of h5py on corrupt files to `DamagedFileError`."""
  try:
    yield
  except rows_lib.DamagedFileError:
    raise
  # h5py raises any of these on corrupt data, groups or types.
  except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
    raise rows_lib.DamagedFileError(
        f'{path}: must be a complete HDF5 file; it is truncated, corrupt or in'
        f' another format ({error}).'
    ) from error


def leaves(
    group: h5py.Group, prefix: str = ''
) -> Iterator[Tuple[str, h5py.Dataset]]:
  """Yields all datasets of a group, recursively, with relative paths."""
  for name in map(str, group):
    item = group[name]
    if isinstance(item, h5py.Group):
      yield from leaves(item, f'{prefix}{name}/')
    else:
      yield prefix + name, item


class Source(rows_lib.RowSource):
  """A row source backed by a single HDF5 file.

  Attributes:
    file: The open file.
  """

  def __init__(self, path: str, file_path: str = ''):
    """Opens the file.

    Args:
      path: Path of the dataset, used in error messages.
      file_path: Path of the file, if it differs from `path`.

    Raises:
      rows.DamagedFileError: If the file cannot be opened.
    """
    self.path = path
    self.faults = []
    with damage_named(path):
      self.file = h5py.File(file_path or path, 'r')

  def close(self) -> None:
    self.file.close()
