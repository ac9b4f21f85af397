"""Pictures of many episodes in one array, in memory or in a file.

Episodes hold views of the array, and tables hold places in it. Each picture is
thus stored once, and a dataset larger than memory is read from its file as rows
are drawn.
"""

import os
import tempfile
from typing import Any, Dict, Optional, Tuple

import numpy as np
import tree

from parl_tf import types


class Pictures(np.ndarray):
  """A view of an array of pictures that knows the whole array.

  Attributes:
    whole: `[pictures, height, width, channels]` uint8.
  """

  whole: Optional[np.ndarray] = None

  def __array_finalize__(self, source):
    self.whole = getattr(source, 'whole', None)


def locate(pictures: np.ndarray) -> Optional[Tuple[np.ndarray, int]]:
  """Finds the array of a store of which an array is a part.

  Args:
    pictures: Any array.

  Returns:
    The whole array `[pictures, height, width, channels]`, and the place of the
    first picture in it; None if the pictures are not consecutive there.
  """
  whole = getattr(pictures, 'whole', None)
  if whole is None or not pictures.flags.c_contiguous:
    return None
  if pictures.shape[1:] != whole.shape[1:] or pictures.dtype != whole.dtype:
    return None
  offset = pictures.ctypes.data - whole.ctypes.data
  if not 0 <= offset <= whole.nbytes - pictures.nbytes:
    return None  # Computed from a view.
  return whole, offset // whole[0].nbytes


class PictureStore:
  """Keeps the pictures of a known number of steps.

  If they do not fit into the given memory, they are in a file without a name,
  whose space is free again when the process ends, however it does. The
  operating system holds as much of it in memory as there is room for.
  """

  def __init__(self, num_pictures: int, directory: str, memory_bytes: int):
    """Creates an empty store.

    Args:
      num_pictures: Maximum number of pictures of each camera.
      directory: Directory of the file.
      memory_bytes: Bytes of pictures to hold in memory, of all cameras.
    """
    self._num_pictures = num_pictures
    self._directory = directory
    self._memory_bytes = memory_bytes
    self._cameras: Dict[Any, np.ndarray] = {}
    self._end = 0

  def keep(self, episode: types.Episode) -> types.Episode:
    """Returns the episode with its pictures in the store.

    Raises:
      OSError: If there is no space for the file.
      ValueError: If there are more pictures than announced.
    """
    leaves = dict(tree.flatten_with_path(episode.observation))
    images = {path: x for path, x in leaves.items() if _are_images(x)}
    if not images:
      return episode
    if not self._cameras:
      self._allocate(images)
    end = self._end + episode.num_steps + 1
    if end > self._num_pictures:
      raise ValueError(
          f'The store has room for {self._num_pictures} pictures of each '
          f'camera, got {end}.'
      )

    def keep_leaf(path, leaf):
      if path not in images:
        return leaf
      view = self._cameras[path][self._end : end]
      view[:] = leaf
      return view

    observation = tree.map_structure_with_path(keep_leaf, episode.observation)
    self._end = end
    return episode._replace(observation=observation)

  def _allocate(self, images: Dict[Any, np.ndarray]) -> None:
    """Makes the arrays for images `[T + 1, ...]` like these."""
    shapes = {x: (self._num_pictures, *y.shape[1:]) for x, y in images.items()}
    num_bytes = sum(int(np.prod(shape)) for shape in shapes.values())
    for path, shape in shapes.items():
      if num_bytes <= self._memory_bytes:
        array = np.empty(shape, np.uint8)
      else:
        array = self._map(shape, num_bytes)
      view = array.view(Pictures)
      view.whole = array
      self._cameras[path] = view

  def _map(self, shape: Tuple[int, ...], num_bytes: int) -> np.ndarray:
    """Maps a file of this shape; all cameras need `num_bytes`."""
    with tempfile.TemporaryFile(dir=self._directory) as file:
      try:
        # A write to a mapped file on a full disk would end the process.
        os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
      except OSError as error:
        raise OSError(
            error.errno,
            f'{self._directory} must have {num_bytes / 2**30:.1f} GiB of free '
            'space for the pictures of the dataset, or bind '
            f'`load_dataset.picture_memory_bytes = {num_bytes}` to hold them '
            f'in memory: {error.strerror}',
        ) from error
      # Not a `np.memmap`, whose views are slower.
      return np.asarray(np.memmap(file, np.uint8, 'r+', shape=shape))


def _are_images(array: np.ndarray) -> bool:
  return array.ndim == 4 and array.dtype == np.uint8
