"""Tests that environments are closed."""

from unittest import mock

from absl import logging
from absl.testing import absltest

from parl_tf.domains import closing


class CloseTest(absltest.TestCase):

  def test_an_error_does_not_keep_others_open(self):
    faulty = mock.Mock(**{'close.side_effect': RuntimeError('no display')})
    good = mock.Mock()
    task = mock.Mock(max_environments=None)
    with self.assertLogs(logging.get_absl_logger(), 'ERROR') as logs:
      closing.close(task, [faulty, good])
    self.assertIn('no display', logs.output[0])
    good.close.assert_called_once_with()

  def test_shared_environments_stay_open(self):
    robot = mock.Mock()
    closing.close(mock.Mock(max_environments=1), [robot])
    robot.close.assert_not_called()


if __name__ == '__main__':
  absltest.main()
