"""Silences messages that other packages print even in a healthy run.

Each message is identified by part of its text, and by its source if that is
known. All other messages of these packages, and all messages of this project,
are shown.
"""

import contextlib
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import logging
import os
import subprocess
import sys
from typing import Iterator
import warnings

from parl_tf.binaries import imports

_STANDARD_ERROR = 2

# Module, attribute, first words. The attribute is a dict of messages that the
# package prints on import. These are irrelevant here: TF-Agents imports Gym,
# and gymnasium-robotics warns about dense rewards, which no domain uses.
_NOTICES = (
    ('gym_notices.notices', 'notices', 'Gym has been unmaintained'),
    ('farama_notifications', 'notifications', 'AdroitHandRelocateDense-v1, '),
)

# Source file and first words of the format string of each hidden record.
_RECORDS = (
    # This project writes its own checkpoints; its agents create all variables.
    ('tf_agents/train/learner.py', 'Warning: checkpointing the training'),
    ('tf_agents/train/learner.py', 'run_optimizer_variable_init = False'),
    # An exported policy is only used to act.
    ('tf_agents/policies/policy_saver.py', 'WARNING: Could not serialize'),
    # TF-Agents' own signatures have names such as `0/step_type`.
    (
        'tensorflow/core/function/polymorphism/function_type.py',
        '`%s` is not a valid tf.function parameter name.',
    ),
)

# Texts of lines that C++ libraries write to the standard error stream on import
# and on XLA's first compilation, at any log level.
_ROUTINE = (
    'WARNING: All log messages before absl::InitializeLog() is called',
    'I0000 00:00:',  # INFO messages logged before that call.
    # TensorFlow registers the CUDA libraries twice, and logs it as an error.
    'Unable to register cuBLAS factory',
    'Unable to register cuDNN factory',
    'Unable to register cuFFT factory',
)

# Module and pattern of Python warnings about OGBench's choices, and about a
# machine without a display.
_WARNINGS = (
    ('glfw', '.*X11: The DISPLAY environment variable is missing'),
    (r'gymnasium\.spaces\.box', '.*precision lowered by casting to float32'),
)

# Program of the child process that copies the other lines. It ignores Ctrl-C
# and runs until its input ends.
_FILTER = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
for line in sys.stdin.buffer:
  if not any(text.encode() in line for text in sys.argv[1:]):
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()
"""


def silence_imports() -> None:
  """Hides what later imports of TensorFlow, Gym and gymnasium-robotics print.

  Also hides two warnings of tasks: that glfw finds no display, which nothing
  here needs, and that gymnasium's boxes round their bounds to float32.

  Sets `TF_CPP_MIN_LOG_LEVEL` to 3 if it is not set, so that TensorFlow's C++
  code logs fatal errors only: even on a healthy machine, it logs an error
  because it registers cuDNN twice. Its other C++ errors are raised in Python.
  With a value of 0, it logs everything.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  for module, pattern in _WARNINGS:
    warnings.filterwarnings('ignore', message=pattern, module=module)
  sys.meta_path.insert(0, _TensorFlowFinder())
  for module, attribute, beginning in _NOTICES:
    try:
      notices = getattr(importlib.import_module(module), attribute)
    except ImportError:
      continue  # A package that is not installed prints nothing.
    _remove_texts(notices, beginning)


class _TensorFlowFinder(importlib.abc.MetaPathFinder):
  """Imports TensorFlow without its routine lines.

  Programs that do not need TensorFlow start without importing it.
  """

  def find_spec(self, fullname, path, target=None):
    if fullname != 'tensorflow':
      return None
    spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
    # The folder that an uninstalled TensorFlow leaves has no loader.
    if spec is not None and spec.loader is not None:
      execute = spec.loader.exec_module

      def exec_module(module):
        with (
            _without_routine_lines(),
            imports.without_garbage_collection(),
        ):
          execute(module)
        # Later collections skip TensorFlow's own objects.
        gc.freeze()

      spec.loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec


def silence_tensorflow() -> None:
  """Sends TensorFlow's Python warnings and errors to absl's handler only."""
  logger = logging.getLogger('tensorflow')
  # TensorFlow adds its own handler on import.
  logger.handlers.clear()
  logger.setLevel(logging.WARNING)


@functools.lru_cache(maxsize=None)
def silence_first_compilation() -> None:
  """Compiles a trivial function with XLA and hides XLA's first message.

  Call this after the devices are configured and before anything else is
  compiled.
  """
  import tensorflow as tf  # Imported here: not all programs need it.

  with _without_routine_lines(), tf.device('/CPU:0'):
    tf.function(lambda: tf.zeros([]), jit_compile=True)()


def is_noise(record: logging.LogRecord) -> bool:
  """Returns whether a record is one that even a healthy run logs."""
  return any(
      record.pathname.endswith(source) and str(record.msg).startswith(beginning)
      for source, beginning in _RECORDS
  )


@contextlib.contextmanager
def _without_routine_lines() -> Iterator[None]:
  """Removes the lines that contain a text of `_ROUTINE` from standard error.

  A child process copies the other lines, so that the last message of this
  process is shown even if C++ code aborts it.
  """
  if os.environ.get('TF_CPP_MIN_LOG_LEVEL') == '0':
    yield
    return
  original = os.dup(_STANDARD_ERROR)
  with subprocess.Popen(
      [sys.executable, '-I', '-S', '-c', _FILTER, *_ROUTINE],
      stdin=subprocess.PIPE,
  ) as copier:
    # A pipe, as requested above.
    os.dup2(copier.stdin.fileno(), _STANDARD_ERROR)  # type: ignore[union-attr]
    try:
      yield
    finally:
      os.dup2(original, _STANDARD_ERROR)
      os.close(original)


def _remove_texts(notices, beginning: str) -> None:
  """Removes the texts that begin with `beginning` from nested dicts."""
  for key, value in list(notices.items()):
    if isinstance(value, dict):
      _remove_texts(value, beginning)
    elif value.startswith(beginning):
      del notices[key]
