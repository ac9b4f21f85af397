"""Tests the client of our extension against our server."""

import dataclasses
import os
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.serving import client as client_lib
from parl_tf.serving import connection
from parl_tf.serving import server as server_lib
from parl_tf.serving import weights
from tests.serving import toy_policy


class ClientTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.policy = toy_policy.ToyPolicy()

  def _serve(self, functions=None, spec=toy_policy.SPEC, **options):
    return self.enter_context(
        toy_policy.serving(
            functions or self.policy.functions(), spec, **options
        )
    )

  def _connect(self, server, **options):
    return self.enter_context(toy_policy.connect(server, **options))

  def test_metadata_describes_the_policy(self):
    client = self._connect(self._serve(metadata={'robot': 'arm'}))

    self.assertEqual(client.metadata['robot'], 'arm')
    self.assertEqual(client.metadata['parl']['version'], 'initial')
    self.assertTrue(client.can_train)
    self.assertFalse(client.can_save)
    self.assertEqual(
        {**client.spec.to_message(), **{'action_low': 0, 'action_high': 0,
                                        'normalization': 0}},
        {**toy_policy.SPEC.to_message(), **{'action_low': 0, 'action_high': 0,
                                            'normalization': 0}},
    )
    np.testing.assert_array_equal(client.spec.action_high, [2.0, 2.0])

  def test_samples_are_those_of_the_policy(self):
    client = self._connect(self._serve())
    observation = toy_policy.observation(5)

    samples = client.sample(observation, 3, seed=7)

    self.assertEqual(samples.version, 'initial')
    np.testing.assert_allclose(
        samples.actions, self.policy.sample(observation, 3, 7), rtol=1e-6
    )

  def test_temperature_scales_the_noise(self):
    client = self._connect(self._serve())
    observation = toy_policy.observation(20)  # In pieces.

    mean = client.sample(observation, 3, seed=7, temperature=0.0).actions
    half = client.sample(observation, 3, seed=7, temperature=0.5).actions
    whole = client.sample(observation, 3, seed=7, temperature=1.0).actions

    np.testing.assert_array_equal(mean[:, :1], mean[:, 1:2])
    np.testing.assert_allclose(half - mean, 0.5 * (whole - mean), atol=1e-6)

  def test_a_policy_without_temperature_has_1_only(self):
    def sample(observation, num_samples, seed):  # Takes no temperature.
      return self.policy.sample(observation, num_samples, seed)

    spec = dataclasses.replace(toy_policy.SPEC, has_temperature=False)
    client = self._connect(
        self._serve(server_lib.Policy(sample), spec)
    )
    observation = toy_policy.observation(2)

    client.sample(observation, 3, seed=7, temperature=1.0)
    with self.assertRaisesRegex(ValueError, 'no temperature but 1, got 0.5'):
      client.sample(observation, 3, seed=7, temperature=0.5)
    client.spec = toy_policy.SPEC
    with self.assertRaisesRegex(
        client_lib.RefusedError, 'no temperature but 1, got 0.5'
    ):
      client.sample(observation, 3, seed=7, temperature=0.5)

  def test_an_invalid_temperature_is_refused(self):
    client = self._connect(self._serve())

    for value in (-1.0, float('nan'), float('inf')):
      with self.assertRaisesRegex(
          client_lib.RefusedError, '`temperature` must be at least 0'
      ):
        client.sample(toy_policy.observation(2), 3, 7, temperature=value)

  def test_large_batches_are_sent_in_pieces(self):
    client = self._connect(self._serve())
    observation = toy_policy.observation(20)  # The server takes 8.
    samples = client.sample(observation, 3, seed=7)
    self.assertEqual(samples.actions.shape, (20, 3, 4, 2))
    again = client.sample(observation, 3, seed=7)
    np.testing.assert_array_equal(samples.actions, again.actions)
    # Every piece has its own draws.
    noise = samples.actions - observation['state'][:, None, None, :2]
    self.assertLen(np.unique(np.round(noise, 4).reshape(20, -1), axis=0), 20)

  def test_training_changes_samples_and_version(self):
    client = self._connect(self._serve())
    observation = toy_policy.observation(30)

    training = client.train(
        observation, np.full([30, 4, 2], 3.0), num_steps=4, seed=0,
        version='initial',
    )

    self.assertRegex(training.version, r'^initial\+1-[0-9a-f]{12}$')
    losses = training.losses['loss']
    self.assertLen(losses, 4)
    self.assertLess(losses[-1], losses[0])
    samples = client.sample(observation, 1, 0, version=training.version)
    np.testing.assert_allclose(np.mean(samples.actions), 3.0, atol=0.5)
    second = client.train(
        observation, np.zeros([30, 4, 2]), num_steps=1, seed=0,
        version=training.version,
    )
    self.assertRegex(second.version, r'^initial\+2-')

  def test_training_data_may_exceed_a_message(self):
    # 100 rows of 12 + 32 + 16 bytes, in messages of at most 66,000.
    client = self._connect(self._serve(max_bytes=66_000))
    observation = toy_policy.observation(100)
    actions = np.ones([100, 4, 2], np.float32)
    mask = np.ones([100, 4], np.float32)
    mask[:, 2:] = 0.0

    client.train(
        observation, actions, num_steps=9, seed=0, version='initial', mask=mask
    )

    np.testing.assert_array_equal(self.policy.offset[2:], 0.0)
    wanted = np.mean(1.0 - observation['state'][:, :2], axis=0)
    np.testing.assert_allclose(
        self.policy.offset[0], wanted * (1 - 0.5**9), rtol=1e-4
    )

  def test_samples_of_states_that_exceed_a_message_are_drawn_in_parts(self):
    client = self._connect(self._serve(max_bytes=66_000))
    states = toy_policy.observation(100)
    size = client.piece_size(states)
    self.assertLess(size, 50)  # 464 bytes for 100 states of 12 bytes.

    samples = client.sample(states, 2, seed=5)

    self.assertEqual(samples.actions.shape[:2], (100, 2))

  def test_training_data_are_bounded(self):
    client = self._connect(self._serve(max_training_bytes=1_000))

    with self.assertRaisesRegex(client_lib.RefusedError, '1000 bytes'):
      client.train(
          toy_policy.observation(30), np.ones([30, 4, 2]), num_steps=1, seed=0,
          version='initial',
      )

  def test_stale_versions_are_refused_by_name(self):
    client = self._connect(self._serve())

    with self.assertRaisesRegex(
        weights.StaleVersionError, "'initial'.*but 'other' was expected"
    ) as caught:
      client.sample(toy_policy.observation(1), 1, 0, version='other')
    self.assertEqual(caught.exception.version, 'initial')

  def test_versions_are_saved_and_loaded(self):
    directory = self.create_tempdir().full_path
    server = self._serve(directory=directory)
    client = self._connect(server)
    client.save('initial')
    trained = client.train(
        toy_policy.observation(9), np.ones([9, 4, 2]), num_steps=2, seed=0,
        version='initial',
    )
    client.save(trained.version)
    os.utime(os.path.join(directory, 'initial'))  # The oldest comes first.
    offset = self.policy.offset.copy()

    client.load('initial')
    np.testing.assert_array_equal(self.policy.offset, 0.0)
    client.load(trained.version)
    np.testing.assert_array_equal(self.policy.offset, offset)

    status = client.status()
    self.assertEqual(status['version'], trained.version)
    self.assertEqual(status['saved'], [trained.version, 'initial'])
    with self.assertRaisesRegex(client_lib.RefusedError, 'not saved in'):
      client.load('another')
    with self.assertRaisesRegex(client_lib.RefusedError, 'must consist of'):
      client.load('../initial')

  def test_saving_and_loading_may_take_longer_than_a_draw(self):
    functions = self.policy.functions()

    def slowly(function):
      def call(path):
        time.sleep(0.6)
        function(path)

      return call

    server = self._serve(
        functions._replace(
            save=slowly(functions.save), load=slowly(functions.load)
        ),
        directory=self.create_tempdir().full_path,
    )
    client = self._connect(server, call_seconds=0.3)
    client.save('initial')
    trained = client.train(
        toy_policy.observation(9), np.ones([9, 4, 2]), num_steps=2, seed=0,
        version='initial',
    )

    client.load('initial')

    self.assertNotEqual(trained.version, 'initial')
    self.assertEqual(self._connect(server).status()['version'], 'initial')

  def test_a_version_is_on_the_disk_before_it_has_its_name(self):
    directory = self.create_tempdir().full_path
    client = self._connect(self._serve(directory=directory))
    synced = []

    def sync(descriptor):
      path = os.readlink(f'/proc/self/fd/{descriptor}')
      synced.append(os.path.relpath(path, directory))
      fsync(descriptor)

    fsync = os.fsync
    with mock.patch.object(os, 'fsync', sync):
      client.save('initial')

    self.assertEqual(synced[-1], '.')
    partial = os.path.normpath(synced[-2])
    self.assertRegex(partial, r'^initial-[0-9a-f]{12}\.partial$')
    [name] = os.listdir(os.path.join(directory, 'initial'))
    self.assertIn(os.path.join(partial, name), synced[:-1])

  def test_a_version_may_have_a_plus(self):
    first = weights.trained('v1+lora', 'data')
    self.assertRegex(first, r'^v1\+lora\+1-[0-9a-f]{12}$')
    self.assertRegex(weights.trained(first, 'data'), r'^v1\+lora\+2-')

  def test_failed_training_makes_the_version_unknown(self):
    def fail(*unused):
      raise OverflowError('a fault of the policy')

    client = self._connect(
        self._serve(self.policy.functions()._replace(train=fail))
    )

    with self.assertLogs(level='ERROR') as logs, self.assertRaisesRegex(
        connection.PolicyServerError, '^The .* OverflowError: a fault of the'
    ) as caught:
      client.train(
          toy_policy.observation(1), np.ones([1, 4, 2]), num_steps=1, seed=0,
          version='initial',
      )
    for text in (str(caught.exception.__cause__), *logs.output):
      self.assertRegex(text, '(?s)Traceback.*a fault of the policy')
    self.assertEqual(client.status()['version'], 'initial.failed')

  @parameterized.parameters(
      (dict(num_samples=0, seed=0), '`samples` must be an integer from 1'),
      (dict(num_samples=1, seed=-1), '`seed` must be an integer from 0'),
  )
  def test_invalid_arguments_are_refused(self, arguments, fault):
    client = self._connect(self._serve())

    with self.assertRaisesRegex(client_lib.RefusedError, fault):
      client.sample(toy_policy.observation(2), **arguments)

  @parameterized.parameters(
      ({'state': np.zeros([2, 4])}, r"'state' must have shape \[B, 3\]"),
      (
          {'state': np.array([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]])},
          r"'state' must be finite, got nan at \[1, 1\] of shape \[2, 3\]",
      ),
      ({'state': np.zeros([2, 3], 'S2')}, "'state' must be float32"),
      ({'other': np.zeros([2, 3])}, r"\['state'\] missing"),
  )
  def test_wrong_observations_are_refused(self, observation, fault):
    client = self._connect(self._serve())

    with self.assertRaisesRegex(client_lib.RefusedError, fault):
      client.sample(observation, 1, 0)

  def test_wrong_samples_are_an_error_of_the_policy(self):
    functions = self.policy.functions()
    for actions in (np.zeros([1, 1, 4, 3]), np.full([1, 1, 4, 2], np.nan)):
      server = self._serve(functions._replace(sample=lambda *x: actions))
      client = self._connect(server)

      with self.assertRaisesRegex(
          connection.PolicyServerError, '`sample`: actions must'
      ):
        client.sample(toy_policy.observation(1), 1, 0)

  def test_a_policy_without_training_refuses_it(self):
    functions = self.policy.functions()._replace(train=None)
    client = self._connect(self._serve(functions))

    self.assertFalse(client.can_train)
    with self.assertRaisesRegex(client_lib.RefusedError, 'cannot be trained'):
      client.train(
          toy_policy.observation(1), np.ones([1, 4, 2]), num_steps=1, seed=0,
          version='initial',
      )

  def test_text_is_an_observation(self):
    spec = dataclasses.replace(
        toy_policy.SPEC,
        observation={'prompt': toy_policy.policy_spec.ArraySpec((), 'str')},
    )
    seen = []

    def sample(observation, num_samples, seed):
      del seed
      seen.extend(observation['prompt'])
      return np.zeros([len(observation['prompt']), num_samples, 4, 2])

    functions = self.policy.functions()._replace(sample=sample)
    client = self._connect(self._serve(functions, spec))

    client.sample({'prompt': np.array(['open', 'close'])}, 1, 0)
    client.infer({'prompt': 'push'})

    self.assertEqual(seen, ['open', 'close', 'push'])

  def test_the_link_is_alive_during_a_training(self):
    began, goes_on = threading.Event(), threading.Event()

    def train(*unused):
      began.set()
      goes_on.wait()
      return [0.0]

    server = self._serve(self.policy.functions()._replace(train=train))
    client, other = self._connect(server), self._connect(server)
    arguments = dict(num_steps=1, seed=0, version='initial')
    thread = threading.Thread(
        target=client.train,
        args=(toy_policy.observation(1), np.ones([1, 4, 2])),
        kwargs=arguments,
    )
    thread.start()
    began.wait()

    self.assertEqual(other.status()['waiting'], 1)
    self.assertTrue(other._connection._socket.ping().wait(5.0))
    goes_on.set()
    thread.join()
    self.assertRegex(other.status()['version'], r'initial\+1-')


if __name__ == '__main__':
  absltest.main()
