"""Tests of the plain network of flow and one-step policies."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.networks import flow_network


def _make(seed=0, **kwargs):
  return flow_network.FlowNetwork(
      3, 2, seed, **{'hidden_sizes': (8, 8), **kwargs}
  )


def _draw(*shape):
  return tf.random.stateless_normal(shape, [0, 2])


class FlowNetworkTest(parameterized.TestCase):

  def test_without_hidden_layers_it_is_linear(self):
    network = _make(hidden_sizes=())
    kernel, bias = network.trainable_variables
    kernel.assign([[1, 0], [0, 1], [0, 0], [2, 0], [0, 3], [1, -1]])
    bias.assign([0.5, 0.25])
    # 1 + 2 * 0.1 + 0.5 + 0.5 = 2.2 and 2 + 3 * -0.2 - 0.5 + 0.25 = 1.15.
    np.testing.assert_allclose(
        network(
            tf.constant([[1.0, 2.0, 9.0]]),
            tf.constant([[0.1, -0.2]]),
            tf.constant([0.5]),
        ),
        [[2.2, 1.15]],
        rtol=1e-6,
    )

  def test_all_rows_may_share_one_time(self):
    network, features, actions = _make(), _draw(4, 3), _draw(4, 2)
    np.testing.assert_allclose(
        network(features, actions, tf.constant([0.7])),
        network(features, actions, tf.fill([4], 0.7)),
        atol=1e-6,
    )

  @parameterized.parameters(False, True)
  def test_predictions_depend_on_every_input(self, has_time):
    network, features, actions = (
        _make(has_time=has_time), _draw(4, 3), _draw(4, 2)
    )
    t = tf.constant([0.5]) if has_time else None
    prediction = network(features, actions, t)
    others = [
        network(features + 1.0, actions, t), network(features, actions + 1.0, t)
    ]
    if has_time:
      others.append(network(features, actions, t + 1.0))
    for other in others:
      self.assertGreater(np.abs(other - prediction).max(), 1e-3)

  def test_weights_are_a_function_of_the_seed(self):
    arguments = _draw(4, 3), _draw(4, 2), tf.constant([1.0])
    first, again, other = (_make(seed)(*arguments) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    self.assertGreater(np.abs(first - other).max(), 1e-3)
