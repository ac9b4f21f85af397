"""Tests of the link to a replay service and of sending weights."""

import contextlib
import threading
import time
from unittest import mock

from absl.testing import absltest
import tensorflow as tf

from parl_tf.distributed import journal
from parl_tf.distributed import server_link
from parl_tf.distributed import weights
from tests.distributed import service_case


class ServerLinkTest(service_case.ServiceCase):

  def _shorten_deadline(self):
    self.enter_context(mock.patch.object(server_link, 'DEADLINE_SECONDS', 1))

  def test_an_address_has_a_port(self):
    for address in ('localhost', ':9000', 'localhost:', 'localhost:http'):
      with self.assertRaisesRegex(ValueError, f"host:port, got '{address}'"):
        server_link.ServerLink(address)

  def test_unchanged_weights_are_not_fetched_again(self):
    link = server_link.ServerLink(self.start().address)
    sender = weights.Weights(
        link, self.variables, tf.Variable(0, dtype=tf.int64)
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

  def test_published_weights_are_received(self):
    link = server_link.ServerLink(self.start().address)
    step = tf.Variable(7, dtype=tf.int64)
    sender = weights.Weights(link, self.variables, step)
    received = [tf.Variable([0.0, 0.0])]
    receiver = weights.Weights(link, received, tf.Variable(0, dtype=tf.int64))
    self.assertIsNone(receiver.receive())

    sender.num_episodes.assign(4)
    sender.publish()

    self.assertTrue(receiver.receive())
    self.assertEqual(received[0].numpy().tolist(), [1.0, 2.0])
    self.assertEqual(int(receiver.num_episodes), 4)

  def test_progress_is_read_without_the_weights(self):
    link = server_link.ServerLink(self.start().address)
    self.assertIsNone(weights.read_progress(link))
    sender = weights.Weights(
        link, self.variables, tf.Variable(7, dtype=tf.int64)
    )
    sender.num_episodes.assign(4)
    sender.publish()

    self.assertEqual(
        weights.read_progress(link),
        {'is_over': 0, 'num_episodes': 4, 'train_step': 7},
    )
    limiter = link.table(weights.TABLE).rate_limiter_info
    self.assertEqual(limiter.sample_stats.completed, 0)

  def test_a_dead_server_is_an_error_within_seconds(self):
    replay = self.start()
    link = server_link.ServerLink(replay.address)
    self.read(link)
    self.stop()
    self._shorten_deadline()
    start = time.monotonic()

    with self.assertRaisesRegex(ConnectionError, replay.address):
      journal.read(link)
    own = self.spool(link)
    own.append(0, service_case.episode())
    with self.assertRaisesRegex(ConnectionError, replay.address):
      own.deliver(journal.make())
    with self.assertRaisesRegex(ConnectionError, replay.address):
      weights.Weights(
          link, self.variables, tf.Variable(0, dtype=tf.int64)
      ).publish()

    self.assertLess(time.monotonic() - start, 6.0)

  def test_long_wait_for_an_empty_table_is_logged(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    self.enter_context(
        mock.patch.object(server_link, '_FIRST_REPORT_SECONDS', 0.02)
    )

    with self.assertLogs(level='WARNING') as logs:
      with link.watched('online'):
        deadline = time.monotonic() + 20.0
        while not logs.output and time.monotonic() < deadline:
          time.sleep(0.02)

    self.assertIn(f'Waiting for {link.address} table online', logs.output[0])

  def test_ctrl_c_ends_a_wait_for_rows(self):
    may_end = []

    @contextlib.contextmanager
    def ends_soon(unused_describe, may_end_now):
      may_end.append(may_end_now)
      yield

    self.enter_context(
        mock.patch.object(server_link.interruption, 'ends_soon', ends_soon)
    )
    self.enter_context(
        mock.patch.object(server_link, '_FIRST_REPORT_SECONDS', 0.02)
    )
    table = mock.Mock(current_size=3)
    table.rate_limiter_info.min_size_to_sample = 3
    link = server_link.ServerLink('localhost:1')
    self.enter_context(
        mock.patch.object(link, 'tables', return_value={'online': table})
    )
    with link.watched('online'):
      for size, wanted in ((2, True), (3, False), (0, True)):
        table.current_size = size
        deadline = time.monotonic() + 20.0
        while may_end[0]() != wanted and time.monotonic() < deadline:
          time.sleep(0.02)
        self.assertEqual(may_end[0](), wanted)

  def test_call_ends_soon_if_the_server_exits_during_it(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    self._shorten_deadline()
    is_over = threading.Event()
    self.addCleanup(is_over.set)

    def hang():
      self.stop()
      is_over.wait()

    start = time.monotonic()
    with self.assertRaisesRegex(ConnectionError, link.address):
      link.call(weights.TABLE, hang, seconds=60.0)

    self.assertLess(time.monotonic() - start, 10.0)

  def test_call_without_an_answer_is_an_error(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    is_over = threading.Event()

    def sample():
      # Reverb waits for the first item without a timeout.
      list(link.client.sample(weights.TABLE, 1))
      is_over.set()

    with self.assertRaisesRegex(ConnectionError, 'variables.*within 0.2 s'):
      link.call(weights.TABLE, sample, seconds=0.2)

    # Ends the abandoned call, which would retry for the rest of the process.
    weights.Weights(
        link, self.variables, tf.Variable(0, dtype=tf.int64)
    ).publish()
    self.assertTrue(is_over.wait(20.0))


if __name__ == '__main__':
  absltest.main()
