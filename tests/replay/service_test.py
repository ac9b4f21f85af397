"""Tests of the replay service, its journal, and a collector's spool."""

import os
import threading
import time
from unittest import mock

from absl.testing import absltest
import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.replay import episode_item
from parl_tf.replay import journal
from parl_tf.replay import server_link
from parl_tf.replay import spool
from parl_tf.replay import weights
from tests.replay import small_service

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


class ServiceTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    self._variables = [tf.Variable([1.0, 2.0])]
    self._services = []
    self.addCleanup(self._stop)

  def _start(self, port=None, offline_episodes=None, num_transitions=3):
    replay = small_service.make(
        _OBSERVATION, _ACTION, self._variables, self._root, num_transitions,
        port,
    )
    if offline_episodes is None:
      offline_episodes = [_episode()]
    thread = threading.Thread(target=replay.run, args=(offline_episodes,))
    thread.start()
    self._services.append((replay, thread))
    return replay

  def _stop(self):
    for replay, thread in self._services:
      replay.stop()
      thread.join()
    self._services = []

  def _logged(self):
    names = os.listdir(os.path.join(self._root, 'episodes'))
    return [name for name in names if name.endswith('.npz')]

  def _spool(self, link, collector=0):
    directory = os.path.join(self._root, f'spool_{collector}')
    return spool.Spool(directory, link, collector)

  def _send_unchecked(self, link, item):
    with link.client.trajectory_writer(1, validate_items=False) as writer:
      writer.append(item)
      writer.create_item(
          episode_item.TABLE,
          1.0,
          tf.nest.map_structure(lambda column: column[-1], writer.history),
      )
      writer.flush(timeout_ms=4000)

  def _sample(self, link, table):
    return list(link.client.sample(table, num_samples=1))

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

    (episode_id,) = seen.episode_id.tolist()
    self.assertEqual(spool.collector_of(episode_id), 3)
    self.assertEqual(spool.number_of(episode_id), 0)
    self.assertEqual(seen.num_steps.tolist(), [3])
    self.assertEqual(seen.success.tolist(), [True])
    self.assertEqual(link.size('online'), 3)
    self.assertEqual(own.deliver(seen), 0)
    self.assertEqual(own.next_number(seen), 1)
    self.assertLen(self._logged(), 1)

  def test_collectors_of_two_hosts_with_one_number_lose_nothing(self):
    link = server_link.ServerLink(self._start().address)
    empty = self._read(link)
    spools = [
        spool.Spool(self.create_tempdir().full_path, link, collector=3)
        for _ in range(2)
    ]
    for own in spools:
      own.append(0, _episode())
      own.deliver(empty)

    seen = self._read(link, 2)

    self.assertLen(set(seen.episode_id.tolist()), 2)
    for own in spools:
      self.assertEqual(own.deliver(seen), 0)
      self.assertEqual(own.next_number(seen), 1)

  def test_collector_whose_disk_was_lost_acts_no_episode_twice(self):
    link = server_link.ServerLink(self._start().address)
    own = self._spool(link, collector=3)
    own.append(0, _episode())
    own.deliver(self._read(link))
    seen = self._read(link, 1)

    fresh = spool.Spool(self.create_tempdir().full_path, link, collector=3)

    self.assertEqual(fresh.next_number(seen), 1)
    self.assertEqual(fresh.deliver(seen), 0)

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

    numbers = spool.number_of(self._read(link, 2).episode_id)
    self.assertEqual(numbers.tolist(), [0, 1])

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
      self._send_unchecked(link, {'other': np.zeros(3, np.int64)})
      deadline = time.monotonic() + 5.0
      while not logs.output and time.monotonic() < deadline:
        time.sleep(0.05)
    self.assertIn('Refused an item of table episodes', logs.output[0])

    episode_item.send(link.client, _episode(episode_id=8))

    self.assertEqual(self._read(link, 1).episode_id.tolist(), [8])

  def test_fields_of_another_dtype_or_rank_are_refused_by_name(self):
    link = server_link.ServerLink(self._start().address)
    self._read(link)
    episode = _episode(episode_id=8)
    names = ('observation', 'action', 'reward', 'discount', 'success')
    whole = {name: getattr(episode, name) for name in names}
    whole.update(episode_id=np.int64(7), policy_version=np.int64(0))
    faults = {
        'episode_id': (np.zeros(2, np.int64), np.float64(np.inf)),
        # No int64: the journal could not tell of it.
        'policy_version': (np.uint64(2**63),),
        'reward': (np.float32(0), np.zeros(3)),
    }
    with self.assertLogs(level='ERROR') as logs:
      for name, values in faults.items():
        for value in values:
          self._send_unchecked(link, {**whole, name: value})
      episode_item.send(link.client, episode)
      seen = self._read(link, 1)

    self.assertEqual(seen.episode_id.tolist(), [8])
    self.assertEmpty(seen.refused)
    self.assertLen(logs.output, 5)
    self.assertIn('`episode_id` must be int64 of shape []', logs.output[0])
    self.assertIn('`reward` must be float32', logs.output[-1])

  def test_episode_whose_return_overflows_never_comes_into_the_log(self):
    link = server_link.ServerLink(self._start().address)
    self._read(link)
    reward = np.full(3, 3e38, np.float32)  # Finite, but not its sum.

    with self.assertLogs(level='ERROR') as logs:
      episode_item.send(link.client, _episode(reward=reward, episode_id=7))
      seen = self._read(link, num_refused=1)

    self.assertEqual(seen.refused.tolist(), [7])
    self.assertIn('monte_carlo_return` must be finite', logs.output[0])
    self.assertEmpty(self._logged())

  def test_tables_answer_nobody_before_they_are_full_again(self):
    first = self._start()
    link = server_link.ServerLink(first.address)
    self._read(link)
    for number in range(3):
      episode_item.send(link.client, _episode(episode_id=number))
    self._read(link, 3)
    self._stop()
    is_full = threading.Event()

    def slow():
      yield _episode(2)
      is_full.wait(20.0)
      yield _episode(2)

    again = self._start(offline_episodes=slow(), num_transitions=4)
    link = server_link.ServerLink(again.address)
    while not link.size('offline'):
      time.sleep(0.01)
    with self.assertRaises(ConnectionError):
      link.call('offline', lambda: self._sample(link, 'offline'), seconds=0.5)
    is_full.set()
    self._read(link, 3)

    self.assertEqual(link.size('offline'), 4)
    self.assertEqual(link.size('online'), 9)
    self.assertLen(self._sample(link, 'online'), 1)

  def test_old_episodes_that_the_table_would_drop_are_not_inserted(self):
    gin.bind_parameter('ReplayService.max_size', 7)
    self.addCleanup(gin.clear_config)
    link = server_link.ServerLink(self._start().address)
    self._read(link)
    for number in range(5):
      episode_item.send(link.client, _episode(episode_id=number))
    self._read(link, 5)
    self._stop()

    link = server_link.ServerLink(self._start().address)
    seen = self._read(link, 5)

    self.assertEqual(seen.episode_id.tolist(), [0, 1, 2, 3, 4])
    table = link.table('online')
    self.assertEqual(table.current_size, 7)
    self.assertEqual(table.rate_limiter_info.insert_stats.completed, 9)

  def test_data_set_of_another_size_than_announced_is_an_error(self):
    replay = small_service.make(
        _OBSERVATION, _ACTION, self._variables, self._root, 5
    )
    self.addCleanup(replay.stop)

    with self.assertRaisesRegex(RuntimeError, "'offline': 5.*'offline': 3"):
      replay.run([_episode()])

  def test_service_that_fills_its_tables_can_be_stopped(self):
    started = threading.Event()

    def endless():
      while True:
        yield _episode()
        started.set()

    replay = self._start(offline_episodes=endless())
    started.wait()

    replay.stop()

    (_, thread), = self._services
    thread.join(20.0)
    self.assertFalse(thread.is_alive())

  def test_port_of_another_service_is_an_error(self):
    port = self._start().port

    with self.assertRaisesRegex(OSError, f'Port {port} must be free'):
      self._start(port=port)

  def test_same_weights_are_not_taken_again(self):
    link = server_link.ServerLink(self._start().address)
    sender = weights.Weights(
        link, self._variables, tf.Variable(0, dtype=tf.int64)
    )
    received = [tf.Variable([0.0, 0.0])]
    receiver = weights.Weights(link, received, tf.Variable(0, dtype=tf.int64))
    sender.publish()
    receiver.receive()
    received[0].assign([9.0, 9.0])

    receiver.receive()
    self.assertEqual(received[0].numpy().tolist(), [9.0, 9.0])
    sender.publish()
    receiver.receive()
    self.assertEqual(received[0].numpy().tolist(), [1.0, 2.0])

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

  def test_silent_wait_for_an_empty_table_is_told(self):
    link = server_link.ServerLink(self._start().address)
    self._read(link)
    self.enter_context(
        mock.patch.object(server_link, '_FIRST_REPORT_SECONDS', 0.02)
    )

    with self.assertLogs(level='WARNING') as logs:
      with link.watched('online'):
        deadline = time.monotonic() + 20.0
        while not logs.output and time.monotonic() < deadline:
          time.sleep(0.02)

    self.assertIn(f'Waiting for {link.address} table online', logs.output[0])

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
    numbers = spool.number_of(self._read(link, 1).episode_id)
    self.assertEqual(numbers.tolist(), [1])
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
