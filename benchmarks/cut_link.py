"""A TCP relay on loopback that can be cut, as a network link can."""

import socket
import threading

_BLOCK = 65_536  # bytes


class CutLink:
  """Relays connections to a port, until it is cut, and after it is mended.

  While it is cut nothing is forwarded and nobody is told: connections stay, and
  new ones are accepted, in silence.

  Attributes:
    port: Port that it listens on.
  """

  def __init__(self, target_port: int):
    """Starts relaying.

    Args:
      target_port: Port of this machine; nothing need listen there yet.
    """
    self._target_port = target_port
    self._is_whole = threading.Event()
    self._is_whole.set()
    self._listener = socket.create_server(('localhost', 0))
    self.port = self._listener.getsockname()[1]
    _start(self._accept)

  def cut(self) -> None:
    """Forwards nothing from now on."""
    self._is_whole.clear()

  def mend(self) -> None:
    """Forwards again, first what was held back."""
    self._is_whole.set()

  def close(self) -> None:
    """Takes no further connections."""
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
    """Forwards one direction, until one of the ends is closed."""
    try:
      while block := source.recv(_BLOCK):
        self._is_whole.wait()
        sink.sendall(block)
    except OSError:  # An end was killed: the other learns of it below.
      pass
    finally:
      for end in (source, sink):
        try:
          end.shutdown(socket.SHUT_RDWR)
        except OSError:  # Closed already, by the other direction.
          pass
        end.close()


def _start(function, *arguments):
  threading.Thread(target=function, args=arguments, daemon=True).start()
