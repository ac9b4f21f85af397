"""Restricts a listening port of this process to this machine."""

import os
import socket
import stat


def restrict(port: int) -> None:
  """Makes a listening port of this process unreachable from other machines.

  Reverb listens on every interface and has no option to change that. This
  function binds the listening socket to the loopback device, which Linux allows
  without privileges from version 5.7 on.

  Args:
    port: TCP port that this process listens on.

  Raises:
    OSError: If the process does not listen on the port, or the kernel refuses,
      as before Linux 5.7.
  """
  found = False
  for name in os.listdir('/proc/self/fd'):
    descriptor = int(name)
    try:
      if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        continue
    except OSError:  # The descriptor that listed the directory is closed.
      continue
    with socket.socket(fileno=os.dup(descriptor)) as candidate:
      if _listens_on(candidate, port):
        _bind_to_loopback(candidate)
        found = True
  if not found:
    raise OSError(f'This process must listen on port {port}, but does not.')


def _bind_to_loopback(candidate: socket.socket) -> None:
  try:
    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')
  except PermissionError as error:
    raise PermissionError(
        error.errno,
        'A replay server that only this machine can reach needs Linux 5.7 or'
        ' privileges',
    ) from error


def _listens_on(candidate: socket.socket, port: int) -> bool:
  if candidate.family not in (socket.AF_INET, socket.AF_INET6):
    return False
  if not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
    return False
  return candidate.getsockname()[1] == port
