"""Tests of decoding the images and videos of datasets."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.datasets import images
from parl_tf.datasets import rows
from tests.datasets import lerobot_files as files

# Tolerance for the color conversion of a video.
_ROUNDING = 2


class DecodeTest(parameterized.TestCase):

  @parameterized.parameters((tf.io.encode_png, 0), (tf.io.encode_jpeg, 8))
  def test_decoded_images_match_the_originals(self, encode, tolerance):
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    seen = images.decode(
        encode(image, quality=100).numpy() if tolerance
        else encode(image).numpy(),
        (4, 5, 3), np.uint8, 'file',
    )
    self.assertEqual(seen.dtype, np.uint8)
    np.testing.assert_allclose(
        seen.astype(int), image.astype(int), atol=tolerance
    )

  def test_16_bit_depth(self):
    image = np.arange(20, dtype=np.uint16).reshape(4, 5, 1) * 3_000
    encoded = tf.io.encode_png(image).numpy()
    seen = images.decode(encoded, (4, 5, 1), np.uint16, 'file')
    np.testing.assert_array_equal(seen, image)

  @parameterized.parameters(
      (b'', 'complete PNG or JPEG'),
      (tf.io.encode_png(np.zeros([4, 5, 3], np.uint8)).numpy()[:40],
       'complete'),
      (tf.io.encode_png(np.zeros([4, 6, 3], np.uint8)).numpy(), '4, 6, 3'),
  )
  def test_invalid_images_are_refused(self, encoded, message):
    with self.assertRaisesRegex(rows.DamagedFileError, f'^file.*{message}'):
      images.decode(encoded, (4, 5, 3), np.uint8, 'file')


class VideoTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._file = os.path.join(self.create_tempdir().full_path, 'video.mp4')

  def _open(self, values=(0, 10, 20, 30), shape=(16, 16, 3), **kwargs):
    files.save(self._file, files.video(values, **kwargs))
    video = images.Video(self._file, shape, files.RATE)
    self.addCleanup(video.close)
    return video

  def test_frames_are_read_in_any_batches(self):
    video = self._open()
    for start, count in ((0, 1), (1, 2), (3, 1), (1, 2), (0, 4)):
      frames = video.read(start, count, 'row 0')
      self.assertEqual(frames.shape, (count, 16, 16, 3))
      np.testing.assert_allclose(
          frames[:, 0, 0, 0].astype(int), 10 * np.arange(start, start + count),
          atol=_ROUNDING,
      )

  def test_one_channel(self):
    frames = self._open(shape=(16, 16, 1)).read(2, 1, 'row 0')
    np.testing.assert_allclose(frames.astype(int), 20, atol=_ROUNDING)

  def test_height_and_width_are_not_confused(self):
    video = self._open(shape=(8, 24, 3), height=8, width=24)
    self.assertEqual(video.read(0, 1, 'row 0').shape, (1, 8, 24, 3))

  @parameterized.parameters(
      (dict(height=8), r'\(16, 16\), got \(16, 8\)'),
      (dict(rate=25), '10 frames per second .*, got 25'),
      (dict(values=(0, 10, 20)), 'at least 4 frames for row 3, got 3'),
  )
  def test_mismatched_videos_are_refused(self, changes, message):
    video = self._open(**changes)
    with self.assertRaisesRegex(rows.DamagedFileError, f'video.mp4.*{message}'):
      video.read(0, 4, 'row 3')

  def test_corruption_in_the_middle_is_an_error(self):
    video = self._open(tuple(range(0, 240, 4)))
    with open(self._file, 'r+b') as file:
      # The frame data lie between these two positions.
      content = file.read()
      start, end = (content.find(x) for x in (b'mdat', b'moov'))
      file.seek((start + end) // 2)
      file.write(bytes((end - start) // 4))
    with self.assertRaisesRegex(rows.DamagedFileError, 'video.mp4.*corrupt'):
      video.read(0, 60, 'row 0')

  @parameterized.parameters(b'', b'no video at all')
  def test_a_file_that_is_not_a_video_is_refused(self, content):
    video = self._open()
    files.save(self._file, content)
    with self.assertRaisesRegex(
        rows.DamagedFileError, 'complete video.*Invalid'
    ):
      video.read(0, 1, 'row 0')


if __name__ == '__main__':
  absltest.main()
