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
    self.read(link)
    wide = np.zeros([4, 3], np.float32)  # The state of a step has two numbers.
    copies = [
        mock.Mock(side_effect=IndexError('no such goal')),
        mock.Mock(side_effect=AssertionError('no such goal')),
        lambda episode: 'no episode',
        lambda episode: episode._replace(
            reward=np.full([3], np.nan, np.float32)
        ),
        lambda episode: episode._replace(
            observation={**episode.observation, 'state': wide}
        ),
    ]
    with self.assertLogs(level='ERROR') as logs:
      for number, copy_of in enumerate(copies):
        with mock.patch.object(small_service, 'copy_of', copy_of):
          episode_item.send(link.client, case.episode(episode_id=number))
          self.read(link, num_refused=number + 1)
    reasons = [x.getMessage() for x in logs.records if not x.exc_info]
    self.assertLen(reasons, len(copies))
    self.assertIn("`Domain.goals` failed: IndexError('no such", reasons[0])
    self.assertIn('must be float32 of shape [2] at each step', reasons[4])
    # The traceback of the task's code is shown once.
    self.assertLen([x for x in logs.records if x.exc_info], 1)
    self.assertEmpty(self.logged())
    self.assertEqual(link.size('online'), 0)
    self.read(link, num_refused=5)  # It still runs.


if __name__ == '__main__':
  absltest.main()
