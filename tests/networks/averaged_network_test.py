"""Tests of averaged networks."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.networks import averaged_network
from parl_tf.networks import blocks

# The encoder's mean and standard deviation.
_NUM_STATISTICS = 2


def _make(averaging_rate):
  spec = types.ModelSpec(tf.TensorSpec([3]), tf.TensorSpec([2]))
  return averaged_network.AveragedNetwork(
      spec,
      lambda feature_size, action_size, seed: blocks.make_dense(
          action_size, feature_size, seed
      ),
      averaging_rate,
  )


class AveragedNetworkTest(parameterized.TestCase):

  def test_both_start_with_the_same_weights(self):
    network = _make(0.1)
    trained, average = network.select(False), network.select(True)
    self.assertIs(trained, network.trained)
    self.assertIsNot(average, trained)
    for variable, value in zip(average.variables, trained.variables):
      np.testing.assert_array_equal(variable, value)

  def test_averages_move_by_their_rate(self):
    # The weights increase by 1, the averages by 0.25 and then by
    # 0.25 + 0.25 * 0.75 = 0.4375 in total.
    network = _make(0.25)
    averages = network.select(True).variables
    before = [v.numpy() for v in averages]
    for variable in network.trainable_variables:
      variable.assign_add(tf.ones_like(variable))
    for gain in (0.25, 0.4375):
      network.update()
      for variable, value in zip(averages, before):
        np.testing.assert_allclose(
            variable - value, np.full(value.shape, gain), rtol=1e-4
        )

  def test_with_rate_1_the_averages_are_the_weights(self):
    network = _make(1.0)
    for variable in network.trainable_variables:
      variable.assign_add(tf.ones_like(variable))
    network.update()
    for variable, value in zip(
        network.select(True).variables, network.trained.variables
    ):
      np.testing.assert_allclose(variable, value, rtol=1e-6)

  def test_averages_are_not_trained(self):
    network = _make(0.1)
    self.assertLen(network.trainable_variables, 2)
    self.assertLen(network.variables, 4 + _NUM_STATISTICS)
    for variable in network.select(True).variables:
      self.assertNotIn(variable.ref(), {
          v.ref() for v in network.trainable_variables
      })

  def test_without_a_rate_there_is_only_the_trained_network(self):
    network = _make(None)
    self.assertIs(network.select(True), network.trained)
    self.assertLen(network.variables, 2 + _NUM_STATISTICS)
    network.update()

  @parameterized.parameters(0.0, -0.1, 1.5)
  def test_a_rate_out_of_range_is_an_error(self, rate):
    with self.assertRaisesRegex(ValueError, f'`averaging_rate`.*{rate}'):
      _make(rate)
