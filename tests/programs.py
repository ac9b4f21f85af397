"""Programs that start without importing TensorFlow again.

The import takes four seconds, as long as a whole test. So the programs that
tests start are forks of a process that has imported it, but none of the
modules of this library that programs need. Tests of what happens at a start,
such as messages and imports, start a new Python instead.
"""

import atexit
import functools
import itertools
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Mapping, Optional

ROOT = pathlib.Path(__file__).resolve().parents[1]
_SECONDS = 0.01  # Between two looks for an exit status.


class Program:
  """A process that runs a module, with the methods of `subprocess.Popen`.

  Attributes:
    pid: Process id.
  """

  def __init__(
      self,
      module: str,
      *arguments: str,
      output: str,
      folder: str = str(ROOT),
      environment: Optional[Mapping[str, str]] = None,
  ):
    """Starts `python -m module arguments`.

    Args:
      module: Name of the module.
      *arguments: Arguments of the program.
      output: File to which its standard output and error are appended.
      folder: Working directory.
      environment: Variables that differ from those of this process.
    """
    server, statuses, numbers = _server()
    self._status = pathlib.Path(statuses, f'{next(numbers)}.status')
    request = dict(
        module=module,
        arguments=arguments,
        output=os.path.abspath(output),
        folder=folder,
        environment={**os.environ, **(environment or {})},
        status=str(self._status),
    )
    server.stdin.write(json.dumps(request) + '\n')
    server.stdin.flush()
    self.pid = int(server.stdout.readline())

  def poll(self) -> Optional[int]:
    """Returns the exit status, or None while the program runs."""
    return int(self._status.read_text()) if self._status.exists() else None

  def wait(self, timeout: float = math.inf) -> int:
    """Returns the exit status once the program has ended.

    Args:
      timeout: Seconds.

    Raises:
      subprocess.TimeoutExpired: If it runs for longer.
    """
    deadline = time.monotonic() + timeout
    while self.poll() is None:
      if time.monotonic() > deadline:
        raise subprocess.TimeoutExpired(str(self.pid), timeout)
      time.sleep(_SECONDS)
    return self.poll()

  def send_signal(self, number: int) -> None:
    """Sends a signal, unless the program has ended."""
    if self.poll() is None:
      os.kill(self.pid, number)

  def terminate(self) -> None:
    """Sends SIGTERM."""
    self.send_signal(signal.SIGTERM)

  def kill(self) -> None:
    """Sends SIGKILL."""
    self.send_signal(signal.SIGKILL)


def run(module: str, *arguments: str, folder: str = str(ROOT)) -> str:
  """Runs `python -m module arguments` to its end.

  Args:
    module: Name of the module.
    *arguments: Arguments of the program.
    folder: Working directory.

  Returns:
    Its standard output and error.

  Raises:
    AssertionError: If it fails.
  """
  with tempfile.NamedTemporaryFile('r', encoding='utf-8') as log:
    program = Program(module, *arguments, output=log.name, folder=folder)
    status = program.wait()
    output = log.read()
  if status:
    raise AssertionError(f'{module} ended with {status}:\n{output}')
  return output


@functools.lru_cache(maxsize=None)
def _server():
  """Returns the server's process, a folder for statuses, and numbers."""
  folder = tempfile.TemporaryDirectory(prefix='programs_')
  process = subprocess.Popen(
      [sys.executable, '-m', 'tests.program_server'],
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
  )

  def stop():
    process.stdin.close()
    process.wait()
    folder.cleanup()

  atexit.register(stop)
  return process, folder.name, itertools.count()
