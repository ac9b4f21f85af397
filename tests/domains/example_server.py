"""Runs the example's server of environments in another process."""

import os
import random
import signal
import socket
import subprocess
import sys
from typing import Optional

from tests.binaries import tiny

_PROGRAM = tiny.ROOT / 'examples' / 'remote_environment' / 'server.py'
_FOLDER = tiny.ROOT / 'tests' / 'domains'


class ExampleServer:
  """A server on loopback.

  It takes a second to start, so one server should serve all tests of a file.

  Attributes:
    address: `host:port`.
  """

  def __init__(self, environment: str, module: Optional[str] = None):
    """Starts the server.

    Args:
      environment: Id in gymnasium.
      module: Module in this directory that registers the environment.
    """
    self._port = free_port()
    self.address = f'127.0.0.1:{self._port}'
    self._options = [f'--environment={environment}']
    if module is not None:
      self._options.append(f'--module={module}')
    self.start()

  def start(self) -> None:
    """Restarts the server on its port after `kill`."""
    self._process = subprocess.Popen(
        [
            sys.executable,
            str(_PROGRAM),
            f'--port={self._port}',
            *self._options,
        ],
        env={**os.environ, 'PYTHONPATH': str(_FOLDER)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert 'is served at' in self._process.stdout.readline()

  def stop(self) -> None:
    """Stops the server's process, and returns once it no longer runs."""
    self._process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

  def resume(self) -> None:
    """Lets a stopped server run on."""
    self._process.send_signal(signal.SIGCONT)

  def interrupt(self, number: int) -> None:
    """Sends a signal, and returns once the server has ended."""
    self._process.send_signal(number)
    self._process.wait(timeout=60.0)

  def kill(self) -> None:
    """Ends the server."""
    self._process.kill()
    self._process.wait()
    self._process.stdout.close()


def free_port() -> int:
  """Returns a port that nothing listens on."""
  # Below the system's ephemeral ports, of which another process may get one
  # before a server listens on it.
  while True:
    port = random.SystemRandom().randrange(20_000, 30_000)
    try:
      with socket.create_server(('127.0.0.1', port)):
        return port
    except OSError:
      continue
