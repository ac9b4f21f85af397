"""Serves `calvin_table` on loopback for the tests of a class."""

import contextlib
import os
import socket
import subprocess
import sys

from tests.binaries import tiny

_PROGRAM = tiny.ROOT / 'examples' / 'remote_environment' / 'server.py'


def serve(test_class) -> None:
  """Serves a table until the tests of the class end; sets `address`."""
  with contextlib.closing(socket.socket()) as found:
    found.bind(('127.0.0.1', 0))
    port = found.getsockname()[1]
  process = subprocess.Popen(
      [sys.executable, str(_PROGRAM), '--module=calvin_table',
       '--environment=Calvin-v0', f'--port={port}'],
      env={**os.environ, 'PYTHONPATH': str(tiny.ROOT / 'tests' / 'domains')},
      stdout=subprocess.PIPE,
      text=True,
  )
  test_class.addClassCleanup(process.stdout.close)
  test_class.addClassCleanup(process.wait)
  test_class.addClassCleanup(process.kill)
  assert 'is served at' in process.stdout.readline()
  test_class.address = f'127.0.0.1:{port}'
