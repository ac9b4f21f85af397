"""Encodes the images of datasets, and decodes images and videos."""

from typing import Any, Tuple

import numpy as np

from parl_tf.datasets import rows as rows_lib

# ffmpeg must fail on corrupt frames instead of concealing them, and must not
# duplicate or drop frames to adjust the rate.
_INPUT_OPTIONS = ('-xerror', '-err_detect', 'explode')
_OUTPUT_OPTIONS = ('-fps_mode', 'passthrough')
_PIXEL_FORMATS = {1: 'gray', 3: 'rgb24'}
# Relative tolerance of the frame rate, which containers round.
_RATE_TOLERANCE = 0.01


def encode(image: np.ndarray) -> bytes:
  """Returns an image `[height, width, channels]` of uint8 as a PNG file."""
  # Imported here: few datasets have encoded images.
  import tensorflow as tf

  return tf.io.encode_png(image).numpy()


def decode(
    encoded: bytes, shape: Tuple[int, ...], dtype: np.dtype, where: str
) -> np.ndarray:
  """Decodes an image `[height, width, channels]` from a PNG or JPEG file.

  Args:
    encoded: Contents of the file.
    shape: Expected `(height, width, channels)`.
    dtype: Unsigned integer type of the pixels.
    where: File and field, used in error messages.

  Raises:
    rows.DamagedFileError: If the image cannot be decoded or has another shape.
  """
  # Imported here: few datasets have encoded images.
  import tensorflow as tf

  try:
    image = tf.io.decode_image(
        encoded, shape[-1], dtype, expand_animations=False
    ).numpy()
  except tf.errors.OpError as error:
    raise rows_lib.DamagedFileError(
        f'{where}: must be a complete PNG or JPEG image; it is corrupt or in'
        f' another format ({error.message}).'
    ) from error
  if image.shape != shape:
    raise rows_lib.DamagedFileError(
        f'{where}: must have shape {shape}, as in the metadata, got'
        f' {image.shape}.'
    )
  return image


class Video:
  """A video file whose frames are decoded sequentially on demand.

  Attributes:
    file: Path of the file.
  """

  def __init__(self, file: str, shape: Tuple[int, ...], rate: float):
    """Initializes the video; the first read opens the file.

    Args:
      file: Path of the file.
      shape: `(height, width, channels)` of a frame.
      rate: Frames per second.
    """
    self.file = file
    self._shape = shape
    self._rate = rate
    self._frames: Any = None
    self._position = 0

  def close(self) -> None:
    """Stops the decoder."""
    if self._frames is not None:
      self._frames.close()
      self._frames = None

  def read(self, start: int, count: int, where: str) -> np.ndarray:
    """Returns frames `[count, height, width, channels]` uint8.

    Args:
      start: Index of the first frame. Seeking backwards restarts decoding from
        the beginning of the file.
      count: Number of frames.
      where: Episode that needs the frames, used in error messages.

    Raises:
      ImportError: If imageio-ffmpeg is not installed.
      rows.DamagedFileError: If the file is corrupt, has another frame size or
        rate, or has too few frames.
    """
    if self._frames is None or start < self._position:
      self._open()
    images = np.empty([count, *self._shape], np.uint8)
    while self._position < start + count:
      frame = self._decode_next()
      if frame is None:
        raise rows_lib.DamagedFileError(
            f'{self.file}: must have at least {start + count} frames for'
            f' {where}, got {self._position}; it is too short or corrupt.'
        )
      if self._position >= start:
        images[self._position - start] = np.frombuffer(
            frame, np.uint8
        ).reshape(self._shape)
      self._position += 1
    return images

  def _open(self) -> None:
    # Imported here because few datasets have videos.
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
    size, rate = description.get('size'), description.get('fps', 0.0)
    if size != (width, height):
      self._refuse(f'frames must have (width, height) {(width, height)}, got'
                   f' {size}')
    if abs(rate - self._rate) > _RATE_TOLERANCE * self._rate:
      self._refuse(
          f'must have {self._rate:g} frames per second (`fps`), got {rate:g}'
      )

  def _decode_next(self) -> Any:
    try:
      return next(self._frames, None)
    except (OSError, RuntimeError) as error:
      reason = str(error).strip().splitlines()[-1]
      raise rows_lib.DamagedFileError(
          f'{self.file}: must be a complete video; it is truncated, corrupt or'
          f' in another format ({reason}).'
      ) from error

  def _refuse(self, message: str) -> None:
    raise rows_lib.DamagedFileError(f'{self.file}: {message}.')
