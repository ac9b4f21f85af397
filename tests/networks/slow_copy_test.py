"""Tests of slow copies of partly frozen networks."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import td
from parl_tf.networks import averaged_network
from parl_tf.networks import observation_encoder
from tests import small_images
from tests.agents import small_agent

_IMAGE = tf.TensorSpec([4, 4, 1], tf.uint8, 'image')
_SPEC = types.ModelSpec(_IMAGE, small_agent.ACTION_SPEC)


class PartlyFrozenTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    small_images.bind_partly_frozen_encoder(self)
    images = np.random.default_rng(0).integers(256, size=[5, 4, 4, 1])
    self._images = tf.constant(images.astype(np.uint8))

  def _change(self, variables):
    for variable in variables:
      variable.assign_add(tf.fill(variable.shape, 0.5))

  def test_a_target_of_rate_1_equals_the_critic(self):
    critic = small_agent.make_critic(td.TDCritic, _IMAGE, tau=1.0)
    actions = tf.zeros([5, 1, 2])
    self._change(critic.trainable_variables)
    values = critic.bind(self._images)(actions)
    before = critic.bind(self._images, target=True)(actions)
    self.assertGreater(np.abs(values - before).max(), 0.1)
    critic.update_targets()
    np.testing.assert_allclose(
        critic.bind(self._images, target=True)(actions), values, rtol=1e-5
    )

  def test_an_average_of_rate_1_equals_the_trained_network(self):
    network = averaged_network.AveragedNetwork(
        _SPEC,
        lambda *arguments: small_images.PartlyFrozenEncoder((4, 4, 1), 7),
        1.0,
    )
    self._change(network.trainable_variables)

    def outputs(averaged):
      features = network.encode(self._images, averaged)
      return network.select(averaged)(tf.reshape(features, [5, 4, 4]))

    self.assertGreater(np.abs(outputs(True) - outputs(False)).max(), 0.1)
    network.update()
    np.testing.assert_allclose(outputs(True), outputs(False), rtol=1e-5)
    self._change(network.trainable_variables)
    network.start_from_average()
    np.testing.assert_allclose(outputs(True), outputs(False), rtol=1e-5)

  def test_the_copy_of_an_encoder_has_its_order(self):
    encoder = observation_encoder.ObservationEncoder(_IMAGE)
    copy = encoder.make_slow_copy()
    for variable, source in zip(
        copy.image_variables, encoder.image_variables, strict=True
    ):
      np.testing.assert_array_equal(variable, source)


if __name__ == '__main__':
  absltest.main()
