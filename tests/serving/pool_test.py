"""Tests drawing from several servers."""

import os
import threading
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.policies import remote
from parl_tf.serving import pool
from parl_tf.serving import weights
from tests.serving import toy_policy


class _MeetingPolicy(toy_policy.ToyPolicy):
  """Waits in its first draw for a barrier or an event.

  Attributes:
    meeting: What it waits for; None does not wait.
  """

  meeting = None

  def sample(self, observation, num_samples, seed, temperature=1.0):
    meeting, self.meeting = self.meeting, None
    if meeting:
      meeting.wait(timeout=30.0)
    return super().sample(observation, num_samples, seed, temperature)


class PoolTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.directory = self.create_tempdir().full_path
    self.policies = [_MeetingPolicy() for _ in range(3)]
    self.servers = [
        self.enter_context(
            toy_policy.serving(policy.functions(), directory=self.directory)
        )
        for policy in self.policies
    ]
    self.clients = [
        self.enter_context(toy_policy.connect(x)) for x in self.servers
    ]

  def test_servers_draw_at_once_what_one_of_them_draws(self):
    observation = toy_policy.observation(50)  # At most 8 in a call.
    alone = self.clients[0].sample(observation, 4, seed=3, temperature=0.5)
    meeting = threading.Barrier(3)
    for policy in self.policies:
      policy.meeting = meeting

    shared = pool.sample(
        self.clients, observation, 4, 3, 'initial', temperature=0.5
    )

    np.testing.assert_array_equal(shared, alone.actions)
    self.assertEqual([p.meeting for p in self.policies], [None] * 3)

  # None is the version of the first server.
  @parameterized.parameters('initial', None)
  def test_a_server_with_another_version_is_an_error(self, version):
    observation = toy_policy.observation(50)
    self.servers[1].weights.version = 'other'
    # Without waiting, the other two may draw everything before it is asked.
    asked = threading.Event()
    self.policies[0].meeting = self.policies[2].meeting = asked
    ask = self.clients[1].sample

    def sample(*args):
      try:
        return ask(*args)
      finally:
        asked.set()

    self.enter_context(
        mock.patch.object(self.clients[1], 'sample', side_effect=sample)
    )

    with self.assertRaisesRegex(
        weights.StaleVersionError, "has version 'other' .* 'initial' was"
    ):
      pool.sample(self.clients, observation, 4, 3, version)

  def test_all_parts_of_a_batch_must_have_one_version(self):
    call = self.clients[0]._call

    def call_and_change(*args, **kwargs):
      answer = call(*args, **kwargs)
      self.servers[0].weights.version = 'other'
      return answer

    self.enter_context(
        mock.patch.object(self.clients[0], '_call', call_and_change)
    )
    with self.assertRaisesRegex(weights.StaleVersionError, "version 'other'"):
      self.clients[0].sample(toy_policy.observation(20), 1, 0)

  def test_training_of_a_version_that_is_loaded_again_is_repeated(self):
    client, policy = self.clients[0], self.policies[0]
    client.save('initial')

    def train():
      return client.train(
          toy_policy.observation(9), np.ones([9, 4, 2]), num_steps=2, seed=0,
          version='initial',
      ).version

    version, offset = train(), policy.offset.copy()
    client.load('initial')

    self.assertEqual(train(), version)
    self.assertEqual(policy.num_trainings, 2)
    np.testing.assert_array_equal(policy.offset, offset)

  def test_a_version_has_nothing_of_a_save_that_was_interrupted(self):
    partial = os.path.join(self.directory, 'initial.partial')
    os.makedirs(os.path.join(partial, 'torn'))

    self.clients[0].save('initial')

    saved = os.path.join(self.directory, 'initial')
    self.assertEqual(os.listdir(saved), ['offset.npy'])

  def test_workers_follow_the_versions_of_the_trained_server(self):
    addresses = [server.address for server in self.servers]
    policy = self.enter_context(
        remote.RemotePolicy(
            types.ModelSpec(
                {'state': tf.TensorSpec([3], tf.float32)},
                tf.TensorSpec([2], tf.float32),
                raw_action_bounds=(
                    np.full(2, -2.0, np.float32), np.full(2, 2.0, np.float32)
                ),
                chunk_length=4,
            ),
            address=addresses[0],
            workers=addresses[1:],
            patience_seconds=5.0,
        )
    )
    observation = toy_policy.observation(50)
    policy.restore('initial')
    before = policy.sample(observation, 4, [0, 1])

    policy.fit(observation, np.ones([50, 8]), num_steps=3, seed=0)
    after = policy.sample(observation, 4, [0, 1])

    versions = {server.weights.version for server in self.servers}
    self.assertEqual(versions, {policy.version})
    for worker in self.policies[1:]:
      np.testing.assert_array_equal(worker.offset, self.policies[0].offset)
      self.assertEqual(worker.num_trainings, 0)
    self.assertGreater(np.mean(after - before), 0.1)


if __name__ == '__main__':
  absltest.main()
