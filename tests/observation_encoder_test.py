"""Tests of what makes features of observations with pictures.

Those of vectors alone are tested by `networks_test`.
"""

import numpy as np
import tensorflow as tf

from parl_tf import networks
from parl_tf import observation_encoder
from parl_tf import types
from tests import small_pictures
from tests import tensor_case

_SPEC = small_pictures.OBSERVATION_SPEC


def _statistics(**changes):
  statistics = {'gripper': None, 'robot': np.ones([3]), 'static': None}
  return {**statistics, **changes}


class ObservationEncoderTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    small_pictures.bind_encoder(self)

  def test_vectors_come_first_and_are_normalised(self):
    encoder = networks.ObservationEncoder(
        _SPEC, types.Normalization(_statistics(), _statistics())
    )
    observation = small_pictures.make_observation(4)
    features = encoder(observation)
    # Three numbers and two pictures of five features.
    self.assertEqual((encoder.size, features.shape), (13, [4, 13]))
    self.assertAllClose(features[:, :3], observation['robot'] - 1.0)
    other = dict(observation, robot=tf.zeros([4, 3]))
    self.assertAllEqual(encoder(other)[:, 3:], features[:, 3:])

  def test_each_camera_has_weights_of_its_own(self):
    encoder = networks.ObservationEncoder(_SPEC)
    observation = small_pictures.make_observation(4)
    features = encoder(observation).numpy()
    other = small_pictures.make_observation(4, seed=1)
    changed = encoder(dict(observation, static=other['static'])).numpy()
    # Leaves are in the order of their names.
    self.assertAllEqual(changed[:, :8], features[:, :8])
    self.assertGreater(np.abs(changed - features)[:, 8:].min(axis=0).max(), 0)
    kernels = [x for x in encoder.trainable_variables if x.shape.rank == 4]
    self.assertLen(kernels, 2 * small_pictures.NUM_CONVOLUTIONS)
    self.assertLen({x.numpy().tobytes() for x in kernels}, len(kernels))

  def test_a_picture_may_be_all_there_is(self):
    spec = _SPEC['static']
    encoder = networks.ObservationEncoder(
        spec, types.Normalization(None, None), seed=1
    )
    picture = small_pictures.make_observation(4)['static']
    self.assertEqual(encoder(picture).shape, [4, 5])
    self.assertNotAllEqual(
        encoder(picture), networks.ObservationEncoder(spec, seed=2)(picture)
    )

  def test_a_slow_copy_begins_equal_and_is_not_trained(self):
    encoder = networks.ObservationEncoder(_SPEC, seed=3)
    copy = encoder.make_slow_copy()
    observation = small_pictures.make_observation(4)
    self.assertAllEqual(copy(observation), encoder(observation))
    self.assertEmpty(copy.trainable_variables)
    self.assertLen(copy.picture_variables, len(encoder.trainable_variables))
    own = {id(v) for v in encoder.variables}
    self.assertNoCommonElements(own, [id(v) for v in copy.variables])

  def test_vectors_alone_need_no_copy(self):
    encoder = networks.ObservationEncoder(_SPEC['robot'])
    self.assertIs(encoder.make_slow_copy(), encoder)
    self.assertFalse(observation_encoder.has_pictures(_SPEC['robot']))
    self.assertTrue(observation_encoder.has_pictures(_SPEC))

  def test_statistics_of_a_picture_are_an_error(self):
    wrong = _statistics(static=np.zeros([16, 16, 3]))
    with self.assertRaisesRegex(ValueError, '`mean` of the picture `static`'):
      networks.ObservationEncoder(
          _SPEC, types.Normalization(wrong, _statistics())
      )

  def test_what_is_neither_vector_nor_picture_is_an_error(self):
    for shape, dtype in (([4, 4], tf.uint8), ([4, 4, 3], tf.float32)):
      spec = tf.TensorSpec(shape, dtype, 'depth')
      with self.assertRaisesRegex(ValueError, f'`depth`.*{dtype.name}'):
        networks.ObservationEncoder({'depth': spec})


if __name__ == '__main__':
  tf.test.main()
