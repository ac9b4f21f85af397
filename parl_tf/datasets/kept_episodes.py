"""Complete episodes of a recording, each in a file of its own, until it ends.

A process that is killed while it writes may leave an HDF5 file that cannot be
read. These files are whole, whenever that happens.
"""

import glob
import os
import shutil
from typing import Any, Callable, Dict, Mapping, Sequence

import h5py
import numpy as np

from parl_tf import synced_file
from parl_tf.datasets import hdf5

_METADATA = 'metadata'

Rows = Dict[str, np.ndarray]


class KeptEpisodes:
  """The episodes of one recording, in a directory beside its file.

  Attributes:
    directory: The directory; it is made by `add`.
  """

  def __init__(self, path: str):
    """Initializes the object; writes nothing.

    Args:
      path: File of the recording.
    """
    self.directory = path + '.episodes'

  def paths(self) -> Sequence[str]:
    """Returns the files of the episodes, in order."""
    pattern = os.path.join(glob.escape(self.directory), '*.hdf5')
    return sorted(glob.glob(pattern))

  def add(
      self, number: int, rows: Rows, attributes: Mapping[str, Any]
  ) -> None:
    """Writes an episode to the disk.

    Args:
      number: Number of the episode.
      rows: Its columns.
      attributes: Attributes of the recording.
    """
    synced_file.make_directory(self.directory)
    path = os.path.join(self.directory, f'{number:06d}.hdf5')
    with h5py.File(path + '.partial', 'w') as file:
      for name, array in rows.items():
        file.create_dataset(name, data=array)
      for name, value in attributes.items():
        file.attrs[name] = value
    synced_file.sync(path + '.partial')
    os.replace(path + '.partial', path)
    synced_file.sync(self.directory)

  def read(
      self, use: Callable[[Rows, Mapping[str, Any]], None]
  ) -> None:
    """Calls a function with the rows and the attributes of each episode."""
    for path in self.paths():
      with h5py.File(path, 'r') as file:
        rows = {name: column[:] for name, column in hdf5.leaves(file)}
        use(rows, dict(file.attrs))

  def remove(self) -> None:
    """Removes the directory, if it exists."""
    shutil.rmtree(self.directory, ignore_errors=True)
