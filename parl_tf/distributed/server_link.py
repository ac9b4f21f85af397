"""A link to a replay server: its calls have deadlines, its waits are seen.

While a server is away, Reverb's calls wait in silence and without limit; only
`server_info` and `flush` take a deadline. So the server is asked first, a call
that takes no deadline is left behind when its time is over, and who waits says
for what, and since when.
"""

from concurrent import futures
import contextlib
import threading
import time
from typing import Any, Callable, Iterator, Mapping, Optional, TypeVar

from absl import logging

from parl_tf.replay.reverb_import import reverb

DEADLINE_SECONDS = 4
"""Longest wait for an answer of a server before it counts as unreachable."""

_POLL_SECONDS = 0.1
_FIRST_REPORT_SECONDS = 5.0
_REPORT_SECONDS = 30.0

_T = TypeVar('_T')


class ServerLink:
  """Asks one replay server, and waits for it where it is away.

  Attributes:
    address: `host:port` of the server.
    client: Reverb's client of it, for calls that have a deadline themselves.
  """

  def __init__(self, address: str):
    """Makes the link; nothing is asked yet."""
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
      ValueError: If it has no such table.
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
    """Returns what `function`, which takes no deadline itself, returns.

    Where its time is over, or the server has gone meanwhile, it is left behind
    in a thread of its own.

    Args:
      table: What it asks, for the message.
      function: Asks the server.
      seconds: The time it has.

    Raises:
      ConnectionError: If the server does not answer in time.
    """
    self.tables()
    answer = futures.Future()
    thread = threading.Thread(
        target=_answer, args=(answer, function), daemon=True
    )
    deadline = time.monotonic() + seconds
    thread.start()
    try:
      while not answer.done():
        left = deadline - time.monotonic()
        if left <= 0:
          raise ConnectionError(
              f'The replay server at {self.address} does not answer within '
              f'{seconds} s, asked for table {table}.'
          )
        futures.wait([answer], min(left, DEADLINE_SECONDS))
        if not answer.done():
          self.tables()
      return answer.result()
    except (reverb.errors.ReverbError, RuntimeError) as error:
      raise ConnectionError(
          f'The replay server at {self.address}, asked for table {table}: '
          f'{error}'
      ) from error

  def wait_for(self, table: str, get: Callable[[], Optional[_T]]) -> _T:
    """Returns what `get` returns, once that is not None.

    Says what it waits for, and since when, until then.

    Args:
      table: What it waits for, for the message.
      get: Asks; None where it is not there yet. A `ConnectionError` of its
        means that the server is away.
    """
    waiting = _Waiting(f'{self.address} table {table}')
    while True:
      reason = 'not there yet'
      try:
        value = get()
        if value is not None:
          waiting.end()
          return value
      except ConnectionError as error:
        reason = str(error)
      waiting.report(reason, at_once=reason != 'not there yet')
      time.sleep(_POLL_SECONDS)

  @contextlib.contextmanager
  def watched(self, table: str) -> Iterator[None]:
    """Says that the server is away, or has nothing, while the block waits.

    Reverb's iterators wait in silence, and go on by themselves once it is back
    and has filled its tables.

    Args:
      table: What the block asks for, for the message.
    """
    is_over = threading.Event()

    def watch():
      waiting = _Waiting(f'{self.address} table {table}')
      while not is_over.wait(_FIRST_REPORT_SECONDS / 2):
        try:
          tables = self.tables()
        except ConnectionError as error:
          waiting.report(str(error), at_once=True)
          continue
        if table in tables and tables[table].current_size:
          waiting.end()
          waiting = _Waiting(f'{self.address} table {table}')
        else:
          waiting.report('nothing is there yet', at_once=False)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
      yield
    finally:
      is_over.set()
      thread.join()


def _answer(answer: futures.Future, function: Callable[[], Any]) -> None:
  """Gives an answer what the function returns or raises."""
  try:
    answer.set_result(function())
  except Exception as error:  # noqa: BLE001
    answer.set_exception(error)  # Raised where the answer is waited for.


class _Waiting:
  """A wait that is told at its first report, from time to time, at its end."""

  def __init__(self, what: str):
    self._what = what
    self._start = time.monotonic()
    self._since = time.strftime('%H:%M:%S')
    self._told: Optional[float] = None

  def report(self, reason: str, at_once: bool) -> None:
    now = time.monotonic()
    if self._told is None:
      is_due = at_once or now - self._start >= _FIRST_REPORT_SECONDS
    else:
      is_due = now - self._told >= _REPORT_SECONDS
    if is_due:
      self._told = now
      logging.warning(
          'Waiting for %s since %s: %s', self._what, self._since, reason
      )

  def end(self) -> None:
    if self._told is not None:
      logging.info(
          'Waited for %s for %.1f s.',
          self._what,
          time.monotonic() - self._start,
      )
