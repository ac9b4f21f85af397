"""Pictures as data sets store them: encoded one by one, or as a video."""

from typing import Any, Tuple

import numpy as np
import tensorflow as tf

from parl_tf.datasets import rows as rows_lib

# Frames as they are stored, none doubled or left out to even out the rate;
# what the decoder finds damaged ends the video instead of being painted over.
_INPUT_OPTIONS = ('-xerror', '-err_detect', 'explode')
_OUTPUT_OPTIONS = ('-fps_mode', 'passthrough')
_PIXEL_FORMATS = {1: 'gray', 3: 'rgb24'}
# Of the frame rate, which containers round.
_RATE_TOLERANCE = 0.01


def decode(
    encoded: bytes, shape: Tuple[int, ...], dtype: np.dtype, where: str
) -> np.ndarray:
  """Returns a picture from the bytes of a PNG or JPEG file.

  Args:
    encoded: The bytes.
    shape: `(height, width, channels)` that it must have.
    dtype: Unsigned, of its entries.
    where: File and field, for messages.

  Raises:
    rows.DamagedFileError: If it cannot be decoded or has another shape.
  """
  try:
    picture = tf.io.decode_image(
        encoded, shape[-1], dtype, expand_animations=False
    ).numpy()
  except tf.errors.OpError as error:
    raise rows_lib.DamagedFileError(
        f'{where}: must be a whole picture, and is damaged or of an unknown'
        f' kind ({error.message}).'
    ) from error
  if picture.shape != shape:
    raise rows_lib.DamagedFileError(
        f'{where}: must have shape {shape} as the data set describes it, got'
        f' {picture.shape}.'
    )
  return picture


class Video:
  """The frames of a file, decoded as they are read one after another.

  Attributes:
    file: Path of the file.
  """

  def __init__(self, file: str, shape: Tuple[int, ...], rate: float):
    """Does not open the file yet.

    Args:
      file: Path of the file.
      shape: `(height, width, channels)` of its frames.
      rate: Its frames a second.
    """
    self.file = file
    self._shape = shape
    self._rate = rate
    self._frames: Any = None
    self._position = 0

  def close(self) -> None:
    """Ends the decoder."""
    if self._frames is not None:
      self._frames.close()
      self._frames = None

  def read(self, start: int, count: int, where: str) -> np.ndarray:
    """Returns frames `[count, height, width, channels]`.

    Args:
      start: Number of the first one. Going back decodes from the beginning.
      count: How many.
      where: What they are needed for, for messages.

    Raises:
      rows.DamagedFileError: If the file is damaged, of another size or rate, or
        has fewer frames.
    """
    if self._frames is None or start < self._position:
      self._open()
    pictures = np.empty([count, *self._shape], np.uint8)
    while self._position < start + count:
      frame = self._decode_next()
      if frame is None:
        raise rows_lib.DamagedFileError(
            f'{self.file}: must have at least {start + count} frames, for'
            f' {where}, and has {self._position}, or is damaged there.'
        )
      if self._position >= start:
        pictures[self._position - start] = np.frombuffer(
            frame, np.uint8
        ).reshape(self._shape)
      self._position += 1
    return pictures

  def _open(self) -> None:
    # Imported here, for few data sets have videos.
    import imageio_ffmpeg  # pylint: disable=g-import-not-at-top
    self.close()
    height, width, channels = self._shape
    self._frames = imageio_ffmpeg.read_frames(
        self.file,
        pix_fmt=_PIXEL_FORMATS[channels],
        bits_per_pixel=8 * channels,
        input_params=list(_INPUT_OPTIONS),
        output_params=list(_OUTPUT_OPTIONS),
    )
    self._position = 0
    description = self._decode_next() or {}
    size, rate = description.get('size'), description.get('fps')
    if size != (width, height):
      self._refuse(f'frames must be {width} wide and {height} high, got {size}')
    if abs(rate - self._rate) > _RATE_TOLERANCE * self._rate:
      self._refuse(
          f'must have {self._rate:g} frames a second (`fps`), got {rate:g}'
      )

  def _decode_next(self) -> Any:
    try:
      return next(self._frames, None)
    except (OSError, RuntimeError) as error:
      reason = str(error).strip().splitlines()[-1]
      raise rows_lib.DamagedFileError(
          f'{self.file}: must be a whole video, and is cut short, damaged or of'
          f' another kind ({reason}).'
      ) from error

  def _refuse(self, message: str) -> None:
    raise rows_lib.DamagedFileError(f'{self.file}: {message}.')
