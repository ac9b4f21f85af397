"""Tests sending to a server that has stopped reading."""

from concurrent import futures
import socket
import threading
import time

from absl.testing import absltest
import numpy as np
from websockets.sync import server as websocket_server

from parl_tf.serving import client as client_lib
from parl_tf.serving import messages
from tests.serving import toy_policy

_BYTES = 16 * 2**20  # More than the buffers of a connection hold.
_EXTENSION = dict(
    toy_policy.SPEC.to_message(), protocol=1, version='x', max_bytes=2**30
)


class SendDeadlineTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.is_over = threading.Event()

  def _connect(self, converse, **options):
    """Returns a client of a server, which answers until `is_over` is set."""
    server = self.enter_context(
        websocket_server.serve(
            converse, '127.0.0.1', 0, compression=None, close_timeout=0.1
        )
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    self.addCleanup(thread.join)
    self.addCleanup(server.shutdown)
    self.addCleanup(self.is_over.set)
    return client_lib.PolicyClient(
        f'127.0.0.1:{server.socket.getsockname()[1]}', **options
    )

  def _stop_reading(self, connection):
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    connection.send(messages.pack({'parl': _EXTENSION}))
    # The thread that reads waits, as in a process that was stopped.
    connection.protocol.receive_data = lambda data: self.is_over.wait()
    self.is_over.wait()

  def _error(self, client, num_bytes=_BYTES):
    """Returns the error of a call, and its seconds."""
    start = time.monotonic()
    with futures.ThreadPoolExecutor(1) as executor:
      sending = executor.submit(
          client.infer, {'state': np.zeros(num_bytes, np.uint8)}
      )
      try:
        error = sending.exception(timeout=5.0)
      except TimeoutError:
        self.fail('The client sends for ever.')
      finally:
        seconds = time.monotonic() - start
        self.is_over.set()
    return error, seconds

  def test_sending_ends_if_the_server_reads_no_more(self):
    client = self._connect(self._stop_reading, silence_seconds=0.1)
    error, _ = self._error(client)
    self.assertIsInstance(error, ConnectionError)
    self.assertRegex(str(error), 'closed the connection during `infer` twice')

  def test_sending_ends_at_the_deadline_of_the_call(self):
    client = self._connect(self._stop_reading, call_seconds=0.1)
    error, seconds = self._error(client)
    self.assertIsInstance(error, TimeoutError)
    self.assertRegex(str(error), 'did not answer `infer` within 0.1 s')
    self.assertLess(seconds, 1.0)

  def test_reconnecting_ends_at_the_deadline_of_the_call(self):
    connections = []

    def converse(connection):
      connections.append(connection)
      if len(connections) > 1:
        self.is_over.wait()  # Sends no metadata.
        return
      connection.send(messages.pack({'parl': _EXTENSION}))
      connection.recv()

    client = self._connect(converse, patience_seconds=0.4, call_seconds=0.8)
    error, seconds = self._error(client, num_bytes=1)
    self.assertLen(connections, 2)
    self.assertIsInstance(error, ConnectionError)
    self.assertRegex(str(error), r'server answered at .* within 0\.\d+ s')
    self.assertLess(seconds, 2.0)


if __name__ == '__main__':
  absltest.main()
