"""Tests of the replay server's tables, on loopback."""

import threading
import time

from absl.testing import parameterized
import numpy as np
import reverb
import tensorflow as tf
from tf_agents.specs import tensor_spec

from parl_tf import types
from parl_tf.replay import episode_writer
from parl_tf.replay import stored_step
from parl_tf.replay import tables

_SIGNATURE = stored_step.signature(
    {'image': tf.TensorSpec([2, 2, 3], tf.uint8),
     'state': tf.TensorSpec([2], tf.float32)},
    tensor_spec.BoundedTensorSpec([1], tf.float32, -1.0, 1.0),
)


def _steps(episode_id=0, num_steps=3):
  """Returns stored steps whose state is their index."""
  steps = np.arange(num_steps + 1)
  state = np.stack([steps, -steps], axis=1).astype(np.float32)
  image = np.zeros((num_steps + 1, 2, 2, 3), np.uint8)
  return episode_writer.stored_steps(
      types.Episode(
          observation={'image': image, 'state': state},
          action=np.zeros((num_steps, 1), np.float32),
          reward=np.arange(num_steps, dtype=np.float32),
          discount=np.ones(num_steps, np.float32),
          success=np.zeros(num_steps, np.bool_),
          episode_id=episode_id,
      ),
      gamma=0.5, reward_scale=1.0, reward_bias=0.0,
  )


def _sizes(server):
  return tables.table_sizes(reverb.Client(server.address))


class SignatureTest(parameterized.TestCase):

  def test_signature_has_the_fields_of_a_stored_step(self):
    steps = _steps()
    tf.nest.assert_same_structure(steps, _SIGNATURE)
    for leaf, spec in zip(
        tf.nest.flatten(steps), tf.nest.flatten(_SIGNATURE)
    ):
      self.assertEqual(leaf.dtype, spec.dtype.as_numpy_dtype)
      self.assertEqual(leaf.shape[1:], tuple(spec.shape))

  @parameterized.named_parameters(
      ('action_dtype', tf.TensorSpec([2], tf.float32),
       tf.TensorSpec([1], tf.float64), 'action_spec'),
      ('action_rank', tf.TensorSpec([2], tf.float32),
       tf.TensorSpec([], tf.float32), 'action_spec'),
      ('observation', tf.TensorSpec([2], tf.float64),
       tf.TensorSpec([1], tf.float32), 'observation_spec'),
  )
  def test_spec_that_cannot_be_stored_is_an_error(
      self, observation_spec, action_spec, message
  ):
    with self.assertRaisesRegex(ValueError, message):
      stored_step.signature(observation_spec, action_spec)


def _samples(server, number):
  client = reverb.Client(server.address)
  return client.sample('online', number, emit_timesteps=False)


class ReplayServerTest(parameterized.TestCase):

  def _server(self, **kwargs):
    server = tables.ReplayServer(_SIGNATURE, **kwargs)
    self.addCleanup(server.stop)
    return server

  def test_items_are_the_transitions(self):
    server = self._server()
    server.add('offline', _steps(5), 3)
    server.add('online', _steps(6), 2)
    server.add('online', _steps(7), 0)
    self.assertEqual(_sizes(server), {'offline': 3, 'online': 2})
    steps = set()
    for sample in _samples(server, 50):
      item = tf.nest.pack_sequence_as(_SIGNATURE, sample.data)
      steps.add(tuple(item.policy_info['step_index']))
      np.testing.assert_array_equal(item.policy_info['episode_id'], [6, 6])
      np.testing.assert_array_equal(
          item.observation['state'][:, 0], item.policy_info['step_index']
      )
    self.assertEqual(steps, {(0, 1), (1, 2)})

  def test_long_episode_is_written_completely(self):
    server = self._server()
    server.add('offline', _steps(0, num_steps=200), 200)
    self.assertEqual(_sizes(server)['offline'], 200)

  def test_oldest_transitions_are_removed_first(self):
    server = self._server(max_size=4)
    server.add('online', _steps(0), 3)
    server.add('online', _steps(1), 3)
    self.assertEqual(_sizes(server)['online'], 4)
    seen = set()
    for sample in _samples(server, 100):
      info = tf.nest.pack_sequence_as(_SIGNATURE, sample.data).policy_info
      seen.add((info['episode_id'][0], info['step_index'][0]))
    self.assertEqual(seen, {(0, 2), (1, 0), (1, 1), (1, 2)})

  @parameterized.named_parameters(
      ('nan', dict(reward=np.full(4, np.nan, np.float32)),
       'table `offline`: field `reward` must be finite'),
      ('width', dict(action=np.zeros((4, 2), np.float32)),
       r'field `action` must be float32 of shape \[1\] at each step, got '
       r'float32 of shape \[2\]'),
      ('dtype', dict(step_type=np.zeros(4, np.int64)),
       r'field `step_type` must be int32 of shape \[\] at each step, got'),
  )
  def test_bad_steps_are_an_error_and_nothing_is_inserted(
      self, changes, message
  ):
    server = self._server()
    with self.assertRaisesRegex(ValueError, message):
      server.add('offline', _steps()._replace(**changes), 3)
    self.assertEqual(_sizes(server)['offline'], 0)

  def test_unknown_table_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "got 'train'"):
      self._server().add('train', _steps(), 3)

  def test_table_without_capacity_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'max_size'):
      tables.ReplayServer(_SIGNATURE, max_size=0)

  def test_error_names_a_stopped_server_within_the_deadline(self):
    server = self._server()
    writer = tables.ReplayWriter(
        server.address, _SIGNATURE, deadline_seconds=2
    )
    writer.add('online', _steps(), 3)
    server.stop()
    start = time.monotonic()
    with self.assertRaisesRegex(
        ConnectionError, f'{server.address} .* table `online`'
    ):
      writer.add('online', _steps(1), 3)
    self.assertLess(time.monotonic() - start, 10.0)

  def test_writer_without_a_deadline_waits_for_a_slow_server(self):
    # The queue accepts the next item only when the previous one is removed.
    server = reverb.Server([reverb.Table.queue('online', 1)])
    self.addCleanup(server.stop)
    address = f'localhost:{server.port}'
    patient = tables.ReplayWriter(address, _SIGNATURE, deadline_seconds=None)
    writing = threading.Thread(
        target=patient.add, args=('online', _steps(), 3)
    )
    writing.start()
    writing.join(tables.DEADLINE_SECONDS + 1.0)
    self.assertTrue(writing.is_alive())

    samples = list(reverb.Client(address).sample('online', 3))

    writing.join()
    self.assertLen(samples, 3)


if __name__ == '__main__':
  tf.test.main()
