"""Tests of low-rank adapters, their files, and bases with averaged weights."""

import os

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.networks import averaged_network
from parl_tf.networks import low_rank
from parl_tf.policies import generative_policy
from parl_tf.policies import vla
from tests import tensor_case

_SPEC = types.ModelSpec(
    tf.TensorSpec([3], tf.float32, 'observation'),
    tf.TensorSpec([2], tf.float32, 'action'),
)


class _Network(tf.keras.layers.Layer):

  def __init__(self, num_features, action_size, seed):
    super().__init__()
    self._dense = low_rank.make_dense(action_size, num_features, seed)

  def call(self, features):
    return self._dense(features)


class _AveragedPolicy(generative_policy.GenerativePolicy):
  """Draws its mean action from averaged weights."""

  def __init__(self, spec):
    super().__init__()
    self.networks = averaged_network.AveragedNetwork(spec, _Network, 0.5)

  @property
  def trainable_variables(self):
    return self.networks.trainable_variables

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    features = self.networks.encode(observation, averaged)
    action = self.networks.select(averaged)(features)
    return tf.repeat(action[:, tf.newaxis], num_samples, axis=1)

  def distillation_loss(self, observation, action, seed, mask=None):
    error = self.sample(observation, 1, seed, averaged=False)[:, 0] - action
    return generative_policy.sum_of_costs(error**2, mask)

  def update_average(self):
    self.networks.update()


class AdapterTest(tensor_case.TensorCase):

  def test_the_product_is_scaled(self):
    # x A B alpha / rank = [1, 2] [[1], [3]] [[2, -1]] 8 / 1 = 7 [2, -1] 8.
    adapter = low_rank.Adapter(2, 2, 0, rank=1, alpha=8.0)
    adapter.down.assign([[1.0], [3.0]])
    self.assertAllEqual(adapter(tf.constant([[1.0, 2.0]])), [[0.0, 0.0]])
    adapter.up.assign([[2.0, -1.0]])
    self.assertAllEqual(adapter(tf.constant([[1.0, 2.0]])), [[112.0, -56.0]])
    self.assertAllEqual(adapter.product(), [[16.0, -8.0], [48.0, -24.0]])

  def test_the_activation_follows_the_adapter(self):
    layer = low_rank.make_dense(1, 2, 0, tf.nn.relu)
    layer.kernel.assign([[1.0], [1.0]])
    adapter = low_rank.Adapter(2, 1, 0, rank=1, alpha=1.0)
    adapter.down.assign([[1.0], [0.0]])
    adapter.up.assign([[-5.0]])
    layer.attach(adapter)
    x = tf.constant([[1.0, 2.0], [0.0, 2.0]])
    self.assertAllEqual(layer(x), [[0.0], [2.0]])
    self.assertLen(layer.variables, 2)
    layer.attach(None)
    self.assertAllEqual(layer(x), [[3.0], [2.0]])


class AveragedBaseTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self._policy = vla.LowRankPolicy(_SPEC, base_ctor=_AveragedPolicy, rank=1)
    self._observation = tf.constant([[1.0, -2.0, 0.5]])

  def _sample(self, policy, averaged=True):
    return policy.sample(self._observation, 1, [0, 0], averaged=averaged)

  def test_the_average_follows_the_cloned_base(self):
    before = self._sample(self._policy)
    (kernel, _) = self._policy.cloned.trainable_variables
    kernel.assign_add(tf.ones_like(kernel))
    self.assertAllEqual(self._sample(self._policy), before)
    self._policy.update_average()
    # Half of the way to the trained weights: x (K + 1 / 2), and x sums to -0.5.
    self.assertAllClose(self._sample(self._policy), before - 0.25)

  def test_the_average_has_the_trained_adapters(self):
    observation, action = self._observation, tf.constant([[0.5, 0.5]])
    before = self._sample(self._policy)
    with tf.GradientTape() as tape:
      loss = self._policy.distillation_loss(observation, action, [0, 0])
    variables = self._policy.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
      variable.assign_sub(0.001 * gradient)
    after = self._sample(self._policy)
    self.assertGreater(np.abs(after - before).max(), 0.01)
    self.assertAllClose(after, self._sample(self._policy, averaged=False))
    self.assertAllClose(self._sample(self._policy.deployed()), after)


class FileTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'adapters.npz')
    _make_adapters(alpha=4.0).save(self._path)

  def test_another_scale_is_refused(self):
    with self.assertRaisesRegex(
        ValueError, r'adapters.npz: `scale`.*must be 4, .* got 2'
    ):
      _make_adapters(alpha=8.0).load(self._path)

  @parameterized.parameters(dict(base_seed=1), dict(statistics=2.0))
  def test_another_base_is_refused(self, **base):
    other = _make_adapters(alpha=4.0, **base)
    before = other.adapters[0].down.numpy()
    with self.assertRaisesRegex(ValueError, 'adapters.npz: `base` must'):
      other.load(self._path)
    np.testing.assert_array_equal(other.adapters[0].down, before)

  def test_a_digest_of_the_weights_alone_is_accepted(self):
    adapters = _make_adapters(alpha=4.0, statistics=2.0)
    with np.load(self._path) as file:
      weights = {**file, 'base': adapters._digest_weights()}
    np.savez(self._path, **weights)
    with self.assertNoLogs(level='WARNING'):
      adapters.load(self._path)

  def test_a_file_of_an_earlier_version_is_loaded_with_a_warning(self):
    with np.load(self._path) as file:
      saved = {k: x for k, x in file.items() if k not in ('scale', 'base')}
    np.savez(self._path, **saved)
    other = _make_adapters(alpha=4.0, seed=1)
    with self.assertLogs(level='WARNING') as logs:
      other.load(self._path)
    self.assertIn('without their scale', logs.output[0])
    np.testing.assert_array_equal(other.adapters[0].down, saved['0/down'])

  def test_the_rest_is_trained_and_saved_with_the_adapters(self):
    adapters = _make_adapters(alpha=4.0, trains_rest=True)
    names = [x.name for x in adapters.trainable_variables]
    self.assertCountEqual(names, ['down:0', 'up:0', 'bias:0', 'scale:0'])
    # A and B of rank 2 for three inputs and two outputs, two biases, a scale.
    self.assertEqual(adapters.num_bytes, 4 * (6 + 4 + 2 + 1))
    for variable in adapters.rest:
      variable.assign(5.0 * tf.ones_like(variable))
    adapters.save(self._path)
    other = _make_adapters(alpha=4.0, seed=1, trains_rest=True)
    other.load(self._path)
    for variable in other.rest:
      np.testing.assert_array_equal(variable, 5.0 * tf.ones_like(variable))
    with self.assertRaisesRegex(ValueError, 'must have the shapes'):
      _make_adapters(alpha=4.0).load(self._path)
    with self.assertRaisesRegex(ValueError, '`base` must'):
      _make_adapters(alpha=4.0, base_seed=1, trains_rest=True).load(self._path)

  def test_the_same_base_and_scale_load_without_a_warning(self):
    other = _make_adapters(alpha=4.0, seed=1)
    with self.assertNoLogs(level='WARNING'):
      other.load(self._path)


def _make_adapters(alpha, seed=0, base_seed=0, statistics=1.0, **options):
  module = tf.Module()
  module.statistics = tf.Variable(statistics, trainable=False)
  module.layer = low_rank.make_dense(2, 3, base_seed)
  module.scale = tf.Variable(1.0, name='scale')
  return low_rank.Adapters(module, seed, rank=2, alpha=alpha, **options)


if __name__ == '__main__':
  tf.test.main()
