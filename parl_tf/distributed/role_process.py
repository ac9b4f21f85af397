"""A role as a process, on whatever machine this runs."""

import ctypes
import os
import signal
import subprocess
import tempfile
from typing import Mapping, Optional, Sequence, Tuple

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_STOP_SECONDS = 20.0


class RoleProcess:
  """One process, its output in a file; it ends when its parent does."""

  def __init__(
      self,
      command: Sequence[str],
      environment: Optional[Mapping[str, str]] = None,
      directory: Optional[str] = None,
  ):
    """Starts the process.

    Args:
      command: Program and arguments.
      environment: Variables beside those of this process.
      directory: Where it stands, if this machine has such a one.
    """
    self._output = tempfile.TemporaryFile()
    self._process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        cwd=directory if directory and os.path.isdir(directory) else None,
        stdin=subprocess.DEVNULL,
        stdout=self._output,
        stderr=subprocess.STDOUT,
        preexec_fn=_end_with_parent,
    )

  def pid(self) -> int:
    """Returns the number of the process on its machine."""
    return self._process.pid

  def poll(self) -> Optional[int]:
    """Returns its exit status, None while it runs."""
    return self._process.poll()

  def observe(self, start: int) -> Tuple[Optional[int], bytes]:
    """Returns what `poll` and `read` do, of an ended process all of it."""
    status = self.poll()
    return status, self.read(start)

  def read(self, start: int) -> bytes:
    """Returns what it has printed from byte `start` on."""
    size = os.fstat(self._output.fileno()).st_size
    return os.pread(self._output.fileno(), size - start, start)

  def stop(self) -> None:
    """Ends it by SIGTERM, or by force where that does not help."""
    if self._process.poll() is None:
      self._process.terminate()
      try:
        self._process.wait(_STOP_SECONDS)
      except subprocess.TimeoutExpired:
        self._process.kill()
        self._process.wait()


def _end_with_parent():
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
