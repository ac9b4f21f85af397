"""A TCP relay on loopback that can be interrupted like a network link."""

import socket
import threading
import time

_BLOCK = 65_536  # bytes


class CutLink:
  """Relays connections to a port, and can be interrupted.

  While it is cut, it forwards nothing and reports no error: connections stay
  open, and new ones are accepted silently.

  Attributes:
    port: Port to connect to.
    seconds_per_block: How long it waits after each block of 64 KiB.
  """

  seconds_per_block = 0.0

  def __init__(self, target_port: int):
    """Starts relaying.

    Args:
      target_port: Port on this machine; a server need not listen on it yet.
    """
    self._target_port = target_port
    self._is_whole = threading.Event()
    self._is_whole.set()
    self._listener = socket.create_server(('localhost', 0))
    self.port = self._listener.getsockname()[1]
    _start(self._accept)

  def cut(self) -> None:
    """Stops forwarding."""
    self._is_whole.clear()

  def restore(self) -> None:
    """Resumes forwarding, starting with the delayed data."""
    self._is_whole.set()

  def close(self) -> None:
    """Stops accepting connections."""
    # `close` would not wake the waiting thread.
    self._listener.shutdown(socket.SHUT_RDWR)
    self._listener.close()

  def _accept(self):
    while True:
      try:
        near, _ = self._listener.accept()
      except OSError:  # Closed.
        return
      self._is_whole.wait()
      try:
        far = socket.create_connection(('localhost', self._target_port))
      except ConnectionRefusedError:
        near.close()
        continue
      _start(self._pump, near, far)
      _start(self._pump, far, near)

  def _pump(self, source, sink):
    """Forwards one direction until one end is closed."""
    try:
      while block := source.recv(_BLOCK):
        self._is_whole.wait()
        sink.sendall(block)
        time.sleep(self.seconds_per_block * len(block) / _BLOCK)
    except OSError:  # One end was killed; the other is notified below.
      pass
    finally:
      for end in (source, sink):
        try:
          end.shutdown(socket.SHUT_RDWR)
        except OSError:  # The other direction has already closed it.
          pass
        end.close()


def _start(function, *arguments):
  threading.Thread(target=function, args=arguments, daemon=True).start()
