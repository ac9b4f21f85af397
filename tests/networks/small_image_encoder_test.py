"""Tests of the small image encoder."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.networks import small_image_encoder
from tests import tensor_case

_SHAPE = (16, 8, 6)


def _make(seed=0, **kwargs):
  return small_image_encoder.SmallImageEncoder(
      _SHAPE, seed, **{**dict(widths=(4, 8), feature_size=6), **kwargs}
  )


def _make_images(*batch):
  pixels = np.random.default_rng(0).integers(0, 256, (*batch, *_SHAPE))
  return pixels.astype(np.uint8)


class SmallImageEncoderTest(tensor_case.TensorCase):

  def test_features_are_bounded_and_depend_on_the_image(self):
    encoder = _make()
    features = encoder(_make_images(5)).numpy()
    self.assertEqual(features.shape, (5, encoder.size))
    self.assertAllInRange(features, -1.0, 1.0)
    self.assertGreater(np.ptp(features, axis=0).min(), 1e-3)

  def test_each_image_is_encoded_independently(self):
    encoder, images = _make(), _make_images(5)
    self.assertAllClose(encoder(images)[1:3], encoder(images[1:3]), atol=1e-5)

  def test_features_tell_where_in_the_picture_something_is(self):
    image = np.zeros((2, *_SHAPE), np.uint8)
    image[0, :4, :4] = image[1, 12:, 4:] = 255
    features = _make()(image)
    self.assertGreater(np.abs(features[0] - features[1]).max(), 1e-2)

  def test_the_number_of_weights_is_known(self):
    # Patches 4 x 4 x 6 -> 4, a convolution 3 x 3 x 4 -> 8, and 2 x 1 x 8
    # features -> 6, each with biases; a scale and an offset per feature.
    wanted = (96 * 4 + 4) + (36 * 8 + 8) + (16 * 6 + 6) + 12
    encoder = _make()
    sizes = [v.shape.num_elements() for v in encoder.trainable_variables]
    self.assertEqual(sum(sizes), wanted)

  def test_the_seed_gives_the_weights(self):
    images = _make_images(2)
    self.assertAllEqual(_make(1)(images), _make(1)(images))
    self.assertNotAllEqual(_make(1)(images), _make(2)(images))

  def test_images_must_be_uint8(self):
    with self.assertRaisesRegex(TypeError, 'uint8.*float32'):
      _make()(tf.zeros([1, *_SHAPE]))

  @parameterized.parameters(
      (dict(patch_size=3), '`patch_size`.*3 and 16 x 8'),
      (dict(widths=()), '`widths`'),
      (dict(feature_size=0), '`feature_size`'),
  )
  def test_faulty_sizes_are_errors(self, sizes, message):
    with self.assertRaisesRegex(ValueError, message):
      _make(**sizes)


if __name__ == '__main__':
  tf.test.main()
