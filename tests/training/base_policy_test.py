"""Tests of base policies that other programs saved."""

import os
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.policies import tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts

from parl_tf.training import base_policy
from parl_tf.training import steering
from tests.agents import small_agent

_LOW, _HIGH = np.float32([-2.0, -2.0]), np.float32([2.0, 2.0])
_SEED = tf.constant([5, 11])


class _Policy(tf_policy.TFPolicy):
  """Returns the hyperbolic tangent of two noisy numbers of the observation."""

  def __init__(self, noise_scale):
    super().__init__(
        ts.time_step_spec(small_agent.OBSERVATION_SPEC),
        tensor_spec.BoundedTensorSpec([2], tf.float32, _LOW, _HIGH),
    )
    self._noise_scale = tf.Variable(noise_scale)

  def _variables(self):
    return [self._noise_scale]

  def _action(self, time_step, policy_state, seed=None):
    # Zero at later steps: each observation must be the first of an episode.
    is_first = tf.cast(time_step.is_first(), tf.float32)[:, tf.newaxis]
    mean = time_step.observation[:, :2]
    noise = tf.random.normal(tf.shape(mean), seed=seed)
    action = is_first * tf.tanh(mean + self._noise_scale * noise)
    return policy_step.PolicyStep(action, policy_state, ())

  def _distribution(self, time_step, policy_state):
    raise NotImplementedError('It has no distribution.')


def _save_action(path, observation, *, batch_size=None, state=(), action=None):
  """Saves functions like those of `PolicySaver`, without a policy."""
  step = ts.time_step_spec(observation)
  batched = tf.nest.map_structure(
      lambda x: tf.TensorSpec([batch_size, *x.shape], x.dtype, x.name), step
  )
  size = batch_size or 1

  def act(time_step, policy_state):
    del time_step
    found = tf.zeros([size, 2]) if action is None else action
    return policy_step.PolicyStep(found, policy_state, ())

  module = tf.Module()
  module.action = tf.function(act)
  module.action.get_concrete_function(batched, state)
  module.get_initial_state = tf.function(
      lambda batch_size: (), input_signature=[tf.TensorSpec([], tf.int32)]
  )
  tf.saved_model.save(module, path)


class BasePolicyTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, folder)
    cls._paths = {}
    for noise_scale in (0.0, 1.0):
      cls._paths[noise_scale] = os.path.join(folder, str(noise_scale))
      saver = policy_saver.PolicySaver(_Policy(noise_scale), batch_size=None)
      saver.save(cls._paths[noise_scale])
    cls._observation = tf.constant(
        np.random.default_rng(0).normal(size=[7, 3]), tf.float32
    )

  def _load(self, noise_scale):
    return base_policy.load(
        self._paths[noise_scale], small_agent.OBSERVATION_SPEC
    )

  def _steer(self, noise_scale, threshold):
    return steering.SteeredBase(
        self._load(noise_scale),
        small_agent.make_critic(),
        # tests/training/steering_test.py climbs, in a larger graph.
        small_agent.make_search(4, num_gradient_steps=0),
        chunk_length=1,
        raw_action_bounds=(_LOW, _HIGH),
        threshold=threshold,
    )

  def test_a_deterministic_policy_of_tf_agents_is_kept_exactly(self):
    base = self._load(0.0)
    self.assertTrue(base.is_repeatable(self._observation))
    chunk = base(self._observation, _SEED)
    np.testing.assert_allclose(
        chunk[:, 0], np.tanh(self._observation[:, :2]), atol=1e-6
    )
    steered = self._steer(0.0, threshold=0.0)(self._observation, _SEED)
    np.testing.assert_array_equal(steered.chunk, chunk)

  def test_a_signature_without_a_seed_draws_nothing(self):
    path = self.create_tempdir().full_path

    @tf.function(input_signature=[
        tf.TensorSpec([None, 3], tf.float32, 'observation')
    ])
    def act(observation):
      return {'action': 0.5 * observation[:, :2]}

    tf.saved_model.save(tf.Module(), path, signatures=act)
    base = base_policy.load(path, small_agent.OBSERVATION_SPEC)
    chunk = base(self._observation, _SEED)
    np.testing.assert_array_equal(chunk[:, 0], 0.5 * self._observation[:, :2])
    with self.assertRaisesRegex(
        ValueError, r"\['x'\] \(and 'seed' or 'noise', if it draws\), got"
    ):
      base_policy.load(path, {'x': tf.TensorSpec([3])})

  def test_a_broken_sensor_gives_no_steered_action(self):
    observation = np.array(self._observation)
    observation[1, 0] = np.nan
    chunk = self._steer(0.0, threshold=np.inf)(observation, _SEED).chunk
    self.assertTrue(np.all(np.isnan(chunk[1])))
    self.assertTrue(np.all(np.isfinite(np.delete(chunk, 1, axis=0))))

  def test_draws_of_tf_agents_differ_between_rows_and_calls(self):
    base = self._load(1.0)
    self.assertFalse(base.is_repeatable(self._observation))
    drawn = base(tf.zeros([16, 3]), _SEED).numpy()
    self.assertLen(np.unique(drawn[:, 0, 0]), 16)

  def test_a_policy_of_tf_agents_is_part_of_the_steered_model(self):
    path = os.path.join(self.create_tempdir().full_path, 'steered')
    policy = self._steer(1.0, threshold=np.inf)
    steering.export(
        policy,
        path,
        self._observation,
        ts.time_step_spec(small_agent.OBSERVATION_SPEC),
    )
    act = tf.saved_model.load(path).signatures['serving_default']
    found = act(observation=self._observation, seed=_SEED)
    values = policy.values(self._observation, found['action'][:, tf.newaxis])
    np.testing.assert_allclose(found['value'], values, rtol=1e-3)

  def test_wrong_values_of_a_steered_model_are_an_error(self):
    path = os.path.join(self.create_tempdir().full_path, 'steered')
    policy = self._steer(1.0, threshold=np.inf)
    values = policy.values
    policy.values = lambda *arguments: values(*arguments) + 1.0
    with self.assertRaisesRegex(ValueError, 'values that the SavedModel.*by 1'):
      steering.export(
          policy,
          path,
          self._observation,
          ts.time_step_spec(small_agent.OBSERVATION_SPEC),
      )
    self.assertFalse(os.path.exists(path))

  def test_a_dict_is_passed_by_name(self):
    path = self.create_tempdir().full_path
    observation = {'b': tf.TensorSpec([3]), 'a': tf.TensorSpec([2])}
    _save_action(path, observation)
    base = base_policy.load(path, observation)
    chunk = base({'b': tf.zeros([1, 3]), 'a': tf.zeros([1, 2])}, _SEED)
    self.assertEqual(chunk.shape, [1, 1, 2])

  @parameterized.named_parameters(
      ('state', r'no policy state.*got float32 \(None, 4\)',
       dict(state=tf.TensorSpec([None, 4]))),
      ('batch_size', r"'observation' must be float32 \(None, 3\), got float32 "
       r'\(2, 3\)', dict(batch_size=2)),
      ('shape', r'float32 \(None, 3\), got float32 \(None, 5\)',
       dict(observation=tf.TensorSpec([5]))),
      ('dtype', r'float32 \(None, 3\), got int32 \(None, 3\)',
       dict(observation=tf.TensorSpec([3], tf.int32))),
      ('name', r"must be \['observation'\], got \['x'\]",
       dict(observation={'x': tf.TensorSpec([3])})),
      ('action', r"'action' must be one array float32 \(None, A\), got int32",
       dict(action=np.zeros([1], np.int32))),
  )
  def test_error_names(self, message, kwargs):
    path = self.create_tempdir().full_path
    kwargs = {'observation': small_agent.OBSERVATION_SPEC, **kwargs}
    _save_action(path, **kwargs)
    with self.assertRaisesRegex(ValueError, f'{path}.*{message}'):
      base_policy.load(path, small_agent.OBSERVATION_SPEC)

  def test_a_model_without_functions_is_named(self):
    path = self.create_tempdir().full_path
    tf.saved_model.save(tf.Module(), path)
    with self.assertRaisesRegex(
        ValueError, r"serving_default.*'action'.*got the signatures \[\]"
    ):
      base_policy.load(path, small_agent.OBSERVATION_SPEC)


if __name__ == '__main__':
  absltest.main()
