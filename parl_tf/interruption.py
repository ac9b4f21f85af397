"""Ends a program soon after Ctrl-C, whatever it is doing.

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

_takes_time = threading.Event()


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


@contextlib.contextmanager
def ends_soon(describe: Callable[[], str]) -> Iterator[None]:
  """Ends the process one second after Ctrl-C in its context, if it still runs.

  After a call of `take_time`, it does not. Must be called in the main thread.

  Args:
    describe: Returns the text to print to standard error; '' if the program has
      printed it.
  """
  receiver, sender = os.pipe()
  os.set_blocking(sender, False)

  def watch():
    while (number := os.read(receiver, 1)) != bytes([signal.SIGINT]):
      if not number:  # The context is closed.
        os.close(receiver)
        return
    time.sleep(_PATIENCE_SECONDS)
    if _takes_time.is_set():
      return
    os.write(2, describe().encode())
    os._exit(STATUS)  # Skips the wait for other threads.

  threading.Thread(target=watch, daemon=True).start()
  # The interpreter's C code writes the number of each signal at once.
  before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
  try:
    yield
  finally:
    signal.set_wakeup_fd(before)
    os.close(sender)
