"""Tests that a robot's server closes the robot when it is interrupted."""

import os
import pathlib
import signal
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.domains import remote_connection
from tests.domains import example_server
from tests.domains import served_robot


class ServedRobotTest(parameterized.TestCase):

  @parameterized.parameters(signal.SIGINT, signal.SIGTERM)
  def test_a_signal_closes_the_robot_of_a_client(self, number):
    calls = pathlib.Path(self.create_tempdir().full_path, 'calls')
    with mock.patch.dict(os.environ, {served_robot.FILE: str(calls)}):
      server = example_server.ExampleServer(served_robot.ID, 'served_robot')
    self.addCleanup(server.kill)
    connection = remote_connection.connect(
        server.address, {}, deadline_seconds=5.0, reconnect_seconds=15.0
    )
    connection.reset({})
    connection.step({'action': np.zeros([1], np.float32)})

    server.interrupt(number)

    self.assertEqual(
        calls.read_text().split(), ['stop_robot', 'step', 'close']
    )
    with self.assertRaises(ConnectionError):
      connection.step({'action': np.zeros([1], np.float32)})


if __name__ == '__main__':
  absltest.main()
