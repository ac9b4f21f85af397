"""Tests of a replay service whose disk is full."""

import errno
import time
from unittest import mock

from absl.testing import absltest

from parl_tf.distributed import episode_item
from parl_tf.distributed import server_link
from parl_tf.distributed import service
from parl_tf.replay import episode_log
from tests.distributed import service_case as case

_FULL = OSError(errno.ENOSPC, 'No space left on device')


class FullDiskTest(case.ServiceCase):

  def test_episodes_wait_for_space_and_are_kept_once(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    self.enter_context(mock.patch.object(service, '_RETRY_SECONDS', 0.1))
    write, faults = episode_log._write, [_FULL, _FULL]

    def write_or_fail(path, arrays):
      if faults:
        raise faults.pop()
      write(path, arrays)

    with mock.patch.object(
        episode_log, '_write', write_or_fail
    ), self.assertLogs(level='ERROR') as logs:
      for number in (5, 6):
        episode_item.send(link.client, case.episode(episode_id=number))
      seen = self.read(link, 2)
    self.assertEqual(seen.episode_id.tolist(), [5, 6])
    self.assertEqual(link.size('online'), 6)
    self.assertLen(self.logged(), 2)
    self.assertLen(logs.output, 2)

  def test_a_service_that_waits_for_space_can_be_stopped(self):
    link = server_link.ServerLink(self.start().address)
    self.read(link)
    with mock.patch.object(
        episode_log, '_write', side_effect=_FULL
    ) as write, self.assertLogs(level='ERROR'):
      episode_item.send(link.client, case.episode(episode_id=5))
      while not write.called:
        time.sleep(0.01)
      self.stop()
    self.assertEmpty(self.logged())


if __name__ == '__main__':
  absltest.main()
