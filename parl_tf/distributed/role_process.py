"""A role as a child process."""

import ctypes
import os
import signal
import subprocess
import tempfile
from typing import Mapping, Optional, Sequence, Tuple

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # <linux/falloc.h>
_BLOCK = 4096  # Bytes of a file's block; less is not freed.
_STOP_SECONDS = 20.0


class RoleProcess:
  """A process that ends with its parent; its output goes to a file."""

  def __init__(
      self,
      command: Sequence[str],
      environment: Optional[Mapping[str, str]] = None,
      directory: Optional[str] = None,
  ):
    """Starts the process.

    Args:
      command: Program and arguments.
      environment: Additional environment variables.
      directory: Working directory, if it exists on this machine.
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
    """Returns the process id on its machine."""
    return self._process.pid

  def poll(self) -> Optional[int]:
    """Returns the exit status, or None while the process runs."""
    return self._process.poll()

  def observe(self, start: int) -> Tuple[Optional[int], bytes]:
    """Returns `poll` and `read`, with all output of an ended process."""
    status = self.poll()
    return status, self.read(start)

  def read(self, start: int) -> bytes:
    """Returns the output from byte `start` on, and frees what was before."""
    file = self._output.fileno()
    if start >= _BLOCK:
      # Otherwise months of output would fill the disk. Where the file system
      # cannot do this, the file grows.
      ctypes.CDLL(None).fallocate(
          file,
          _KEEP_SIZE | _PUNCH_HOLE,
          ctypes.c_longlong(0),
          ctypes.c_longlong(start),
      )
    return os.pread(file, os.fstat(file).st_size - start, start)

  def stop(self) -> None:
    """Ends the process with SIGTERM, or with SIGKILL if it does not exit."""
    if self._process.poll() is None:
      self._process.terminate()
      try:
        self._process.wait(_STOP_SECONDS)
      except subprocess.TimeoutExpired:
        self._process.kill()
        self._process.wait()


def _end_with_parent():
  # Not SIGKILL, on which a role could not stop the machine that it moves.
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
