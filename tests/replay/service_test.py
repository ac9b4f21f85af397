"""Tests of the replay service, its journal, and a collector's spool."""

import os
import threading
import time

from absl.testing import absltest
import numpy as np
import reverb
import tensorflow as tf

from parl_tf import types
from parl_tf.replay import episode_item
from parl_tf.replay import episode_writer
from parl_tf.replay import journal
from parl_tf.replay import server_link
from parl_tf.replay import service
from parl_tf.replay import spool
from parl_tf.replay import weights

_OBSERVATION = {
    'image': tf.TensorSpec([2, 2, 3], tf.uint8),
    'state': tf.TensorSpec([2], tf.float32),
}
_ACTION = tf.TensorSpec([1], tf.float32)


def _episode(num_steps=3, success=False, **changes):
  episode = types.Episode(
      observation={
          'image': np.zeros([num_steps + 1, 2, 2, 3], np.uint8),
          'state': np.ones([num_steps + 1, 2], np.float32),
      },
      action=np.zeros([num_steps, 1], np.float32),
      reward=np.zeros(num_steps, np.float32),
      discount=np.ones(num_steps, np.float32),
      success=np.full(num_steps, success),
  )
  return episode._replace(**changes)


def _make_writers(sink):
  writer = episode_writer.EpisodeWriter(
      gamma=0.9,
      reward_scale=1.0,
      reward_bias=0.0,
      never_succeeds_value=None,
      sinks=[sink],
  )
  return {'offline': writer, 'online': writer}


class ServiceTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    self._variables = [tf.Variable([1.0, 2.0])]
    self._services = []
    self.addCleanup(self._stop)

  def _start(self, port=None):
    replay = service.ReplayService(
        _OBSERVATION,
        _ACTION,
        weights.signature(self._variables),
        _make_writers,
        os.path.join(self._root, 'episodes'),
        max_episode_steps=10,
        is_success=lambda episode: bool(episode.success.any()),
        port=port,
    )
    thread = threading.Thread(target=replay.run, args=([_episode()],))
    thread.start()
    self._services.append((replay, thread))
    return replay

  def _stop(self):
    for replay, thread in self._services:
      replay.stop()
      thread.join()
    self._services = []

  def _spool(self, link, collector=0):
    directory = os.path.join(self._root, f'spool_{collector}')
    return spool.Spool(directory, link, collector)

  def _read(self, link, num_episodes=0, num_refused=0):
    """Returns the journal once it tells of so many episodes."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
      seen = journal.read(link)
      if seen is not None and (
          len(seen.episode_id) >= num_episodes
          and len(seen.refused) >= num_refused
      ):
        return seen
      time.sleep(0.02)
    raise AssertionError(f'The journal must tell of more, got {seen}.')

  def test_episode_arrives_in_log_table_and_journal(self):
    link = server_link.ServerLink(self._start().address)
    own = self._spool(link, collector=3)
    self.assertEqual(own.next_number(self._read(link)), 0)

    own.append(0, _episode(success=True))
    self.assertEqual(own.deliver(self._read(link)), 1)
    seen = self._read(link, 1)

    self.assertEqual(seen.episode_id.tolist(), [3 * 2**32])
    self.assertEqual(seen.num_steps.tolist(), [3])
    self.assertEqual(seen.success.tolist(), [True])
    self.assertEqual(link.size('online'), 3)
    self.assertEqual(own.deliver(seen), 0)
    self.assertEqual(own.next_number(seen), 1)
    self.assertLen(os.listdir(os.path.join(self._root, 'episodes')), 1)

  def test_episode_that_is_sent_twice_counts_once(self):
    link = server_link.ServerLink(self._start().address)
    self._read(link)
    for number in (5, 5, 6):
      episode_item.send(link.client, _episode(episode_id=number))

    seen = self._read(link, 2)

    self.assertEqual(seen.episode_id.tolist(), [5, 6])
    self.assertEqual(link.size('online'), 6)

  def test_restart_has_what_was_there(self):
    first = self._start()
    link = server_link.ServerLink(first.address)
    own = self._spool(link)
    for number in range(2):
      own.append(number, _episode(num_steps=2 + number))
    own.deliver(self._read(link))
    before = self._read(link, 2)
    self._stop()
    with self.assertRaisesRegex(ConnectionError, first.address):
      journal.read(link)

    self._start(port=first.port)
    after = self._read(link, 2)

    tf.nest.map_structure(np.testing.assert_array_equal, before, after)
    self.assertEqual(link.size('online'), 5)
    self.assertEqual(link.size('offline'), 3)

  def test_torn_end_of_the_log_is_sent_anew(self):
    first = self._start()
    link = server_link.ServerLink(first.address)
    own = self._spool(link)
    for number in range(2):
      own.append(number, _episode())
    own.deliver(self._read(link))
    self._read(link, 2)
    self._stop()
    log = os.path.join(self._root, 'episodes')
    last = os.path.join(log, sorted(os.listdir(log))[-1])
    os.truncate(last, 100)

    self._start(port=first.port)
    self.assertLen(self._read(link, 1).episode_id, 1)
    own = self._spool(link)  # The collector, too, may have been restarted.
    self.assertEqual(own.deliver(self._read(link)), 1)

    self.assertEqual(self._read(link, 2).episode_id.tolist(), [0, 1])

  def test_bad_episodes_are_refused_by_name_and_the_service_goes_on(self):
    link = server_link.ServerLink(self._start().address)
    self._read(link)
    with self.assertLogs(level='ERROR') as logs:
      episode_item.send(link.client, _episode(num_steps=11, episode_id=7))
      seen = self._read(link, num_refused=1)
    self.assertEqual(seen.refused.tolist(), [7])
    self.assertIn('at most 10 steps', logs.output[0])
    with self.assertRaisesRegex(ValueError, 'signature'):
      episode_item.send(
          link.client,
          _episode()._replace(action=np.zeros([3, 2], np.float32)),
      )
    with self.assertRaisesRegex(ValueError, 'reward.*finite'):
      episode_item.send(
          link.client, _episode()._replace(reward=np.full(3, np.nan, 'f4'))
      )

    episode_item.send(link.client, _episode(episode_id=8))

    self.assertEqual(self._read(link, 1).episode_id.tolist(), [8])

  def test_malformed_item_of_a_stranger_is_refused(self):
    link = server_link.ServerLink(self._start().address)
    self._read(link)
    with self.assertLogs(level='ERROR') as logs:
      with link.client.trajectory_writer(1, validate_items=False) as writer:
        writer.append({'other': np.zeros(3, np.int64)})
        writer.create_item(
            episode_item.TABLE, 1.0, {'other': writer.history['other'][-1]}
        )
        writer.flush(timeout_ms=4000)
      deadline = time.monotonic() + 5.0
      while not logs.output and time.monotonic() < deadline:
        time.sleep(0.05)
    self.assertIn('Refused an item of table episodes', logs.output[0])

    episode_item.send(link.client, _episode(episode_id=8))

    self.assertEqual(self._read(link, 1).episode_id.tolist(), [8])

  def test_weights_travel(self):
    link = server_link.ServerLink(self._start().address)
    step = tf.Variable(7, dtype=tf.int64)
    sender = weights.Weights(link, self._variables, step)
    received = [tf.Variable([0.0, 0.0])]
    receiver = weights.Weights(link, received, tf.Variable(0, dtype=tf.int64))
    self.assertIsNone(receiver.receive())

    sender.num_episodes.assign(4)
    sender.publish()

    self.assertTrue(receiver.receive())
    self.assertEqual(received[0].numpy().tolist(), [1.0, 2.0])
    self.assertEqual(int(receiver.num_episodes), 4)

  def test_a_dead_server_is_an_error_soon(self):
    replay = self._start()
    link = server_link.ServerLink(replay.address)
    self._read(link)
    self._stop()
    start = time.monotonic()

    with self.assertRaisesRegex(ConnectionError, replay.address):
      journal.read(link)
    own = self._spool(link)
    own.append(0, _episode())
    with self.assertRaisesRegex(ConnectionError, replay.address):
      own.deliver(journal.make())
    with self.assertRaisesRegex(ConnectionError, replay.address):
      weights.Weights(
          link, self._variables, tf.Variable(0, dtype=tf.int64)
      ).publish()

    self.assertLess(time.monotonic() - start, 15.0)

  def test_call_ends_soon_where_the_server_goes_meanwhile(self):
    link = server_link.ServerLink(self._start().address)
    self._read(link)
    is_over = threading.Event()
    self.addCleanup(is_over.set)

    def hang():
      self._stop()
      is_over.wait()

    start = time.monotonic()
    with self.assertRaisesRegex(ConnectionError, link.address):
      link.call(weights.TABLE, hang, seconds=60.0)

    self.assertLess(time.monotonic() - start, 20.0)

  def test_full_queue_is_an_error_soon_and_takes_the_episode_later(self):
    items = episode_item.signature(_OBSERVATION, _ACTION)
    server = reverb.Server(
        [episode_item.make_table(items, 1), journal.make_table()]
    )
    self.addCleanup(server.stop)
    link = server_link.ServerLink(f'localhost:{server.port}')
    own = self._spool(link)
    for number in range(2):
      own.append(number, _episode())

    with self.assertRaisesRegex(ConnectionError, 'table episodes'):
      own.deliver(journal.make())
    self.assertEqual(own.deliver(journal.make()), 2)  # None is sent anew.

    received = [episode_item.receive(link.client, items) for _ in range(2)]
    self.assertEqual([x.episode_id for x in received], [0, 1])

  def test_torn_file_of_a_spool_does_not_stop_the_others(self):
    link = server_link.ServerLink(self._start().address)
    own = self._spool(link)
    for number in range(2):
      own.append(number, _episode())
    first = os.path.join(self._root, 'spool_0', 'episode_00000000.npz')
    os.truncate(first, 100)

    with self.assertLogs(level='ERROR') as logs:
      own.deliver(self._read(link))

    self.assertIn(first, logs.output[0])
    self.assertEqual(self._read(link, 1).episode_id.tolist(), [1])
    self.assertEqual(own.deliver(self._read(link)), 0)

  def test_call_without_an_answer_is_an_error(self):
    link = server_link.ServerLink(self._start().address)
    self._read(link)

    with self.assertRaisesRegex(ConnectionError, 'within 0.2 s.*variables'):
      link.call(
          weights.TABLE,
          # Reverb waits for a first item without limit.
          lambda: list(link.client.sample(weights.TABLE, 1)),
          seconds=0.2,
      )


if __name__ == '__main__':
  absltest.main()
