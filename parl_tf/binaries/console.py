"""What a command writes to the terminal besides its results."""

import logging as stdlib_logging
import os

from absl import logging


def show_our_messages() -> None:
  """Shows our messages from INFO on, others' from WARNING on, gin's never.

  gin reports as an error each place where an included file is not, before it
  comes to the place where it is; what it cannot do it raises.
  """
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(_is_shown)


def _is_shown(record: stdlib_logging.LogRecord) -> bool:
  if f'{os.sep}gin{os.sep}' in record.pathname:
    return False
  is_ours = f'{os.sep}parl_tf{os.sep}' in record.pathname
  return is_ours or record.levelno >= stdlib_logging.WARNING
