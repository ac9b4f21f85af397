"""Tests of the link and the episode count that the fault drill relies on."""

import os
import socket
from unittest import mock

from absl.testing import absltest
import numpy as np

from benchmarks import counted_domain
from benchmarks import cut_link
from parl_tf.domains import pointmaze


class CutLinkTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._server = socket.create_server(('localhost', 0))
    self.addCleanup(self._server.close)
    self._link = cut_link.CutLink(self._server.getsockname()[1])
    self.addCleanup(self._link.close)

  def _connect(self):
    near = socket.create_connection(('localhost', self._link.port), timeout=5.0)
    far, _ = self._server.accept()
    self.addCleanup(near.close)
    self.addCleanup(far.close)
    return near, far

  def test_delayed_data_arrives_after_the_link_is_restored(self):
    near, far = self._connect()
    near.sendall(b'before')
    self.assertEqual(far.recv(100), b'before')
    self._link.cut()
    near.sendall(b'during')
    far.settimeout(0.2)
    with self.assertRaises(TimeoutError):
      far.recv(100)

    self._link.restore()

    far.settimeout(5.0)
    self.assertEqual(far.recv(100), b'during')

  def test_closing_one_side_closes_the_other(self):
    near, far = self._connect()
    far.close()
    self.assertEqual(near.recv(100), b'')

  def test_new_connections_wait_until_the_link_is_restored(self):
    self._link.cut()
    near = socket.create_connection(('localhost', self._link.port), timeout=5.0)
    self.addCleanup(near.close)
    near.sendall(b'new')
    self._server.settimeout(0.2)
    with self.assertRaises(TimeoutError):
      self._server.accept()

    self._link.restore()

    self._server.settimeout(5.0)
    far, _ = self._server.accept()
    self.addCleanup(far.close)
    self.assertEqual(far.recv(100), b'new')


class CountedDomainTest(absltest.TestCase):

  def test_collected_episodes_are_counted_in_the_environment(self):
    path = os.path.join(self.create_tempdir().full_path, 'finished.txt')
    with mock.patch.dict(os.environ, {counted_domain.FILE_VARIABLE: path}):
      domain = counted_domain.counted_domain(
          pointmaze.PointMaze(
              size='UMaze', min_start_distance=2, max_episode_steps=3
          )
      )
    for evaluation in (False, True):
      environment = domain.make_environment(0, evaluation=evaluation)
      for _ in range(2):
        environment.reset()
        for _ in range(3):
          environment.step(np.zeros([2], np.float32))

    with open(path, encoding='utf-8') as file:
      self.assertEqual(file.read(), '3\n3\n')


if __name__ == '__main__':
  absltest.main()
