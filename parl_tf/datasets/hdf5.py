"""What formats in HDF5 share: an open file, and damage named."""

import contextlib
from typing import Iterator

import h5py

from parl_tf.datasets import rows as rows_lib


@contextlib.contextmanager
def damage_named(path: str) -> Iterator[None]:
  """Turns what h5py raises of a damaged file into `DamagedFileError`."""
  try:
    yield
  except rows_lib.DamagedFileError:
    raise
  # So h5py reports damage: of data, of groups, of types.
  except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
    raise rows_lib.DamagedFileError(
        f'{path}: must be a whole HDF5 file; it is cut short, damaged or of'
        f' another format ({error}).'
    ) from error


class Source(rows_lib.RowSource):
  """A source that is one HDF5 file.

  Attributes:
    file: The open file.
  """

  def __init__(self, path: str, file_path: str = ''):
    """Opens the file.

    Args:
      path: Of the data set, for messages.
      file_path: Of the file, where it is another one.

    Raises:
      rows.DamagedFileError: If it cannot be opened.
    """
    self.path = path
    self.faults = []
    with damage_named(path):
      self.file = h5py.File(file_path or path, 'r')

  def close(self) -> None:
    self.file.close()
