"""Tests of the state-value function."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import state_value
from parl_tf.networks import ensemble
from tests import tensor_case

_SPEC = {
    'place': tf.TensorSpec([2], tf.float32, 'place'),
    'time': tf.TensorSpec([1], tf.float32, 'time'),
}


def _make_value(normalization=None, **kwargs):
  return state_value.StateValue(
      types.ModelSpec(_SPEC, None, normalization),
      network_ctor=lambda *args, **kwargs: ensemble.CriticEnsemble(
          *args, hidden_sizes=(8,), **kwargs
      ),
      **kwargs,
  )


def _make_observation():
  random = np.random.default_rng(0)
  return {
      name: tf.constant(random.normal(size=[4, *spec.shape]), tf.float32)
      for name, spec in _SPEC.items()
  }


class StateValueTest(tensor_case.TensorCase):

  def test_scale_is_in_units_of_return(self):
    value = _make_value()(_make_observation())
    self.assertEqual(value.shape, [4])
    scaled = _make_value(scale=20.0)(_make_observation())
    self.assertAllClose(scaled, 20.0 * value)

  def test_observations_are_normalized(self):
    statistics = types.Normalization(
        {'place': np.ones([2]), 'time': np.zeros([1])},
        {'place': np.full([2], 2.0), 'time': np.ones([1])},
    )
    observation = _make_observation()
    raw = dict(observation, place=1.0 + 2.0 * observation['place'])
    self.assertAllClose(
        _make_value(statistics)(raw), _make_value()(observation), 1e-5, 1e-5
    )

  def test_gradients_reach_all_variables(self):
    value = _make_value()
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(tf.square(value(_make_observation()) - 1.0))
    gradients = tape.gradient(loss, value.trainable_variables)
    self.assertNotEmpty(gradients)
    self.assertTrue(all(np.any(g.numpy()) for g in gradients))

  @parameterized.parameters(('gamma', 1.5), ('scale', 0.0))
  def test_value_out_of_range_is_named(self, name, number):
    with self.assertRaisesRegex(ValueError, f'{name}`.*{number}'):
      _make_value(**{name: number})


if __name__ == '__main__':
  tf.test.main()
