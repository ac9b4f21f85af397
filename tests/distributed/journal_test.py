"""Tests of reading a journal often."""

from unittest import mock

from absl.testing import absltest
import reverb

from parl_tf.distributed import journal
from parl_tf.distributed import server_link


class ReaderTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    server = reverb.Server([journal.make_table()])
    self.addCleanup(server.stop)
    self._link = server_link.ServerLink(f'localhost:{server.port}')
    self._client = reverb.Client(f'localhost:{server.port}')
    self._reader = journal.Reader(self._link)
    self._read = self.enter_context(
        mock.patch.object(journal, 'read', wraps=journal.read)
    )
    self.enter_context(mock.patch.object(journal, '_SAME_SECONDS', 1e9))

  def _publish(self, *ids):
    held = journal.make(ids, [3] * len(ids), [False] * len(ids))
    journal.publish(self._client, held)

  def test_a_journal_is_transferred_again_only_if_it_changed(self):
    self.assertIsNone(self._reader.read())  # The service is not ready.
    self._publish(5)
    for _ in range(3):
      self.assertEqual(self._reader.read().episode_id.tolist(), [5])
    self.assertEqual(self._read.call_count, 2)

    self._publish(5, 6)

    self.assertEqual(self._reader.read().episode_id.tolist(), [5, 6])
    self.assertEqual(self._read.call_count, 3)

  def test_a_restarted_service_that_counts_as_far_is_noticed(self):
    self._publish(5)
    self._reader.read()
    other = reverb.Server([journal.make_table()])
    self.addCleanup(other.stop)
    client = reverb.Client(f'localhost:{other.port}')
    journal.publish(client, journal.make([7], [3], [False]))
    self._link.client = client

    with mock.patch.object(journal, '_SAME_SECONDS', 0.0):
      self.assertEqual(self._reader.read().episode_id.tolist(), [7])


if __name__ == '__main__':
  absltest.main()
