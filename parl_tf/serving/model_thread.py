"""Runs all calls of a model in one thread, in the order of their arrival.

Frameworks keep devices, compiled functions and random states per thread, and
the author of a policy needs no locks. Each connection has its own thread, which
answers pings even while a call takes minutes.
"""

from concurrent import futures
import queue
import threading
import time
from typing import Any, Callable, NamedTuple, Optional


class DeadlineError(Exception):
  """The caller's deadline passed before its call began."""


class _Call(NamedTuple):
  function: Callable[[], Any]
  deadline: float
  is_wanted: Callable[[], bool]
  result: futures.Future


class ModelThread:
  """A queue of calls, executed by the thread that calls `run`."""

  def __init__(self):
    """Initializes an empty queue."""
    self._calls: 'queue.Queue[Optional[_Call]]' = queue.Queue()
    self._is_busy = False
    self._is_closed = False
    self._lock = threading.Lock()

  @property
  def num_waiting(self) -> int:
    """The number of calls that are queued or running."""
    return self._calls.qsize() + self._is_busy

  def call(
      self,
      function: Callable[[], Any],
      seconds: float,
      is_wanted: Callable[[], bool],
  ) -> Any:
    """Calls a function in the model's thread and returns its result.

    Exceptions of the function are raised here.

    Args:
      function: Function without arguments.
      seconds: Time in seconds within which the call must begin.
      is_wanted: Returns whether the caller is still connected; checked before
        the call begins.

    Raises:
      DeadlineError: If the deadline passed first.
      concurrent.futures.CancelledError: If the caller is gone, the queue is
        closed or `run` was interrupted.
    """
    call = _Call(
        function, time.monotonic() + seconds, is_wanted, futures.Future()
    )
    with self._lock:
      if self._is_closed:
        raise futures.CancelledError()
      self._calls.put(call)
    return call.result.result()

  def run(self) -> None:
    """Executes calls until the queue is closed.

    If it is interrupted, for example by Ctrl-C, cancels the queued calls.
    """
    try:
      while (call := self._calls.get()) is not None:
        self._is_busy = True
        self._make(call)
        self._is_busy = False
    finally:
      self.close()
      self._cancel_rest()

  def close(self) -> None:
    """Ends `run` after the calls already queued; later calls are cancelled."""
    with self._lock:
      self._is_closed = True
      self._calls.put(None)

  def _cancel_rest(self) -> None:
    while not self._calls.empty():
      call = self._calls.get()
      if call is not None:
        call.result.cancel()

  def _make(self, call: _Call) -> None:
    if not call.is_wanted():
      call.result.cancel()
      return
    if time.monotonic() > call.deadline:
      call.result.set_exception(DeadlineError())
      return
    try:
      call.result.set_result(call.function())
    except BaseException as error:  # noqa: BLE001
      call.result.set_exception(error)  # The connection's thread reports it.
      if not isinstance(error, Exception):
        raise  # Such as Ctrl-C.
