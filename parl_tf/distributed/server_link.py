"""A connection to a replay server with deadlines and logged waits.

While a server is unavailable, most calls of Reverb block silently and without
limit; only `server_info` and `flush` take a deadline. This link first checks
that the server answers, abandons any other call after a time limit, and logs
what it waits for and since when.
"""

from concurrent import futures
import contextlib
import threading
import time
from typing import (
    Any,
    Callable,
    ContextManager,
    Iterator,
    Mapping,
    Optional,
    TypeVar,
)

from absl import logging

from parl_tf import interruption
from parl_tf.replay.reverb_import import reverb

DEADLINE_SECONDS = 4
"""A server counts as unavailable after this many seconds without an answer."""

_POLL_SECONDS = 0.1
_FIRST_REPORT_SECONDS = 5.0
_REPORT_SECONDS = 30.0
_EMPTY = 'no data yet'

_T = TypeVar('_T')


class SlowAnswerError(ConnectionError):
  """The server is up, but a request took longer than its deadline."""


class ServerLink:
  """Queries one replay server and waits while it is unavailable.

  Attributes:
    address: `host:port` of the server.
    client: Reverb client of the server, for calls that take a deadline.
  """

  def __init__(self, address: str):
    """Initializes the link; sends no request.

    Raises:
      ValueError: If the address has no port.
    """
    host, _, port = address.rpartition(':')
    if not host or not port.isdecimal():
      raise ValueError(
          f'The address of a replay server must be host:port, got {address!r}.'
      )
    self.address = address
    self.client = reverb.Client(address)

  def tables(self) -> Mapping[str, Any]:
    """Returns Reverb's `TableInfo` of each table.

    Raises:
      ConnectionError: If the server does not answer in time.
    """
    try:
      return self.client.server_info(timeout=DEADLINE_SECONDS)
    except (reverb.errors.ReverbError, RuntimeError) as error:
      raise ConnectionError(
          f'The replay server at {self.address} does not answer: {error}'
      ) from error

  def table(self, table: str) -> Any:
    """Returns Reverb's `TableInfo` of `table`.

    Raises:
      ConnectionError: If the server does not answer in time.
      ValueError: If the server has no such table.
    """
    tables = self.tables()
    if table not in tables:
      raise ValueError(
          f'The replay server at {self.address} must have a table {table!r}, '
          f'got {sorted(tables)}.'
      )
    return tables[table]

  def size(self, table: str) -> int:
    """Returns the number of items in `table`; raises as `table` does."""
    return self.table(table).current_size

  def call(
      self,
      table: str,
      function: Callable[[], _T],
      seconds: float = DEADLINE_SECONDS,
  ) -> _T:
    """Calls a function that takes no deadline, and returns its result.

    The function runs in a separate thread, which is abandoned after `seconds`
    or when the server becomes unavailable.

    Args:
      table: Table of the request, for error messages.
      function: Makes the request.
      seconds: Seconds until the deadline.

    Raises:
      ConnectionError: If the server does not answer in time.
    """
    return self.result(table, self.begin(function), seconds)

  def begin(self, function: Callable[[], _T]) -> futures.Future[_T]:
    """Calls a function in a separate thread; returns its future result.

    Raises:
      ConnectionError: If the server does not answer in time.
    """
    self.tables()
    answer: futures.Future[_T] = futures.Future()
    threading.Thread(
        target=_answer, args=(answer, function), daemon=True
    ).start()
    return answer

  def result(
      self, table: str, answer: futures.Future[_T], seconds: float
  ) -> _T:
    """Returns the result of a function that `begin` has called.

    Args:
      table: Table of the request, for error messages.
      answer: Result of `begin`.
      seconds: Seconds until the deadline.

    Raises:
      SlowAnswerError: If the server answers, but the function is not done at
        the deadline.
      ConnectionError: If the server does not answer in time.
    """
    deadline = time.monotonic() + seconds
    try:
      while not answer.done():
        left = deadline - time.monotonic()
        if left <= 0:
          raise SlowAnswerError(
              f'The replay server at {self.address} did not answer a request '
              f'for table {table} within {seconds} s.'
          )
        futures.wait([answer], min(left, DEADLINE_SECONDS))
        if not answer.done():
          self.tables()
      return answer.result()
    except (reverb.errors.ReverbError, RuntimeError) as error:
      raise ConnectionError(
          f'A request for table {table} of the replay server at '
          f'{self.address} failed: {error}'
      ) from error

  def wait_for(self, table: str, get: Callable[[], Optional[_T]]) -> _T:
    """Calls `get` until it returns a value other than None, and returns it.

    Logs what it waits for and since when.

    Args:
      table: Table of the request, for log messages.
      get: Makes the request; returns None while there is no result and raises
        `ConnectionError` if the server is unavailable.
    """
    waiting = _Waiting(f'{self.address} table {table}')
    while True:
      reason = _EMPTY
      try:
        value = get()
        if value is not None:
          waiting.end()
          return value
      except ConnectionError as error:
        reason = str(error)
      waiting.report(reason, at_once=reason != _EMPTY)
      time.sleep(_POLL_SECONDS)

  @contextlib.contextmanager
  def watched(self, table: str) -> Iterator[None]:
    """Logs a warning while the server is unavailable or its table is empty.

    Reverb's iterators block silently until the server is back and has filled
    its tables, and Python handles no Ctrl-C meanwhile. So it ends the process
    after a second, if the server is unavailable or the table empty.

    Args:
      table: Table that is read within the `with` block.
    """
    is_over, is_blocked = threading.Event(), threading.Event()

    def watch():
      waiting = _Waiting(f'{self.address} table {table}')
      while not is_over.wait(_FIRST_REPORT_SECONDS / 2):
        try:
          tables = self.tables()
        except ConnectionError as error:
          is_blocked.set()
          waiting.report(str(error), at_once=True)
          continue
        if table in tables and _may_be_sampled(tables[table]):
          is_blocked.clear()
          waiting.end()
          waiting = _Waiting(f'{self.address} table {table}')
        else:
          is_blocked.set()
          waiting.report(_EMPTY, at_once=False)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    interrupted: ContextManager[None] = contextlib.nullcontext()
    if threading.current_thread() is threading.main_thread():
      interrupted = interruption.ends_soon(
          lambda: '\nInterrupted while it waited for the replay service.\n',
          is_blocked.is_set,
      )
    try:
      with interrupted:
        yield
    finally:
      is_over.set()
      thread.join()


def _may_be_sampled(table: Any) -> bool:
  """Returns whether a table has rows, and all that a restart puts back."""
  least = max(1, table.rate_limiter_info.min_size_to_sample)
  return table.current_size >= least


def _answer(answer: futures.Future, function: Callable[[], Any]) -> None:
  """Sets an answer to the result or the exception of a function."""
  try:
    answer.set_result(function())
  except Exception as error:  # noqa: BLE001
    answer.set_exception(error)  # The waiting thread raises it.


class _Waiting:
  """Logs a wait: its start, periodic reminders, and its end."""

  def __init__(self, what: str):
    self._what = what
    self._start = time.monotonic()
    self._since = time.strftime('%H:%M:%S')
    self._reported_at: Optional[float] = None

  def report(self, reason: str, at_once: bool) -> None:
    now = time.monotonic()
    if self._reported_at is None:
      is_due = at_once or now - self._start >= _FIRST_REPORT_SECONDS
    else:
      is_due = now - self._reported_at >= _REPORT_SECONDS
    if is_due:
      self._reported_at = now
      logging.warning(
          'Waiting for %s since %s: %s', self._what, self._since, reason
      )

  def end(self) -> None:
    if self._reported_at is not None:
      logging.info(
          'Waited for %s for %.1f s.',
          self._what,
          time.monotonic() - self._start,
      )
