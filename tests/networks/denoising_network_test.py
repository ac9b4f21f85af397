"""Tests of the network of the diffusion and flow policies."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.networks import denoising_network


def _make(seed=0):
  return denoising_network.DenoisingNetwork(
      3,
      2,
      seed,
      time_size=8,
      hidden_size=16,
      num_blocks=2,
      dropout_rate=0.5,
  )


def _draw(*shape):
  return tf.random.stateless_normal(shape, [0, 2])


class DenoisingNetworkTest(parameterized.TestCase):

  def test_all_rows_may_share_one_time(self):
    network, features, actions = _make(), _draw(4, 3), _draw(4, 2)
    for t in (2, 0.7):
      shared = network(features, actions, tf.constant([t]))
      self.assertEqual(shared.shape, [4, 2])
      np.testing.assert_allclose(
          shared, network(features, actions, tf.fill([4], t)), atol=1e-6
      )

  def test_predictions_depend_on_state_action_and_time(self):
    network, features, actions = _make(), _draw(4, 3), _draw(4, 2)
    t = tf.constant([1.0])
    prediction = network(features, actions, t)
    for other in (
        network(features + 1.0, actions, t),
        network(features, actions + 1.0, t),
        network(features, actions, t + 1.0),
    ):
      self.assertGreater(np.abs(other - prediction).max(), 1e-3)

  def test_weights_are_a_function_of_the_seed(self):
    arguments = _draw(4, 3), _draw(4, 2), tf.constant([1.0])
    first, again, other = (_make(seed)(*arguments) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    self.assertGreater(np.abs(first - other).max(), 1e-3)

  def test_dropout_needs_a_seed(self):
    network = _make()
    arguments = _draw(4, 3), _draw(4, 2), tf.constant([1.0])
    plain, first, again, other = (
        network(*arguments, dropout_seed=seed)
        for seed in (None, [0, 1], [0, 1], [1, 0])
    )
    np.testing.assert_array_equal(first, again)
    self.assertGreater(np.abs(first - plain).max(), 1e-3)
    self.assertGreater(np.abs(first - other).max(), 1e-3)
