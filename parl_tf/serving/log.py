"""The log of a policy server."""

import contextlib
import logging
import time
from typing import Callable, Iterator

logger = logging.getLogger('parl_tf.serving')
"""Logger of the server. Its level and handlers are those of the program."""


def show() -> None:
  """Shows the log also in programs that show only warnings, as most do."""
  logger.setLevel(logging.INFO)
  if not logger.hasHandlers():
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(asctime)s %(message)s'))
    logger.addHandler(handler)


@contextlib.contextmanager
def timed(task: str, version: Callable[[], str]) -> Iterator[None]:
  """Logs the start of a task, and its end with seconds and version.

  Args:
    task: What begins, such as 'Saving'.
    version: Returns the version of the weights.
  """
  logger.info('%s begins: version %s.', task, version())
  start = time.monotonic()
  result = 'failed'
  try:
    yield
    result = 'ended'
  finally:
    logger.info(
        '%s %s after %.1f s: version %s.',
        task,
        result,
        time.monotonic() - start,
        version(),
    )
