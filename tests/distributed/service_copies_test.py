"""Tests of a replay service whose tables have copies of episodes."""

from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.distributed import episode_item
from parl_tf.distributed import server_link
from tests.distributed import service_case as case
from tests.distributed import small_service


class ServiceCopiesTest(case.ServiceCase):

  def test_restart_restores_copies_of_episodes(self):
    first = self.start(num_copies=2)
    link = server_link.ServerLink(first.address)
    own = self.spool(link)
    own.append(0, case.episode())
    own.deliver(self.read(link))
    self.read(link, 1)
    self.assertEqual(link.size('online'), 9)
    self.stop()
    self.start(port=first.port, num_copies=2)
    self.read(link, 1)
    self.assertEqual(link.size('online'), 9)
    self.assertEqual(link.size('offline'), 3)

  def test_an_episode_with_a_faulty_copy_is_refused(self):
    link = server_link.ServerLink(self.start(num_copies=1).address)
    faulty = case.episode()._replace(reward=np.full([3], np.nan, np.float32))
    with mock.patch.object(small_service, 'copy_of', lambda episode: faulty):
      with self.assertLogs(level='ERROR'):
        episode_item.send(link.client, case.episode(episode_id=5))
        self.read(link, num_refused=1)
    self.assertEmpty(self.logged())
    self.assertEqual(link.size('online'), 0)


if __name__ == '__main__':
  absltest.main()
