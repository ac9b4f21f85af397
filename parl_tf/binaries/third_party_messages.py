"""Messages of other packages that a healthy run prints too.

Each is named by its source and its beginning: what these packages print
otherwise, and all that this project prints, is shown.
"""

import functools
import importlib
import logging
import os
import sys
import tempfile

_STANDARD_ERROR = 2

# Module, attribute: a dict of messages that are printed on import. Texts that
# begin so are of no concern here: TF-Agents imports Gym, and gymnasium-robotics
# warns of dense rewards, which no domain uses.
_NOTICES = (
    ('gym_notices.notices', 'notices', 'Gym has been unmaintained'),
    ('farama_notifications', 'notifications', 'AdroitHandRelocateDense-v1, '),
)

# Where a record comes from, and how its format string begins.
_RECORDS = (
    # Checkpoints are ours, and agents make their variables themselves.
    ('tf_agents/train/learner.py', 'Warning: checkpointing the training'),
    ('tf_agents/train/learner.py', 'run_optimizer_variable_init = False'),
    # An exported policy acts only.
    ('tf_agents/policies/policy_saver.py', 'WARNING: Could not serialize'),
    # Names of TF-Agents' own signatures, such as `0/step_type`.
    (
        'tensorflow/core/function/polymorphism/function_type.py',
        '`%s` is not a valid tf.function parameter name.',
    ),
)

# What XLA prints once in a process, whatever the log level.
_FIRST_COMPILATION = (
    'All log messages before absl::InitializeLog() is called',
    'Compiled cluster using XLA!',
)


def silence_imports() -> None:
  """Silences what is printed while TensorFlow and Gym are imported.

  `TF_CPP_MIN_LOG_LEVEL` is kept where it is set: with 0, TensorFlow's C++ code
  prints everything. At the default of this function it prints fatal errors
  alone, since on a healthy machine it registers cuDNN twice and reports that as
  an error. Other errors of that code are raised in Python.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  for module, attribute, beginning in _NOTICES:
    try:
      notices = getattr(importlib.import_module(module), attribute)
    except ImportError:
      continue  # Nobody prints them where they are not installed.
    _remove_texts(notices, beginning)


def silence_tensorflow() -> None:
  """Leaves TensorFlow's Python messages to absl's handler, warnings and up."""
  logger = logging.getLogger('tensorflow')
  # TensorFlow adds one when it is imported.
  logger.handlers.clear()
  logger.setLevel(logging.WARNING)


@functools.lru_cache(maxsize=None)
def silence_first_compilation() -> None:
  """Compiles something trivial by XLA, without its one message.

  XLA writes it to the standard error stream directly. To be called once the
  devices are configured, before anything else is compiled.
  """
  # Imported here: not every program needs TensorFlow.
  import tensorflow as tf

  stream = os.dup(_STANDARD_ERROR)
  with tempfile.TemporaryFile() as captured:
    os.dup2(captured.fileno(), _STANDARD_ERROR)
    try:
      with tf.device('/CPU:0'):
        tf.function(lambda: tf.zeros([]), jit_compile=True)()
    finally:
      os.dup2(stream, _STANDARD_ERROR)
      os.close(stream)
    captured.seek(0)
    for line in captured.read().decode(errors='replace').splitlines(True):
      if not any(text in line for text in _FIRST_COMPILATION):
        sys.stderr.write(line)


def is_noise(record: logging.LogRecord) -> bool:
  """Returns whether a record is one of those that a healthy run logs too."""
  return any(
      record.pathname.endswith(source) and str(record.msg).startswith(beginning)
      for source, beginning in _RECORDS
  )


def _remove_texts(notices, beginning: str) -> None:
  """Removes texts from dicts of dicts of them."""
  for key, value in list(notices.items()):
    if isinstance(value, dict):
      _remove_texts(value, beginning)
    elif value.startswith(beginning):
      del notices[key]
