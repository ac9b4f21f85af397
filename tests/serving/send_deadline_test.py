"""Tests sending to a server that has stopped reading."""

from concurrent import futures
import socket
import threading

from absl.testing import absltest
import numpy as np
from websockets.sync import server as websocket_server

from parl_tf.serving import client as client_lib
from parl_tf.serving import messages
from tests.serving import toy_policy

_BYTES = 16 * 2**20  # More than the buffers of a connection hold.


class SendDeadlineTest(absltest.TestCase):

  def test_sending_ends_if_the_server_reads_no_more(self):
    extension = dict(
        toy_policy.SPEC.to_message(), protocol=1, version='x', max_bytes=2**30
    )
    is_over = threading.Event()

    def converse(connection):
      connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
      connection.send(messages.pack({'parl': extension}))
      # The thread that reads waits, as in a process that was stopped.
      connection.protocol.receive_data = lambda data: is_over.wait()
      is_over.wait()

    server = self.enter_context(
        websocket_server.serve(
            converse, '127.0.0.1', 0, compression=None, close_timeout=0.1
        )
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    self.addCleanup(thread.join)
    self.addCleanup(server.shutdown)
    client = client_lib.PolicyClient(
        f'127.0.0.1:{server.socket.getsockname()[1]}', silence_seconds=0.1
    )
    with futures.ThreadPoolExecutor(1) as executor:
      self.addCleanup(is_over.set)
      sending = executor.submit(
          client.infer, {'state': np.zeros(_BYTES, np.uint8)}
      )
      error = None
      try:
        error = sending.exception(timeout=5.0)
      except TimeoutError:
        self.fail('The client sends for ever.')
      finally:
        is_over.set()
    self.assertIsInstance(error, ConnectionError)
    self.assertRegex(str(error), 'closed the connection during `infer` twice')


if __name__ == '__main__':
  absltest.main()
