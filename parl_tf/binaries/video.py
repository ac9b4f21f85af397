"""Writes the first episode of an evaluation as a video."""

import contextlib
import functools
import importlib.util
import os
from typing import Any, Callable, Dict, Optional

import numpy as np

from parl_tf.training import evaluation_video

_SIDE_MULTIPLE = 2


class VideoRecorder(contextlib.AbstractContextManager):
  """Evaluation observer that writes the first episode as a video."""

  def __init__(
      self,
      path: str,
      make_panel: Optional[Callable[[int], Any]] = None,
  ):
    """Opens the file.

    Args:
      path: Path of the video; its extension, such as `.mp4`, sets the format.
      make_panel: Makes a `Panel` of the given size in pixels, which is drawn
        beside the environment; None draws the environment alone.

    Raises:
      ValueError: If a package needed to write videos is missing.
    """
    for package in ('imageio', 'imageio_ffmpeg'):
      if importlib.util.find_spec(package) is None:
        raise ValueError(
            f'`video` needs the package {package}, which is not installed:'
            ' `pip install imageio imageio-ffmpeg`.'
        )
    # Imported here: only videos need it.
    import imageio

    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    self._path = path
    rate = evaluation_video.FRAMES_PER_SECOND
    options: Dict[str, Any]
    if path.lower().endswith('.gif'):
      options = {'duration': 1e3 / rate}  # Milliseconds.
    else:
      # By default, pictures are stretched to multiples of 16 pixels.
      options = {'fps': rate, 'macro_block_size': _SIDE_MULTIPLE}
    self._open = functools.partial(imageio.get_writer, path, **options)
    self._writer = self._open()
    self._make_panel = make_panel
    self._panel: Any = None
    self._is_over = False

  def __call__(self, environments, running, step):
    if evaluation_video.begins(running, step):
      self._writer.close()  # Of a lost attempt.
      self._writer = self._open()
      self._is_over = False
    # Also records the final state of the episode.
    if not self._is_over:
      self._writer.append_data(_padded(self._frame(environments[0])))
    self._is_over = not running[0]

  def _frame(self, environment):
    picture = evaluation_video.render(environment)
    if self._make_panel is None:
      return picture
    if self._panel is None:
      self._panel = self._make_panel(len(picture))
    return np.concatenate([picture, self._panel.draw()], axis=1)

  def __exit__(self, *unused_exception):
    self._writer.close()


def _padded(picture):
  """Repeats the last row and column where video codecs need even sides."""
  height, width, _ = picture.shape
  sides = [(0, -height % _SIDE_MULTIPLE), (0, -width % _SIDE_MULTIPLE), (0, 0)]
  return np.pad(picture, sides, mode='edge')
