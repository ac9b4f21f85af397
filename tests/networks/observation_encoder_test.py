"""Tests of the encoder of observations, with and without images."""

from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.networks import observation_encoder
from tests import small_images
from tests import tensor_case

_SPEC = small_images.OBSERVATION_SPEC


def _statistics(**changes):
  statistics = {'gripper': None, 'robot': np.ones([3]), 'static': None}
  return {**statistics, **changes}


class VectorsTest(parameterized.TestCase):

  def test_normalizes_and_concatenates_in_the_order_of_keys(self):
    spec = {
        'b': tf.TensorSpec([2], tf.float32, 'b'),
        'a': tf.TensorSpec([1], tf.float64, 'a'),
    }
    encoder = observation_encoder.ObservationEncoder(
        spec,
        types.Normalization(
            mean={'b': np.array([1.0, 2.0]), 'a': np.array([10.0])},
            standard_deviation={
                'b': np.array([2.0, 4.0]), 'a': np.array([5.0])
            },
        ),
    )
    self.assertEqual(encoder.size, 3)
    # (25 - 10) / 5, (3 - 1) / 2, (0 - 2) / 4.
    features = encoder({
        'b': tf.constant([[3.0, 0.0]]),
        'a': tf.constant([[25.0]], tf.float64),
    })
    np.testing.assert_allclose(features, [[3.0, 1.0, -0.5]])
    self.assertEmpty(encoder.trainable_variables)
    self.assertLen(encoder.variables, 2)

  def test_without_statistics_vectors_do_not_change(self):
    spec = tf.TensorSpec([2], tf.float32)
    encoder = observation_encoder.ObservationEncoder(spec)
    np.testing.assert_array_equal(
        encoder(tf.constant([[3.0, -1.0]])), [[3.0, -1.0]]
    )

  def test_float_images_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`camera`.*64, 64, 3'):
      observation_encoder.ObservationEncoder(
          {'camera': tf.TensorSpec([64, 64, 3], tf.float32, 'camera')}
      )

  @parameterized.parameters(
      (np.zeros([3]), np.ones([2]), r'`mean`.*\(2,\), got \(3,\)'),
      (np.zeros([2]), np.ones([1]), '`standard_deviation`'),
      (np.zeros([2]), np.ones([]), '`standard_deviation`'),
      ({'a': np.zeros([2])}, np.ones([2]), 'structure'),
      (np.zeros([2]), np.array([1.0, 0.0]), 'positive'),
      (np.zeros([2]), np.array([1.0, np.nan]), 'positive'),
  )
  def test_statistics_with_wrong_shapes_are_an_error(self, mean, std, message):
    with self.assertRaisesRegex(ValueError, message):
      observation_encoder.ObservationEncoder(
          tf.TensorSpec([2], tf.float32), types.Normalization(mean, std)
      )

  def test_swapped_statistics_are_an_error(self):
    # The total size of five is right, but the leaves are swapped.
    spec = {
        'a': tf.TensorSpec([2], tf.float32, 'a'),
        'b': tf.TensorSpec([3], tf.float32, 'b'),
    }
    swapped = {'a': np.ones([3]), 'b': np.ones([2])}
    with self.assertRaisesRegex(ValueError, '`mean` of `a`'):
      observation_encoder.ObservationEncoder(
          spec, types.Normalization(swapped, swapped)
      )


class ImagesTest(tensor_case.TensorCase, parameterized.TestCase):

  def setUp(self):
    super().setUp()
    small_images.bind_encoder(self)

  def test_vectors_come_first_and_are_normalized(self):
    encoder = observation_encoder.ObservationEncoder(
        _SPEC, types.Normalization(_statistics(), _statistics())
    )
    observation = small_images.make_observation(4)
    features = encoder(observation)
    # Three numbers, and five features for each of two images.
    self.assertEqual((encoder.size, features.shape), (13, [4, 13]))
    self.assertAllClose(features[:, :3], observation['robot'] - 1.0)
    other = dict(observation, robot=tf.zeros([4, 3]))
    self.assertAllEqual(encoder(other)[:, 3:], features[:, 3:])

  def test_each_camera_has_its_own_weights(self):
    encoder = observation_encoder.ObservationEncoder(_SPEC)
    observation = small_images.make_observation(4)
    features = encoder(observation).numpy()
    other = small_images.make_observation(4, seed=1)
    changed = encoder(dict(observation, static=other['static'])).numpy()
    # Leaves are sorted by name.
    self.assertAllEqual(changed[:, :8], features[:, :8])
    self.assertGreater(np.abs(changed - features)[:, 8:].min(axis=0).max(), 0)
    kernels = [x for x in encoder.trainable_variables if x.shape.rank == 4]
    self.assertLen(kernels, 2 * small_images.NUM_CONVOLUTIONS)
    self.assertLen({x.numpy().tobytes() for x in kernels}, len(kernels))

  def test_an_observation_can_be_a_single_image(self):
    spec = _SPEC['static']
    encoder = observation_encoder.ObservationEncoder(
        spec, types.Normalization(None, None), seed=1
    )
    image = small_images.make_observation(4)['static']
    self.assertEqual(encoder(image).shape, [4, 5])
    other = observation_encoder.ObservationEncoder(spec, seed=2)
    self.assertNotAllEqual(encoder(image), other(image))

  def test_a_slow_copy_starts_equal_and_is_not_trained(self):
    encoder = observation_encoder.ObservationEncoder(_SPEC, seed=3)
    copy = encoder.make_slow_copy()
    observation = small_images.make_observation(4)
    self.assertAllEqual(copy(observation), encoder(observation))
    self.assertEmpty(copy.trainable_variables)
    self.assertLen(copy.image_variables, len(encoder.trainable_variables))
    own = {id(v) for v in encoder.variables}
    self.assertNoCommonElements(own, [id(v) for v in copy.variables])

  def test_without_images_the_slow_copy_is_the_encoder_itself(self):
    encoder = observation_encoder.ObservationEncoder(_SPEC['robot'])
    self.assertIs(encoder.make_slow_copy(), encoder)
    self.assertFalse(observation_encoder.has_images(_SPEC['robot']))
    self.assertTrue(observation_encoder.has_images(_SPEC))

  @parameterized.parameters(((), 16 * 16 * 3, 0), ((5,), 5, 2))
  def test_layers_of_keras_are_built(self, widths, size, num_variables):
    def make(shape, seed):
      del shape, seed  # The initial weights are random.
      layers = [tf.keras.layers.Dense(width) for width in widths]
      encoder = tf.keras.Sequential(
          [tf.keras.layers.Rescaling(1 / 255), tf.keras.layers.Flatten()]
          + layers
      )
      encoder.size = size
      return encoder

    gin.bind_parameter('ObservationEncoder.image_encoder_ctor', make)
    encoder = observation_encoder.ObservationEncoder(_SPEC['static'])
    self.assertLen(encoder.trainable_variables, num_variables)
    copy = encoder.make_slow_copy()
    self.assertEmpty(copy.trainable_variables)
    image = small_images.make_observation(4)['static']
    self.assertAllEqual(copy(image), encoder(image))
    self.assertEqual(encoder(image).shape, [4, size])

  def test_statistics_of_an_image_are_an_error(self):
    wrong = _statistics(static=np.zeros([16, 16, 3]))
    with self.assertRaisesRegex(ValueError, '`mean` of the image `static`'):
      observation_encoder.ObservationEncoder(
          _SPEC, types.Normalization(wrong, _statistics())
      )

  def test_a_leaf_that_is_neither_vector_nor_image_is_an_error(self):
    for shape, dtype in (([4, 4], tf.uint8), ([4, 4, 3], tf.float32)):
      spec = tf.TensorSpec(shape, dtype, 'depth')
      with self.assertRaisesRegex(ValueError, f'`depth`.*{dtype.name}'):
        observation_encoder.ObservationEncoder({'depth': spec})


if __name__ == '__main__':
  tf.test.main()
