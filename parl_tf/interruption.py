"""Ends a program soon after Ctrl-C or SIGTERM, whatever it is doing.

Python handles a signal between two of its own instructions. TensorFlow may
spend many seconds in one instruction, for instance to compile, and Python waits
for threads that do so when it exits.
"""

import contextlib
import os
import signal
import threading
import time
from typing import Callable, Iterator

STATUS = 130  # What shells report for a program that Ctrl-C ended.
_PATIENCE_SECONDS = 1.0
# After SIGTERM within a turn. Job schedulers wait ten seconds or more to kill.
_TURN_SECONDS = 7.0

_takes_time = threading.Event()
_heeds_sigterm = threading.Event()
_has_turns = threading.Event()
_ends_after_turn = threading.Event()


def heed_sigterm() -> None:
  """Lets SIGTERM, which job schedulers send, end this process as Ctrl-C does.

  Within `turns`, the process has some seconds to come to the end of a turn.
  Without effect if SIGTERM is handled already.
  """
  if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    signal.signal(signal.SIGTERM, _handle_sigterm)
    _heeds_sigterm.set()


@contextlib.contextmanager
def turns() -> Iterator[None]:
  """Declares that its context has turns, each ended by `end_turn`."""
  _has_turns.set()
  try:
    yield
  finally:
    _has_turns.clear()
    _ends_after_turn.clear()


def end_turn(save: Callable[[], None], is_due: bool) -> None:
  """Saves if that is due or if the process ends.

  Args:
    save: Saves what has been done.
    is_due: Whether to save in any case.

  Raises:
    KeyboardInterrupt: If SIGTERM has come during the turn.
  """
  if is_due or _ends_after_turn.is_set():
    save()
  if _ends_after_turn.is_set():
    raise KeyboardInterrupt


def _handle_sigterm(number, frame) -> None:
  del number, frame
  # A machine has to stop at once. So does a program that is asked again.
  if (
      _has_turns.is_set()
      and not _takes_time.is_set()
      and not _ends_after_turn.is_set()
  ):
    _ends_after_turn.set()
    return
  raise KeyboardInterrupt


def take_time() -> None:
  """Lets this process end in its own time after Ctrl-C, from now on.

  For a process that moves a machine, which it has to stop first. SIGTERM, which
  for instance `parl-launch` sends, and the end of the terminal are then handled
  as Ctrl-C is, unless the process handles them already.
  """
  _takes_time.set()
  if threading.current_thread() is not threading.main_thread():
    return  # Python sets handlers in the main thread only.
  for number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_DFL:
      signal.signal(number, signal.default_int_handler)


def take_no_time() -> None:
  """Takes back `take_time`: this process moves no machine after all."""
  _takes_time.clear()


@contextlib.contextmanager
def taking_time() -> Iterator[None]:
  """Lets its context end in its own time after Ctrl-C; see `take_time`.

  For a process that has to undo in another one what it did there.
  """
  takes_time_anyway = _takes_time.is_set()
  take_time()
  try:
    yield
  finally:
    if not takes_time_anyway:
      take_no_time()


@contextlib.contextmanager
def ends_soon(
    describe: Callable[[], str], may_end: Callable[[], bool] = lambda: True
) -> Iterator[None]:
  """Ends the process one second after Ctrl-C in its context, if it still runs.

  After `heed_sigterm` also after SIGTERM, within `turns` after seven seconds.
  After a call of `take_time`, it does not. Must be called in the main thread.

  Args:
    describe: Returns the text to print to standard error; '' if the program has
      printed it.
    may_end: Whether the process may end now; otherwise it is asked again, each
      second, until the context ends.
  """
  is_closed = threading.Event()
  receiver, sender = os.pipe()
  os.set_blocking(sender, False)

  def watch():
    while not _ends(number := os.read(receiver, 1)):
      if not number:  # The context is closed.
        os.close(receiver)
        return
    is_in_turn = number == bytes([signal.SIGTERM]) and _has_turns.is_set()
    time.sleep(_TURN_SECONDS if is_in_turn else _PATIENCE_SECONDS)
    if _takes_time.is_set():
      return
    while not may_end():
      if is_closed.wait(_PATIENCE_SECONDS):
        return
    os.write(2, describe().encode())
    os._exit(STATUS)  # Skips the wait for other threads.

  threading.Thread(target=watch, daemon=True).start()
  # The interpreter's C code writes the number of each signal at once.
  before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
  try:
    yield
  finally:
    is_closed.set()
    signal.set_wakeup_fd(before)
    os.close(sender)


def _ends(number: bytes) -> bool:
  """Returns whether a signal ends the process."""
  for heeded in signal.SIGTERM, signal.SIGHUP:  # See `take_time`.
    if number == bytes([heeded]) and (
        signal.getsignal(heeded) is signal.default_int_handler
    ):
      return True
  if number == bytes([signal.SIGTERM]):
    return _heeds_sigterm.is_set()
  return number == bytes([signal.SIGINT])
