"""Tests that a port is reachable from this machine only."""

import socket

from absl.testing import absltest

from parl_tf.replay import loopback


class LoopbackTest(absltest.TestCase):

  def _listen(self):
    listener = socket.create_server(('0.0.0.0', 0))
    self.addCleanup(listener.close)
    return listener, listener.getsockname()[1]

  def test_socket_is_bound_to_the_loopback_device(self):
    listener, port = self._listen()

    loopback.restrict(port)

    device = listener.getsockopt(
        socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16
    )
    self.assertEqual(device.rstrip(b'\0'), b'lo')
    socket.create_connection(('127.0.0.1', port), timeout=5.0).close()

  def test_other_sockets_are_not_restricted(self):
    other, _ = self._listen()
    _, port = self._listen()

    loopback.restrict(port)

    device = other.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    self.assertEqual(device.rstrip(b'\0'), b'')

  def test_port_that_nothing_listens_on_is_an_error(self):
    listener, port = self._listen()
    listener.close()

    with self.assertRaisesRegex(OSError, f'port {port}'):
      loopback.restrict(port)


if __name__ == '__main__':
  absltest.main()
