"""Tests of base policies that a critic steers."""

import json
import os
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.policies import py_tf_eager_policy
from tf_agents.trajectories import time_step as ts

from parl_tf.search import action_source
from parl_tf.training import base_policy
from parl_tf.training import steering
from tests.agents import small_agent

_LOW, _HIGH = np.float32([-3.0, 0.0]), np.float32([1.0, 20.0])
_SEED = tf.constant([5, 11])


def _serve_seed(observation, seed):
  shape = [tf.shape(observation)[0], 2]
  return _serve_noise(observation, tf.random.stateless_normal(shape, seed))


def _serve_noise(observation, noise):
  action = _HIGH / 2 + _LOW / 2 + tf.tanh(observation[:, :2] + noise)
  return {'action': action}


def _save(path, function, random, module=None):
  spec = tf.TensorSpec([None, 3], tf.float32, 'observation')
  concrete = tf.function(function).get_concrete_function(spec, random)
  tf.saved_model.save(
      module or tf.Module(), path, {'serving_default': concrete}
  )


class SteeringTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, folder)
    cls._base_path = os.path.join(folder, 'seed')
    _save(cls._base_path, _serve_seed, tf.TensorSpec([2], tf.int32, 'seed'))
    cls._noise_path = os.path.join(folder, 'noise')
    noise = tf.TensorSpec([None, 2], tf.float32, 'noise')
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer([0], [0.5]), 0.0
    )

    def serve(observation, noise):
      offset = module.table.lookup(tf.constant(0))
      return _serve_noise(observation, noise + offset)

    _save(cls._noise_path, serve, noise, module)
    cls._critic = small_agent.make_critic()
    cls._observation = tf.constant(
        np.random.default_rng(0).normal(size=[7, 3]), tf.float32
    )

  def _base(self, path=None):
    return base_policy.load(
        path or self._base_path, small_agent.OBSERVATION_SPEC
    )

  def _steer(self, threshold=np.inf, num_steps=3, path=None):
    search = small_agent.make_search(8, num_gradient_steps=num_steps)
    return steering.SteeredBase(
        self._base(path),
        self._critic,
        search,
        chunk_length=1,
        raw_action_bounds=(_LOW, _HIGH),
        threshold=threshold,
    )

  @parameterized.parameters('_base_path', '_noise_path')
  def test_threshold_0_gives_exactly_the_actions_of_the_base(self, name):
    path = getattr(self, name)
    steered = self._steer(0.0, path=path)(self._observation, _SEED)
    base = self._base(path)(self._observation, _SEED)
    np.testing.assert_array_equal(steered.chunk, base)
    np.testing.assert_array_equal(steered.value, steered.base_value)

  def test_the_values_are_those_of_the_actions_before_and_after(self):
    steered = self._steer()(self._observation, _SEED)
    base = self._base()(self._observation, _SEED)
    value_fn = self._critic.bind(self._observation)
    for raw, values in (
        (base, steered.base_value), (steered.chunk, steered.value)
    ):
      scaled = 2.0 * (raw - _LOW) / (_HIGH - _LOW) - 1.0
      np.testing.assert_allclose(values, value_fn(scaled)[:, 0], atol=1e-4)
    self.assertTrue(np.all(steered.value >= steered.base_value))
    self.assertGreater(np.mean(steered.value - steered.base_value), 0.0)

  def test_a_base_that_exceeds_the_bounds_is_valued_within_them(self):
    def serve(observation, seed):
      return {'action': 30.0 * _serve_seed(observation, seed)['action']}

    path = os.path.join(self.create_tempdir().full_path, 'wide')
    _save(path, serve, tf.TensorSpec([2], tf.int32, 'seed'))
    steered = self._steer(num_steps=0, path=path)(self._observation, _SEED)
    scaled = 2.0 * (steered.chunk - _LOW) / (_HIGH - _LOW) - 1.0
    self.assertLessEqual(np.max(np.abs(scaled)), 1.0 + 1e-6)
    values = self._critic.bind(self._observation)(scaled)
    np.testing.assert_allclose(steered.value, values[:, 0], atol=1e-4)

  def test_without_climbing_it_returns_actions_that_the_base_drew(self):
    climbed = self._steer()(self._observation, _SEED)
    ranked = self._steer(num_steps=0)(self._observation, _SEED)
    # The base draws actions within 1 of the center.
    offset = np.abs(ranked.chunk[:, 0] - (_LOW + _HIGH) / 2)
    self.assertLessEqual(np.max(offset), 1.0 + 1e-5)
    self.assertGreater(np.mean(climbed.value), np.mean(ranked.value))

  def test_only_rows_below_the_threshold_are_steered(self):
    everywhere = self._steer()(self._observation, _SEED)
    base = self._base()(self._observation, _SEED)
    threshold = float(np.median(everywhere.disagreement))
    some = self._steer(threshold)(self._observation, _SEED)
    is_steered = np.asarray(everywhere.disagreement) < threshold
    self.assertEqual(np.sum(is_steered), 3)
    np.testing.assert_array_equal(
        some.chunk,
        np.where(is_steered[:, None, None], everywhere.chunk, base),
    )

  def test_the_saved_model_contains_the_base(self):
    path = os.path.join(self.create_tempdir().full_path, 'steered')
    time_step_spec = ts.time_step_spec(small_agent.OBSERVATION_SPEC)
    difference = steering.export(
        self._steer(num_steps=1, path=self._noise_path),
        path,
        self._observation,
        time_step_spec,
    )
    self.assertLessEqual(difference, 1e-5)
    with open(os.path.join(path, 'parity.json'), encoding='utf-8') as file:
      report = json.load(file)
    self.assertEqual(report['largest_difference'], difference)
    self.assertEqual(report['compared'], 'action')
    self.assertEqual(report['num_observations'], 7)
    self.assertEqual(
        report['inputs'],
        {'observation': 'float32 [None, 3]', 'seed': 'int32 [2]'},
    )
    loaded = tf.saved_model.load(path)
    answer = loaded.signatures['serving_default'](
        observation=self._observation[:3], seed=_SEED
    )
    self.assertEqual(
        sorted(answer), ['action', 'base_value', 'disagreement', 'value']
    )
    self.assertEqual(answer['action'].shape, (3, 2))
    self._check_agents_functions(path, loaded)

  def _check_agents_functions(self, path, loaded):
    """Acts as TF-Agents does, with the seeds of the policy state."""
    time_step = ts.restart(self._observation[:3], 3)
    state = loaded.get_initial_state(batch_size=3)
    policy = py_tf_eager_policy.SavedModelPyTFEagerPolicy(
        path, load_specs_from_pbtxt=True, batch_time_steps=False
    )
    for _ in range(2):
      wanted = loaded.signatures['serving_default'](
          observation=self._observation[:3], seed=state[0]
      )
      for actor in (loaded, policy):
        step = actor.action(time_step, state)
        np.testing.assert_allclose(step.action, wanted['action'], atol=1e-5)
      self.assertTrue(np.any(step.state != state))
      state = step.state
    self.assertEqual(policy.action_spec.shape, (2,))

  def test_what_does_not_fit_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'must be the directory'):
      self._base(self.create_tempdir().full_path)
    with self.assertRaisesRegex(ValueError, r"inputs must be \['seed', 'x'\]"):
      base_policy.load(self._base_path, {'x': tf.TensorSpec([3])})
    with self.assertRaisesRegex(
        ValueError,
        r"'observation' must be float32 \(None, 4\), got float32 \(None, 3\)",
    ):
      base_policy.load(self._base_path, tf.TensorSpec([4]))
    with self.assertRaisesRegex(ValueError, '`threshold`.*-1'):
      self._steer(-1.0)
    with self.assertRaisesRegex(ValueError, 'no optimizer'):
      steering.SteeredBase(
          self._base(), self._critic, action_source.Search(),
          chunk_length=1, raw_action_bounds=(_LOW, _HIGH),
      )
    with self.assertRaisesRegex(ValueError, 'at least 2 actions of size 2'):
      steering.SteeredBase(
          self._base(), self._critic, small_agent.make_search(),
          chunk_length=2, raw_action_bounds=(_LOW, _HIGH),
      )


if __name__ == '__main__':
  absltest.main()
