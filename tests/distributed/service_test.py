"""Tests of what the replay service accepts, refuses and restores."""

import os
import threading
import time
from unittest import mock
import weakref

from absl.testing import absltest
import gin
import numpy as np
import tensorflow as tf

from parl_tf.distributed import episode_item
from parl_tf.distributed import journal
from parl_tf.distributed import server_link
from parl_tf.distributed import spool
from tests.distributed import service_case as case
from tests.distributed import small_service


class ServiceTest(case.ServiceCase):

  def _send_unchecked(self, link, item):
    with link.client.trajectory_writer(1, validate_items=False) as writer:
      writer.append(item)
      writer.create_item(
          episode_item.TABLE,
          1.0,
          tf.nest.map_structure(lambda column: column[-1], writer.history),
      )
      writer.flush(timeout_ms=4000)

  def test_episode_is_added_to_log_table_and_journal(self):
    link = server_link.ServerLink(self.start().address)
    own = self.spool(link, collector=3)
    self.assertEqual(own.next_number(self.read(link)), 0)

    own.append(0, case.episode(success=True))
    self.assertEqual(own.deliver(self.read(link)), 1)
    seen = self.read(link, 1)

    (episode_id,) = seen.episode_id.tolist()
    self.assertEqual(spool.collector_of(episode_id), 3)
    self.assertEqual(spool.number_of(episode_id), 0)
    self.assertEqual(seen.num_steps.tolist(), [3])
    self.assertEqual(seen.success.tolist(), [True])
    self.assertEqual(link.size('online'), 3)
    self.assertEqual(own.deliver(seen), 0)
    self.assertEqual(own.next_number(seen), 1)
    self.assertLen(self.logged(), 1)

  def test_service_ends_if_its_dataset_is_replaced(self):
    def check():
      raise ValueError('another dataset')

    replay = small_service.make(
        case.OBSERVATION, case.ACTION, self.variables, self.root, 3
    )
    link = server_link.ServerLink(replay.address)
    with self.assertRaisesRegex(ValueError, 'another dataset'):
      replay.run([case.episode()], check)
    with mock.patch.object(server_link, 'DEADLINE_SECONDS', 1):
      with self.assertRaises(ConnectionError):
        link.size('online')

  def test_service_that_runs_notices_another_dataset(self):
    replay = small_service.make(
        case.OBSERVATION, case.ACTION, self.variables, self.root, 3
    )
    stop = threading.Timer(20.0, replay.stop)
    stop.start()
    self.addCleanup(stop.cancel)
    check = mock.Mock(side_effect=[None, ValueError('another dataset')])
    with self.assertRaisesRegex(ValueError, 'another dataset'):
      replay.run([case.episode()], check)

  def test_service_does_not_keep_the_episodes_of_its_dataset(self):
    array = case.episode().action
    found = weakref.ref(array)
    episodes = iter([case.episode(action=array)])
    del array
    self.read(server_link.ServerLink(
        self.start(offline_episodes=episodes).address
    ))
    self.assertIsNone(found())

  def test_collectors_on_two_hosts_with_equal_numbers_lose_nothing(self):
    link = server_link.ServerLink(self.start().address)
    empty = self.read(link)
    spools = [
        spool.Spool(self.create_tempdir().full_path, link, collector=3)
        for _ in range(2)
    ]
    for own in spools:
      own.append(0, case.episode())
      own.deliver(empty)

    seen = self.read(link, 2)

    self.assertLen(set(seen.episode_id.tolist()), 2)
    for own in spools:
      self.assertEqual(own.deliver(seen), 0)
      self.assertEqual(own.next_number(seen), 1)

  def test_collector_with_a_lost_disk_repeats_no_episode(self):
    link = server_link.ServerLink(self.start().address)
    own = self.spool(link, collector=3)
    own.append(0, case.episode())
    own.deliver(self.read(link))
    seen = self.read(link, 1)

    fresh = spool.Spool(self.create_tempdir().full_path, link, collector=3)

    self.assertEqual(fresh.next_number(seen), 1)
    self.assertEqual(fresh.deliver(seen), 0)

  def test_episode_that_is_sent_twice_counts_once(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    for number in (5, 5, 6):
      episode_item.send(link.client, case.episode(episode_id=number))

    seen = self.read(link, 2)

    self.assertEqual(seen.episode_id.tolist(), [5, 6])
    self.assertEqual(link.size('online'), 6)

  def test_restart_restores_everything(self):
    first = self.start()
    link = server_link.ServerLink(first.address)
    own = self.spool(link)
    for number in range(2):
      own.append(number, case.episode(num_steps=2 + number))
    own.deliver(self.read(link))
    before = self.read(link, 2)
    self.stop()
    with mock.patch.object(server_link, 'DEADLINE_SECONDS', 1):
      with self.assertRaisesRegex(ConnectionError, first.address):
        journal.read(link)

    self.start(port=first.port)
    after = self.read(link, 2)

    tf.nest.map_structure(np.testing.assert_array_equal, before, after)
    self.assertEqual(link.size('online'), 5)
    self.assertEqual(link.size('offline'), 3)

  def test_torn_end_of_the_log_is_sent_again(self):
    first = self.start()
    link = server_link.ServerLink(first.address)
    own = self.spool(link)
    for number in range(2):
      own.append(number, case.episode())
    own.deliver(self.read(link))
    self.read(link, 2)
    self.stop()
    log = os.path.join(self.root, 'episodes')
    last = os.path.join(log, sorted(os.listdir(log))[-1])
    os.truncate(last, 100)

    self.start(port=first.port)
    self.assertLen(self.read(link, 1).episode_id, 1)
    own = self.spool(link)  # The collector may have been restarted too.
    self.assertEqual(own.deliver(self.read(link)), 1)

    numbers = spool.number_of(self.read(link, 2).episode_id)
    self.assertEqual(numbers.tolist(), [0, 1])

  def test_bad_episodes_are_refused_and_the_service_continues(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    with self.assertLogs(level='ERROR') as logs:
      episode_item.send(link.client, case.episode(num_steps=11, episode_id=7))
      seen = self.read(link, num_refused=1)
    self.assertEqual(seen.refused.tolist(), [7])
    self.assertIn('at most 10 steps', logs.output[0])
    with self.assertLogs(level='ERROR') as logs:
      # The first may arrive twice.
      episode_item.send(link.client, case.episode(num_steps=11, episode_id=7))
      episode_item.send(link.client, case.episode(episode_id=13))
      seen = self.read(link, num_refused=2)
    self.assertEqual(seen.refused.tolist(), [7, 13])
    self.assertRegex(
        logs.output[-1], r'13: `Domain.is_success` failed: IndexEr'
    )
    with self.assertRaisesRegex(ValueError, 'signature'):
      episode_item.send(
          link.client,
          case.episode()._replace(action=np.zeros([3, 2], np.float32)),
      )
    with self.assertRaisesRegex(ValueError, 'reward.*finite'):
      episode_item.send(
          link.client, case.episode()._replace(reward=np.full(3, np.nan, 'f4'))
      )

    episode_item.send(link.client, case.episode(num_steps=10, episode_id=8))

    self.assertEqual(self.read(link, 1).episode_id.tolist(), [8])

  def test_malformed_item_of_another_client_is_refused(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    with self.assertLogs(level='ERROR') as logs:
      self._send_unchecked(link, {'other': np.zeros(3, np.int64)})
      deadline = time.monotonic() + 5.0
      while not logs.output and time.monotonic() < deadline:
        time.sleep(0.05)
    self.assertIn('Refused an item of table episodes', logs.output[0])

    episode_item.send(link.client, case.episode(episode_id=8))

    self.assertEqual(self.read(link, 1).episode_id.tolist(), [8])

  def test_fields_of_another_dtype_or_rank_are_refused_by_name(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    episode = case.episode(episode_id=8)
    names = ('observation', 'action', 'reward', 'discount', 'success')
    whole = {name: getattr(episode, name) for name in names}
    whole.update(episode_id=np.int64(7), policy_version=np.int64(0))
    faults = {
        'episode_id': (np.zeros(2, np.int64), np.float64(np.inf)),
        # Not an int64, so the journal cannot list it.
        'policy_version': (np.uint64(2**63),),
        'reward': (np.float32(0), np.zeros(3)),
    }
    with self.assertLogs(level='ERROR') as logs:
      for name, values in faults.items():
        for value in values:
          self._send_unchecked(link, {**whole, name: value})
      episode_item.send(link.client, episode)
      seen = self.read(link, 1)

    self.assertEqual(seen.episode_id.tolist(), [8])
    self.assertEmpty(seen.refused)
    self.assertLen(logs.output, 5)
    self.assertIn('`episode_id` must be int64 of shape []', logs.output[0])
    self.assertIn('`reward` must be float32', logs.output[-1])

  def test_episode_whose_return_overflows_never_enters_the_log(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    reward = np.full(3, 3e38, np.float32)  # The sum overflows.

    with self.assertLogs(level='ERROR') as logs:
      episode_item.send(link.client, case.episode(reward=reward, episode_id=7))
      seen = self.read(link, num_refused=1)

    self.assertEqual(seen.refused.tolist(), [7])
    self.assertIn('monte_carlo_return` must be finite', logs.output[0])
    self.assertEmpty(self.logged())

  def test_tables_cannot_be_sampled_until_they_are_refilled(self):
    first = self.start()
    link = server_link.ServerLink(first.address)
    self.read(link)
    for number in range(3):
      episode_item.send(link.client, case.episode(episode_id=number))
    self.read(link, 3)
    self.stop()
    is_full = threading.Event()

    def slow():
      yield case.episode(2)
      is_full.wait(20.0)
      yield case.episode(2)

    again = self.start(offline_episodes=slow(), num_transitions=4)
    link = server_link.ServerLink(again.address)
    while not link.size('offline'):
      time.sleep(0.01)
    with self.assertRaises(ConnectionError):
      link.call('offline', lambda: self.sample(link, 'offline'), seconds=0.5)
    is_full.set()
    self.read(link, 3)

    self.assertEqual(link.size('offline'), 4)
    self.assertEqual(link.size('online'), 9)
    self.assertLen(self.sample(link, 'online'), 1)

  def test_a_dataset_beyond_the_tables_is_refused(self):
    gin.bind_parameter('ReplayService.max_size', 2)
    self.addCleanup(gin.clear_config)
    with self.assertRaisesRegex(
        ValueError, '`ReplayService.max_size` must be at least 3.*got 2'
    ):
      self.start(num_transitions=3)

  def test_old_episodes_that_the_table_would_drop_are_not_inserted(self):
    gin.bind_parameter('ReplayService.max_size', 7)
    self.addCleanup(gin.clear_config)
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    for number in range(5):
      episode_item.send(link.client, case.episode(episode_id=number))
    self.read(link, 5)
    self.stop()

    link = server_link.ServerLink(self.start().address)
    seen = self.read(link, 5)

    self.assertEqual(seen.episode_id.tolist(), [0, 1, 2, 3, 4])
    table = link.table('online')
    self.assertEqual(table.current_size, 7)
    self.assertEqual(table.rate_limiter_info.insert_stats.completed, 9)

  def test_dataset_of_another_size_than_announced_is_an_error(self):
    replay = small_service.make(
        case.OBSERVATION, case.ACTION, self.variables, self.root, 5
    )
    self.addCleanup(replay.stop)

    with self.assertRaisesRegex(RuntimeError, "'offline': 5.*'offline': 3"):
      replay.run([case.episode()])

  def test_service_can_be_stopped_while_it_fills_its_tables(self):
    started = threading.Event()

    def endless():
      while True:
        yield case.episode()
        started.set()

    replay = self.start(offline_episodes=endless())
    started.wait()

    replay.stop()

    (_, thread), = self._services
    thread.join(20.0)
    self.assertFalse(thread.is_alive())

  def test_no_writer_is_created_while_the_connection_is_broken(self):
    replay = self.start()
    link = server_link.ServerLink(replay.address)
    self.read(link)
    self.stop()
    # Such a writer would corrupt the memory of this process.
    make_writer = self.enter_context(
        mock.patch.object(
            link.client,
            'trajectory_writer',
            wraps=link.client.trajectory_writer,
        )
    )
    sending = threading.Thread(
        target=episode_item.send, args=(link.client, case.episode())
    )

    sending.start()
    sending.join(0.2)

    make_writer.assert_not_called()
    self.start(replay.port)
    sending.join(20.0)
    self.assertFalse(sending.is_alive())
    make_writer.assert_called_once()
    self.read(link, 1)

  def test_port_in_use_is_an_error(self):
    port = self.start().port

    with self.assertRaisesRegex(OSError, f'Port {port} must be free'):
      self.start(port=port)

  def test_torn_file_of_a_spool_does_not_stop_the_others(self):
    link = server_link.ServerLink(self.start().address)
    own = self.spool(link)
    for number in range(2):
      own.append(number, case.episode())
    first = os.path.join(self.root, 'spool_0', 'episode_00000000.npz')
    os.truncate(first, 100)

    with self.assertLogs(level='ERROR') as logs:
      own.deliver(self.read(link))

    self.assertIn(first, logs.output[0])
    self.assertTrue(os.path.exists(first + '.torn'))
    numbers = spool.number_of(self.read(link, 1).episode_id)
    self.assertEqual(numbers.tolist(), [1])
    self.assertEqual(own.deliver(self.read(link)), 0)


if __name__ == '__main__':
  absltest.main()
