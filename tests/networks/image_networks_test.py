"""Tests of the image encoder and of random shifts."""

import itertools

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import networks
from parl_tf.networks import image_networks
from tests import tensor_case

_SHAPE = (16, 12, 3)


def _make(seed=0, **kwargs):
  sizes = dict(stage_widths=(4, 8), blocks_per_stage=1, channels_per_group=4)
  return image_networks.ImageEncoder(
      _SHAPE, seed, **{**sizes, 'feature_size': 6, **kwargs}
  )


def _make_images(*shape, seed=0):
  pixels = np.random.default_rng(seed).integers(0, 256, shape)
  return pixels.astype(np.uint8)


class ImageEncoderTest(tensor_case.TensorCase):

  def test_features_are_bounded_and_depend_on_the_image(self):
    encoder = _make()
    features = encoder(_make_images(5, *_SHAPE)).numpy()
    self.assertEqual(features.shape, (5, encoder.size))
    self.assertEqual(features.dtype, np.float32)
    self.assertAllInRange(features, -1.0, 1.0)
    self.assertGreater(np.ptp(features, axis=0).min(), 1e-3)

  def test_each_image_is_encoded_independently(self):
    encoder, images = _make(), _make_images(5, *_SHAPE)
    self.assertAllClose(
        encoder(images)[1:3], encoder(images[1:3]), atol=1e-5
    )

  def test_the_number_of_weights_is_that_of_resnet_18(self):
    # Table 1 of the paper: 11,166,912 weights of convolutions, a scale and an
    # offset for each of 4,800 channels, and the dense layer on the last 512.
    with tf.Graph().as_default():
      encoder = image_networks.ImageEncoder((100, 100, 3), 0)
      sizes = [v.shape.num_elements() for v in encoder.trainable_variables]
    features = 512 * 256 + 3 * 256
    self.assertEqual(sum(sizes), 11_166_912 + 2 * 4_800 + features)
    self.assertEqual(encoder.size, 256)

  def test_stages_halve_height_and_width(self):
    # The first convolution, the pooling and three stages each halve 100.
    with tf.Graph().as_default() as graph:
      encoder = image_networks.ImageEncoder(
          (100, 100, 3), 0, stage_widths=(1, 1, 1, 1), blocks_per_stage=1
      )
      encoder(tf.zeros([2, 100, 100, 3], tf.uint8))
      sizes = [
          op.outputs[0].shape[1]
          for op in graph.get_operations()
          if op.type == 'Conv2D'
      ]
    # The first convolution; a block of two; three blocks of two and a
    # projection.
    self.assertEqual(sizes, [50, 25, 25, *[13] * 3, *[7] * 3, *[4] * 3])

  def test_the_weights_are_a_function_of_the_seed(self):
    first, same, other = (_make(seed) for seed in (0, 0, 1))
    for a, b in zip(first.variables, same.variables, strict=True):
      self.assertAllEqual(a, b)
    kernels = [v for v in first.variables if v.shape.rank == 4]
    self.assertLen({v.numpy().tobytes() for v in kernels}, len(kernels))
    self.assertNotAllEqual(first.variables[0], other.variables[0])

  def test_gradients_reach_all_weights(self):
    encoder = _make()
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(encoder(_make_images(4, *_SHAPE))[:, 0])
    variables = encoder.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
      self.assertGreater(np.abs(gradient).max(), 0, variable.name)

  def test_images_of_other_types_are_an_error(self):
    with self.assertRaisesRegex(TypeError, 'uint8, got float32'):
      _make()(tf.zeros([2, *_SHAPE]))

  @parameterized.parameters(
      (dict(stage_widths=()), r'`stage_widths`.*\(\)'),
      (dict(stage_widths=(4, 0)), r'`stage_widths`.*\(4, 0\)'),
      (dict(blocks_per_stage=0), '`blocks_per_stage`.*0'),
      (dict(channels_per_group=0), '`channels_per_group`.*0'),
      (dict(feature_size=0), '`feature_size`.*0'),
      (dict(stage_widths=(4, 6)), '`stage_widths`.*6 and 4'),
  )
  def test_bad_sizes_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _make(**arguments)


class RandomShiftTest(tensor_case.TensorCase):

  @parameterized.product(
      dtype=[np.uint8, np.float32], in_graph=[False, True], padding=[1, 4]
  )
  def test_equals_a_crop_of_the_padded_image(self, dtype, in_graph, padding):
    # All corners, the centers of the sides, and the center.
    places = (0, padding, 2 * padding)
    offsets = np.array(list(itertools.product(places, places)), np.int32)
    images = _make_images(len(offsets), 7, 5, 2).astype(dtype)
    margins = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    padded = np.pad(images, margins, mode='edge')

    run = networks.random_shift
    if in_graph:
      run = tf.function(run, autograph=False)
    shifted = run(tf.constant(images), tf.constant(offsets), padding)

    self.assertEqual(shifted.dtype, dtype)
    for i, (row, column) in enumerate(offsets):
      expected = padded[i, row : row + 7, column : column + 5]
      self.assertAllEqual(shifted[i], expected)

  def test_without_padding_images_do_not_change(self):
    images = _make_images(2, 4, 4, 3)
    offsets = tf.zeros([2, 2], tf.int32)
    shifted = image_networks.random_shift(images, offsets, 0)
    self.assertAllEqual(shifted, images)

  def test_offsets_with_another_number_of_rows_are_an_error(self):
    with self.assertRaises(ValueError):
      image_networks.random_shift(
          tf.zeros([2, 4, 4, 3]), tf.zeros([3, 2], tf.int32), 1
      )


if __name__ == '__main__':
  tf.test.main()
