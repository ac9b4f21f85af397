"""Tests of a collector's spool with a full queue."""

import os
import threading
from unittest import mock

from absl.testing import absltest
import numpy as np
import reverb
import tensorflow as tf

from parl_tf import types
from parl_tf.distributed import directory_id
from parl_tf.distributed import episode_item
from parl_tf.distributed import journal
from parl_tf.distributed import server_link
from parl_tf.distributed import spool

_ITEMS = episode_item.signature(
    tf.TensorSpec([2], tf.float32), tf.TensorSpec([1], tf.float32)
)


def _episode():
  return types.Episode(
      observation=np.ones([4, 2], np.float32),
      action=np.zeros([3, 1], np.float32),
      reward=np.zeros(3, np.float32),
      discount=np.ones(3, np.float32),
      success=np.zeros(3, np.bool_),
  )


class SpoolTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    server = reverb.Server(
        [episode_item.make_table(_ITEMS, max_size=1), journal.make_table()]
    )
    self.addCleanup(server.stop)
    self._link = server_link.ServerLink(f'localhost:{server.port}')
    # Makes the id of an episode equal to its number.
    self.enter_context(
        mock.patch.object(directory_id.secrets, 'randbits', return_value=0)
    )
    self._spool = spool.Spool(self.create_tempdir().full_path, self._link, 0)

  def _receive(self):
    return episode_item.receive(self._link.client, _ITEMS).episode_id

  def test_full_queue_is_an_error_and_accepts_the_episode_later(self):
    for number in range(2):
      self._spool.append(number, _episode())

    with self.assertRaisesRegex(ConnectionError, 'table episodes'):
      self._spool.deliver(journal.make())
    # No episode is sent again.
    self.assertEqual(self._spool.deliver(journal.make()), 2)

    self.assertEqual([self._receive(), self._receive()], [0, 1])

  def test_episode_in_transit_is_not_sent_again(self):
    self.enter_context(mock.patch.object(spool, '_RESEND_SECONDS', 0.0))
    self._spool.append(0, _episode())
    self._spool.deliver(journal.make())  # It fills the queue.
    self._spool.append(1, _episode())
    first_arrived = journal.make([0], [3], [False])
    with self.assertRaisesRegex(ConnectionError, 'table episodes'):
      self._spool.deliver(first_arrived)
    num_threads = threading.active_count()

    self.assertEqual(self._spool.deliver(first_arrived), 1)

    self.assertEqual(threading.active_count(), num_threads)
    self.assertEqual([self._receive(), self._receive()], [0, 1])

  def test_newest_episodes_are_kept_after_they_have_arrived(self):
    for number in range(10):
      self._spool.append(number, _episode())
    arrived = journal.make(range(10), [3] * 10, [False] * 10)

    self.assertEqual(self._spool.deliver(arrived), 0)

    # The service may lose the end of its log.
    self.assertEqual(self._spool._numbers(), list(range(2, 10)))

  def test_numbers_of_refused_episodes_are_not_used_again(self):
    held = journal.make([3], [3], [False], refused=[5])
    self.assertEqual(self._spool.next_number(held), 6)

  def test_spool_of_another_run_is_refused(self):
    self._spool.append(0, _episode())
    self._spool.deliver(journal.make([0], [3], [False], run_id=10))
    self._spool.deliver(journal.make([0], [3], [False], run_id=10))

    message = r'service \(b\).*another run \(a\)'
    with self.assertRaisesRegex(ValueError, message):
      self._spool.deliver(journal.make(run_id=11))

    self.assertEqual(self._link.size(episode_item.TABLE), 0)

  def test_collector_whose_episodes_are_always_refused_is_stopped(self):
    numbers = list(range(11))
    for held in (
        journal.make(),
        # The tenth was accepted, or only nine have arrived.
        journal.make([9], [3], [False], refused=numbers[:9] + [10]),
        journal.make(refused=numbers[:9]),
    ):
      self._spool.deliver(held)
    with self.assertRaisesRegex(ValueError, 'last 10 episodes of collector 0'):
      self._spool.deliver(journal.make([0], [3], [False], refused=numbers[1:]))

  def test_collector_that_was_mended_goes_on_after_ten_refused_episodes(self):
    self._spool.append(10, _episode())

    left = self._spool.deliver(journal.make(refused=list(range(10))))

    self.assertEqual((left, self._receive()), (1, 10))
    with self.assertRaisesRegex(ValueError, 'refused the last 10 episodes'):
      self._spool.deliver(journal.make(refused=list(range(11))))

  def test_episode_that_the_disk_cannot_read_is_sent_later(self):
    self.enter_context(mock.patch.object(spool, '_RESEND_SECONDS', 0.0))
    self._spool.append(0, _episode())

    # Reading a directory is an error of the disk, too.
    path = self._spool._path(0)
    os.rename(path, path + '.away')
    os.mkdir(path)
    with self.assertLogs(level='ERROR') as logs:
      # It does not keep the process from ending.
      self.assertEqual(self._spool.deliver(journal.make()), 0)
    self.assertIn('Is a directory', logs.output[0])
    os.rmdir(path)
    os.rename(path + '.away', path)

    self.assertEqual(self._spool.deliver(journal.make()), 1)
    self.assertEqual(self._receive(), 0)


if __name__ == '__main__':
  absltest.main()
