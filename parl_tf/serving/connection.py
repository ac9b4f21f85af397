"""A client's connection to a policy server, with deadlines and logged waits."""

import contextlib
import logging
import math
import re
import socket as socket_lib
import struct
import threading
import time
from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple, Union

from websockets import exceptions
from websockets.sync import client as websocket_client
from websockets.sync import connection as websocket_connection

from parl_tf.serving import messages

_RETRY_SECONDS = 0.2
_REPORT_SECONDS = 10.0
_PING_SECONDS = 2.0
_CLOSE_SECONDS = 1.0
# A late answer is noticed before its connection is cut.
_CUT_SECONDS = 0.02
# The empty buffer of a socket holds this message, whose call needs no timer.
_BUFFERED_BYTES = 8_192
_LEAST_SECONDS = 1e-3
_LIBRARY = re.compile(r'/(site|dist)-packages/|/lib/python3')
_PLACE = re.compile(r'File "(?P<path>.+)", line (?P<line>\d+), in .+')
_TOO_BIG = 1009  # Close code of a message that exceeds the other side's limit.


class PolicyServerError(RuntimeError):
  """An error raised by the policy; its cause is the server's traceback."""


class ServerTraceback(Exception):  # pylint: disable=g-bad-exception-name
  """The traceback of an error, as the server sent it."""


class Connection:
  """Sends messages to one policy server and receives the answers.

  Reconnects when the connection breaks.

  Attributes:
    address: The server's `ws://host:port`.
    metadata: The server's metadata at the latest connection.
  """

  def __init__(
      self,
      address: str,
      *,
      api_key: Optional[str],
      patience_seconds: float,
      silence_seconds: float,
      max_bytes: int,
  ):
    """Connects.

    Args:
      address: `host:port`, or a URL that begins with ws:// or wss://.
      api_key: Key of the server, or None.
      patience_seconds: Seconds to wait for a server that does not answer.
      silence_seconds: Seconds without an answer to a ping after which a server
        with our extension counts as dead. Others cannot answer pings during
        inference.
      max_bytes: Maximum size of a received message, in bytes.

    Raises:
      ConnectionError: If no server answers in time.
      PermissionError: If the server refuses the key.
    """
    is_url = address.startswith(('ws://', 'wss://'))
    self.address = address if is_url else f'ws://{address}'
    self.metadata: Mapping[str, Any] = {}
    self._api_key = api_key
    self._patience_seconds = patience_seconds
    self._silence_seconds = silence_seconds
    self._max_bytes = max_bytes
    self._socket: Optional[websocket_connection.Connection] = None
    self._stack = contextlib.ExitStack()
    self._connect()

  def ask(self, message: bytes, name: str, seconds: Optional[float]) -> Any:
    """Sends a message and returns the unpacked answer.

    If the connection breaks, reconnects and sends the message once more: every
    call of the protocol is safe to repeat.

    Args:
      message: Packed message.
      name: Name of the call, for errors and logs.
      seconds: Deadline in seconds of sending and answer, both times together;
        None waits as long as the server is alive. Reconnecting counts too,
        unless `patience_seconds` is at least as long: it is then added.

    Raises:
      ConnectionError: If no server answers.
      PermissionError: If the server refuses the key when reconnecting.
      PolicyServerError: If the policy raised an error.
      TimeoutError: If the deadline passes.
      ValueError: If the message is too large for the server, or the answer is
        malformed.
    """
    deadline = time.monotonic() + (math.inf if seconds is None else seconds)
    is_repeated = False
    while True:
      socket = self._socket
      if socket is None:
        socket, waited = self._reconnect(seconds, deadline)
        deadline += waited
      try:
        with _cut_at(deadline, socket, len(message)):
          socket.send(message)
          answer = self._receive(socket, name, seconds, deadline)
        break
      except (exceptions.ConnectionClosed, ConnectionError) as error:
        self._drop(socket)
        if _is_too_big(error):
          raise ValueError(
              f'{self.address} refused `{name}`: {len(message)} bytes are too '
              'many for a message.'
          ) from error
        if time.monotonic() >= deadline:
          raise self._late(name, seconds) from error
        if is_repeated:
          raise ConnectionError(
              f'The policy server at {self.address} closed the connection '
              f'during `{name}` twice: {error}'
          ) from error
        is_repeated = True
        logging.warning(
            'The connection to %s broke during `%s` (%s): reconnecting.',
            self.address, name, error,
        )
      except BaseException:
        # After a deadline or Ctrl-C, a late answer would be taken for that of
        # the next call.
        self._drop(socket)
        raise
    if isinstance(answer, str):
      lines = answer.strip().splitlines() or ['no message']
      raise PolicyServerError(
          f'The policy server at {self.address} reports an error in `{name}`: '
          f'{lines[-1]}{_place(lines)}'
      ) from ServerTraceback(f'\n{answer}')
    return messages.unpack(answer)

  def close(self) -> None:
    """Closes the connection; the next message opens another one."""
    self._socket = None
    self._stack.close()

  def _drop(self, socket: websocket_connection.Connection) -> None:
    """Closes the connection without waiting for a server that may be dead."""
    socket.close_socket()
    self.close()

  def _receive(
      self,
      socket: websocket_connection.Connection,
      name: str,
      seconds: Optional[float],
      deadline: float,
  ) -> Union[str, bytes]:
    """Waits for an answer, and pings a server with our extension meanwhile."""
    heard = time.monotonic()
    interval = min(_PING_SECONDS, self._silence_seconds / 3.0)
    pong = None
    while True:
      left = deadline - time.monotonic()
      try:
        return socket.recv(timeout=max(0.0, min(left, interval)))
      except TimeoutError:
        now = time.monotonic()
      if now >= deadline:
        raise self._late(name, seconds)
      if 'parl' not in self.metadata:
        continue
      if pong is None or pong.is_set():
        heard = now if pong is not None else heard
        pong = socket.ping()
      elif now - heard >= self._silence_seconds:
        raise ConnectionError(f'no answer to pings for {now - heard:.0f} s')

  def _late(self, name: str, seconds: Optional[float]) -> TimeoutError:
    return TimeoutError(
        f'The policy server at {self.address} did not answer `{name}` within '
        f'{seconds} s.'
    )

  def _reconnect(
      self, seconds: Optional[float], deadline: float
  ) -> Tuple[websocket_connection.Connection, float]:
    """Connects for a call; returns the time by which that delays its deadline.

    Args:
      seconds: Deadline in seconds of the call, or None.
      deadline: When the call must end.
    """
    start = time.monotonic()
    if seconds is None:
      return self._connect(), 0.0
    if self._patience_seconds < seconds:
      return self._connect(deadline - start), 0.0
    # Waiting for a server to restart would leave no time for its answer.
    return self._connect(self._patience_seconds), time.monotonic() - start

  def _connect(
      self, seconds: Optional[float] = None
  ) -> websocket_connection.Connection:
    """Connects, and waits for the server if it does not answer.

    Args:
      seconds: Deadline in seconds within `patience_seconds`, including the
        metadata; None lets an attempt that has begun go on.
    """
    start = time.monotonic()
    patience = min(
        self._patience_seconds, math.inf if seconds is None else seconds
    )
    reported_at = None
    while True:
      try:
        if seconds is None:
          socket = self._open(patience, max(patience, _PING_SECONDS))
        else:
          left = start + patience - time.monotonic()
          socket = self._open(max(left, _LEAST_SECONDS), 0.0)
        break
      except (OSError, EOFError, exceptions.WebSocketException) as error:
        if isinstance(error, exceptions.InvalidStatus) and (
            error.response.status_code in (401, 403)
        ):
          raise PermissionError(
              f'The policy server at {self.address} refused the API key.'
          ) from error
        now = time.monotonic()
        if now - start >= patience:
          raise ConnectionError(
              f'No policy server answered at {self.address} within '
              f'{round(patience, 3):g} s: {error}. Is it started, and is '
              'this its port?'
          ) from error
        if reported_at is None or now - reported_at >= _REPORT_SECONDS:
          logging.warning(
              'Waiting for the policy server at %s (up to %g s): %s',
              self.address, round(patience, 3), error,
          )
          reported_at = now
      time.sleep(min(_RETRY_SECONDS, patience / 4.0))
    if reported_at is not None:
      logging.info(
          'Connected to %s after %.1f s.',
          self.address,
          time.monotonic() - start,
      )
    return socket

  def _open(
      self, seconds: float, metadata_seconds: float
  ) -> websocket_connection.Connection:
    """Opens a connection and receives the metadata.

    Args:
      seconds: Deadline in seconds.
      metadata_seconds: Least time in seconds to wait for the metadata.
    """
    start = time.monotonic()
    headers = {}
    if self._api_key is not None:
      headers['Authorization'] = f'Api-Key {self._api_key}'
    stack = contextlib.ExitStack()
    socket = stack.enter_context(websocket_client.connect(
        self.address,
        compression=None,
        additional_headers=headers,
        max_size=self._max_bytes,
        open_timeout=seconds,
        close_timeout=_CLOSE_SECONDS,
        # An openpi server does not answer pings during inference.
        ping_interval=None,
        proxy=None,
    ))
    with stack:  # Closes the socket if the metadata is invalid.
      left = start + seconds - time.monotonic()
      try:
        message = socket.recv(timeout=max(left, metadata_seconds, 0.0))
      except TimeoutError:
        socket.close_socket()  # Without waiting for an answer to that, too.
        raise
      metadata = messages.unpack(message)
      if not isinstance(metadata, dict):
        raise messages.MessageError(
            f'The metadata of {self.address} must be a map, got {metadata!r}.'
        )
      # Or a server that stops reading would block a large message for ever.
      fraction, whole = math.modf(self._silence_seconds)
      socket.socket.setsockopt(
          socket_lib.SOL_SOCKET,
          socket_lib.SO_SNDTIMEO,
          struct.pack('ll', int(whole), int(1e6 * fraction)),
      )
      self._socket, self.metadata = socket, metadata
      self._stack = stack.pop_all()
    return socket


@contextlib.contextmanager
def _cut_at(
    deadline: float, socket: websocket_connection.Connection, num_bytes: int
) -> Iterator[None]:
  """Cuts a connection at a deadline, if sending and receiving last longer.

  The socket's own timeouts are for single system calls, of which a long message
  needs many, or also for the thread that receives.

  Args:
    deadline: When, in seconds of the monotonic clock.
    socket: The connection.
    num_bytes: Size of the message.
  """
  if deadline == math.inf or num_bytes <= _BUFFERED_BYTES:
    yield
    return
  timer = threading.Timer(
      max(0.0, deadline - time.monotonic()) + _CUT_SECONDS, _shut, [socket]
  )
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _shut(socket: websocket_connection.Connection) -> None:
  """Makes the calls that use a socket fail, also those of other threads."""
  with contextlib.suppress(OSError):  # It is already closed.
    # The method of TLS sockets would send the rest of a message as plain text.
    socket_lib.socket.shutdown(socket.socket, socket_lib.SHUT_RDWR)


def _is_too_big(error: Exception) -> bool:
  received = getattr(error, 'rcvd', None)
  return received is not None and received.code == _TOO_BIG


def _place(lines: Sequence[str]) -> str:
  """Returns where an author's code raised an error, or '' if it did not.

  Args:
    lines: Of the server's traceback.
  """
  places = [x for line in lines if (x := _PLACE.fullmatch(line.strip()))]
  for place in reversed(places):
    if '/parl_tf/serving/' in place['path']:
      break
    if not _LIBRARY.search(place['path']):
      return f' ({place["path"]}, line {place["line"]})'
  return ''
