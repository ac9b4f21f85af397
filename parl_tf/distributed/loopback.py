"""Restricts a listening port of this process to this machine."""

import os
import socket
import stat


def restrict(port: int) -> None:
  """Makes a port that this process listens on unreachable from elsewhere.

  Reverb listens on every interface and has no option. So its socket is bound
  to the loopback device after the fact, which Linux allows without privileges.

  Args:
    port: TCP port that this process listens on.

  Raises:
    OSError: If it listens on no such port, or the kernel refuses.
  """
  found = False
  for name in os.listdir('/proc/self/fd'):
    descriptor = int(name)
    try:
      if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        continue
    except OSError:  # The descriptor of the listing itself is closed by now.
      continue
    with socket.socket(fileno=os.dup(descriptor)) as candidate:
      if _listens_on(candidate, port):
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')
        found = True
  if not found:
    raise OSError(f'This process must listen on port {port}, but does not.')


def _listens_on(candidate: socket.socket, port: int) -> bool:
  if candidate.family not in (socket.AF_INET, socket.AF_INET6):
    return False
  if not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
    return False
  return candidate.getsockname()[1] == port
