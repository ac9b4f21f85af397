"""Tests of the role of a collector."""

import os
from unittest import mock

from absl.testing import absltest

from parl_tf.replay import journal
from parl_tf.replay import server_link
from parl_tf.replay import spool
from parl_tf.training import collecting
from parl_tf.training import run_constants
from parl_tf.training import run_directory


class CollectingTest(absltest.TestCase):

  def test_number_of_another_collector_is_an_error(self):
    root_dir = self.create_tempdir().full_path
    with run_directory.hold(os.path.join(root_dir, 'spool', '3')):
      with self.assertRaisesRegex(ValueError, 'one process at a time'):
        collecting.collect(root_dir, 0, 3, 'localhost:1')

  def test_nothing_is_sent_to_a_service_of_another_configuration(self):
    here = run_constants.RunConstants(0.99, 1.0, -1.0, -100.0, -100.0, 1, 70)
    there = here._replace(reward_bias=0.0)
    seen = journal.make(constants=there)
    own = mock.create_autospec(spool.Spool, instance=True)
    self.enter_context(mock.patch.object(journal, 'read', return_value=seen))
    link = server_link.ServerLink('localhost:1')

    with self.assertRaisesRegex(ValueError, 'reward_bias` is 0 there, -1 here'):
      collecting._exchange(link, own, mock.Mock(), here)
    own.deliver.assert_not_called()

    collecting._exchange(link, own, mock.Mock(), there)
    own.deliver.assert_called_once_with(seen)


if __name__ == '__main__':
  absltest.main()
