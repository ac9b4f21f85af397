"""Tests a served policy as a policy of ours."""

import dataclasses
import os
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.policies import remote
from parl_tf.serving import weights
from tests.serving import toy_policy

_BOUNDS = (np.full(2, -2.0, np.float32), np.full(2, 2.0, np.float32))


def _spec(chunk_length=4, observation=None, bounds=_BOUNDS):
  return types.ModelSpec(
      observation or {'state': tf.TensorSpec([3])},
      tf.TensorSpec([2]),
      raw_action_bounds=bounds,
      chunk_length=chunk_length,
  )


class RemotePolicyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.toy = toy_policy.ToyPolicy()

  def _policy(
      self, spec, served=toy_policy.SPEC, api_key=None, server=None, **options
  ):
    server = server or self.enter_context(
        toy_policy.serving(self.toy.functions(), served, api_key=api_key)
    )
    return self.enter_context(
        remote.RemotePolicy(
            spec, address=server.address, patience_seconds=5.0, **options
        )
    )

  def test_samples_are_in_our_units_and_repeatable(self):
    policy = self._policy(_spec())
    observation = toy_policy.observation(5)
    seed = tf.constant([3, -4])

    actions = policy.sample(observation, 6, seed)

    raw = self.toy.sample(observation, 6, remote.integer_seed(seed))
    wanted = np.clip(raw / 2.0, -1.0, 1.0).reshape(5, 6, 8)
    np.testing.assert_allclose(actions, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        actions, policy.sample(observation, 6, seed)
    )
    other = policy.sample(observation, 6, tf.constant([3, -5]))
    self.assertTrue(np.any(actions != other))

  def test_samples_and_fits_are_in_the_units_of_each_dimension(self):
    low, high = np.array([-2.0, 0.0], 'f'), np.array([2.0, 6.0], 'f')
    fitted = []
    train = self.toy.train
    self.toy.train = lambda observation, actions, *others: (
        fitted.append(actions) or train(observation, actions, *others)
    )
    served = dataclasses.replace(
        toy_policy.SPEC, action_low=low, action_high=high
    )
    policy = self._policy(_spec(bounds=(low, high)), served)
    observation, seed = toy_policy.observation(5), tf.constant([3, -4])

    actions = policy.sample(observation, 2, seed).numpy()

    raw = self.toy.sample(observation, 2, remote.integer_seed(seed))
    wanted = np.clip(2.0 * (raw - low) / (high - low) - 1.0, -1.0, 1.0)
    np.testing.assert_allclose(
        actions, wanted.reshape(5, 2, 8), rtol=1e-5, atol=1e-6
    )
    policy.version = 'initial'
    policy.fit(observation, actions[:, 0], num_steps=1, seed=0)
    given = actions[:, 0].reshape(5, 4, 2)
    np.testing.assert_allclose(
        fitted[0], low + (given + 1.0) / 2.0 * (high - low), atol=1e-5
    )

  def test_actions_beyond_the_chunk_repeat_its_last_one_and_are_masked(self):
    fitted = []
    train = self.toy.train
    self.toy.train = lambda observation, actions, mask, *others: (
        fitted.extend([actions, mask])
        or train(observation, actions, mask, *others)
    )
    policy = self._policy(_spec(chunk_length=2))
    policy.version = 'initial'

    chunk = np.float32([[0.1, 0.2, 0.3, -0.4]])
    with mock.patch.object(logging, 'log_first_n') as warn:  # Once a process.
      policy.fit(toy_policy.observation(1), chunk, num_steps=1, seed=0)

    np.testing.assert_allclose(
        fitted[0], [[[0.2, 0.4], [0.6, -0.8], [0.6, -0.8], [0.6, -0.8]]],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(fitted[1], [[1, 1, 0, 0]])
    warn.assert_called_once()
    level, text, number, _, *numbers = warn.call_args.args
    self.assertEqual((level, number, numbers), (logging.WARNING, 1, [4, 2]))
    self.assertIn('plays and trains the', text)

  def test_seeds_of_decisions_differ_in_their_low_bits(self):
    seeds = {
        remote.integer_seed(
            randomness.fold_in(tf.constant([3, step]), 'base', 0)
        ) % 2**32
        for step in range(200)
    }
    self.assertLen(seeds, 200)
    self.assertGreater(max(seeds), 2**31)

  def test_shorter_chunks_are_the_first_actions(self):
    whole, first = self._policy(_spec()), self._policy(_spec(chunk_length=1))
    observation, seed = toy_policy.observation(2), tf.constant([0, 1])

    np.testing.assert_array_equal(
        whole.sample(observation, 3, seed)[:, :, :2],
        first.sample(observation, 3, seed),
    )

  def test_observations_are_renamed_and_constants_added(self):
    served = dataclasses.replace(
        toy_policy.SPEC,
        observation={
            **toy_policy.SPEC.observation,
            'prompt': toy_policy.policy_spec.ArraySpec((), 'str'),
        },
    )
    policy = self._policy(
        _spec(observation=tf.TensorSpec([3])),
        served,
        keys={'observation': 'state'},
        constants={'prompt': 'push'},
    )
    state = toy_policy.observation(2)['state']
    before = policy.sample_settings

    message = policy.to_message(state)

    self.assertEqual(message['prompt'].tolist(), ['push', 'push'])
    self.assertRegex(
        policy.sample_settings,
        r"^noise_scale 0, keys \[\('observation', 'state'\)\], constants"
        r" \{'prompt': \d+\}$",
    )
    policy._constants['prompt'] = 'pull'
    self.assertNotEqual(policy.sample_settings, before)
    self.assertEqual(policy.sample(state, 3, tf.constant([0, 0])).shape,
                     [2, 3, 8])

  def test_noise_spreads_the_samples_of_a_deterministic_policy(self):
    self.toy.sample = lambda observation, num_samples, seed: np.zeros(
        [len(observation['state']), num_samples, 4, 2]
    )
    policy = self._policy(_spec(), noise_scale=0.1)

    actions = policy.sample(toy_policy.observation(50), 8, tf.constant([0, 0]))

    self.assertAlmostEqual(np.std(actions), 0.1, delta=0.01)

  def test_temperature_scales_the_noise_of_server_and_client(self):
    policy = self._policy(_spec(), noise_scale=0.1)
    observation, seed = toy_policy.observation(50), tf.constant([3, -4])

    mean = policy.sample(observation, 8, seed, temperature=0.0)
    drawn = policy.sample(observation, 8, seed, temperature=0.5)

    wanted = observation['state'][:, np.newaxis, :2] / 2.0  # In our units.
    inner = np.abs(wanted).max(axis=(1, 2)) < 0.5  # Far from the bounds.
    np.testing.assert_allclose(
        mean.numpy()[inner],
        np.tile(wanted[inner], [1, 8, 4]),
        rtol=1e-5, atol=1e-6,
    )
    # 0.1 in raw units is 0.05 in ours; both scaled by the temperature.
    self.assertAlmostEqual(
        np.std((drawn - mean).numpy()[inner]),
        0.5 * np.hypot(0.05, 0.1),
        delta=0.005,
    )

  def test_a_deterministic_policy_needs_no_temperature_of_its_server(self):
    self.toy.sample = lambda observation, num_samples, seed: np.zeros(
        [len(observation['state']), num_samples, 4, 2]
    )
    served = dataclasses.replace(
        toy_policy.SPEC, stochastic=False, has_temperature=False
    )
    policy = self._policy(_spec(), served, noise_scale=0.1)
    observation = toy_policy.observation(50)

    actions = policy.sample(
        observation, 8, tf.constant([0, 0]), temperature=0.5
    )

    self.assertAlmostEqual(np.std(actions), 0.05, delta=0.005)

  def test_actions_in_another_unit_are_warned_of_once(self):
    self.toy.sample = lambda observation, num_samples, seed: np.full(
        [len(observation['state']), num_samples, 4, 2], 100.0
    )
    policy = self._policy(_spec())
    observation = toy_policy.observation(2)
    with self.assertLogs(level='WARNING') as logs:
      for _ in range(2):
        policy.sample(observation, 3, tf.constant([0, 0]))
    self.assertLen(logs.output, 1)
    self.assertIn('100 % of its actions are far outside', logs.output[0])

  def test_another_version_is_refused(self):
    policy = self._policy(_spec())
    policy.version = 'other'

    with self.assertRaises(weights.StaleVersionError):
      policy.sample(toy_policy.observation(1), 1, tf.constant([0, 0]))

  def _fitted(self, toy):
    """Returns a server, its policy after a fit, and the rows of that."""
    server = self.enter_context(
        toy_policy.serving(
            toy.functions(), directory=self.create_tempdir().full_path
        )
    )
    policy = self._policy(_spec(), server=server)
    policy.restore('initial')
    rows = toy_policy.observation(4)
    policy.client.save('initial')
    policy.fit(rows, np.ones([4, 8], np.float32), num_steps=1, seed=0)
    return server, policy, rows

  def test_a_server_that_was_restarted_loads_the_version_again(self):
    server, policy, rows = self._fitted(toy_policy.ToyPolicy())
    version, seed = policy.version, tf.constant([0, 0])
    wanted = policy.sample(rows, 2, seed)
    server.weights.load('initial')

    with self.assertLogs(level='WARNING') as logs:
      again = policy.sample(rows, 2, seed)

    np.testing.assert_array_equal(again, wanted)
    self.assertEqual(server.weights.version, version)
    self.assertIn(
        f'has version initial of the weights; it was probably restarted. It'
        f' loads {version} again.',
        logs.output[0],
    )
    server.weights.load('initial')
    policy.fit(rows, np.ones([4, 8], np.float32), num_steps=1, seed=1)
    self.assertIn('+2-', server.weights.version)

  def test_a_server_that_restarts_before_it_saves_trains_again(self):
    toy = toy_policy.ToyPolicy()
    server, policy, rows = self._fitted(toy)
    save, before = policy.client.save, policy.version

    def save_late(version):
      if toy.num_trainings == 2:
        server.weights.load('initial')
      save(version)

    with mock.patch.object(policy.client, 'save', save_late):
      policy.fit(rows, np.ones([4, 8], np.float32), num_steps=1, seed=1)

    self.assertEqual(toy.num_trainings, 3)
    self.assertEqual(
        server.weights.saved(), ['initial', before, policy.version]
    )
    self.assertEqual(server.weights.version, policy.version)

  def test_a_policy_that_ignores_its_seeds_is_refused(self):
    states = toy_policy.observation(3)
    self._policy(_spec()).check_seeds(states)
    draws = np.random.default_rng(0)
    functions = toy_policy.ToyPolicy().functions()._replace(
        sample=lambda states, number, seed: draws.normal(
            size=(len(states['state']), number, 4, 2)
        )
    )
    for is_seedable in (True, False):
      spec = dataclasses.replace(toy_policy.SPEC, seedable=is_seedable)
      server = self.enter_context(toy_policy.serving(functions, spec))
      policy = self._policy(_spec(), server=server)
      if is_seedable:
        with self.assertRaisesRegex(ValueError, 'equal seeds, but two draws'):
          policy.check_seeds(states)
      else:
        policy.check_seeds(states)

  def test_the_key_is_read_from_the_environment(self):
    policy = self._policy(_spec(), api_key='secret')

    with mock.patch.dict(os.environ, {remote.KEY_VARIABLE: 'wrong'}):
      with self.assertRaisesRegex(PermissionError, 'API key'):
        policy.sample(toy_policy.observation(1), 1, tf.constant([0, 0]))
    with mock.patch.dict(os.environ, {remote.KEY_VARIABLE: 'secret'}):
      policy.sample(toy_policy.observation(1), 1, tf.constant([0, 0]))

  @parameterized.parameters(
      (_spec(chunk_length=5), 'at least 5 actions of size 2 .*, got 4'),
      (_spec(bounds=(-np.ones(2), np.ones(2))), r'low \[-1.0, -1.0\], got'),
  )
  def test_a_policy_of_another_task_is_refused(self, spec, fault):
    policy = self._policy(spec)

    with self.assertRaisesRegex(ValueError, fault):
      policy.sample(toy_policy.observation(1), 1, tf.constant([0, 0]))

  def test_a_server_without_our_extension_cannot_train(self):
    policy = self._policy(_spec())
    policy.client.spec = None

    with self.assertRaisesRegex(ValueError, 'able to train'):
      policy.fit(
          toy_policy.observation(1), np.zeros([1, 8]), num_steps=1, seed=0
      )

  def test_graphs_cannot_contain_it(self):
    policy = self._policy(_spec())

    @tf.function
    def sample():
      return policy.sample(toy_policy.observation(1), 1, tf.constant([0, 0]))

    with self.assertRaisesRegex(ValueError, 'action cache'):
      sample()


if __name__ == '__main__':
  absltest.main()
