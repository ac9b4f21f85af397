"""Tests of the role of a collector."""

import os

from absl.testing import absltest

from parl_tf.training import collecting
from parl_tf.training import run_directory


class CollectingTest(absltest.TestCase):

  def test_number_of_another_collector_is_an_error(self):
    root_dir = self.create_tempdir().full_path
    with run_directory.hold(os.path.join(root_dir, 'spool', '3')):
      with self.assertRaisesRegex(ValueError, 'one process at a time'):
        collecting.collect(root_dir, 0, 3, 'localhost:1')


if __name__ == '__main__':
  absltest.main()
