"""Recognizes input errors and formats each as one line."""

import dis
import os
import re
import types
from typing import Optional, Tuple

import gin

_GIN = os.path.dirname(gin.__file__)
_PARL_TF = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The stand-alone replay service is installed next to the package.
_OURS = (_PARL_TF, os.path.join(os.path.dirname(_PARL_TF), 'reverb_server'))
# A whole run happens within it: its name helps for its own arguments only.
_RUN = 'run_experiment'
_RUN_FILE = os.path.join(_PARL_TF, 'training', 'experiment.py')
_RAISE = dis.opmap['RAISE_VARARGS']

# Matches the location that gin appends to a message.
_LOCATION = re.compile(
    r"\n  In call to configurable '(?P<configurable>[^']*)'"
    r'|\n  In file "(?P<file>[^"]*)", line (?P<line>\d+)\n +(?P<code>.*)'
    r'|\n  In bindings string line \d+\n +(?P<binding>.*)'
)

# Of an error in a traced function, TensorFlow puts the stack in front.
_STACK = re.compile(r'\Ain user code:\n.*\n +\w+Error: ', re.DOTALL)

# Of a class that gin makes with too few arguments, and of one that lacks a
# method.
_MISSING = re.compile(
    r"(?P<name>\w+)\.__init__\(\) missing \d+ required [\w-]+ arguments?: "
    r"(?P<arguments>'[^\n]*)"
)
_ABSTRACT = "Can't instantiate abstract class"


def is_of_input(error: Exception) -> bool:
  """Returns whether an error is an input error rather than a bug.

  The following are input errors:

  - every `OSError`, such as a missing file, a full disk or a service that does
    not answer;
  - a `ValueError`, `TypeError`, `ImportError` or `EOFError` from a `raise`
    statement in this project;
  - a `ValueError` or `SyntaxError` from a `raise` statement in gin, and gin's
    `RuntimeError` for a missing binding;
  - a class that lacks an abstract method, or arguments when gin makes it;
  - what a policy in another process raised, whose log has the traceback.

  The same types raised by TensorFlow, NumPy or a Python operator are bugs.

  Args:
    error: The caught exception, with its traceback.
  """
  # By name, because importing the class imports websockets.
  if isinstance(error, OSError) or type(error).__name__ == 'PolicyServerError':
    return True
  code, instruction = _origin(error)
  if isinstance(error, TypeError) and str(error).startswith(_ABSTRACT):
    return True
  if code is not None and _is_in(_GIN, code) and _missing(error):
    return True
  if code is None or code.co_code[instruction] != _RAISE:
    return False
  if _is_in(_GIN, code):
    return isinstance(error, (ValueError, SyntaxError)) or (
        isinstance(error, RuntimeError)
        and str(error).startswith('Required bindings')
    )
  return any(_is_in(folder, code) for folder in _OURS) and isinstance(
      error, (ValueError, TypeError, ImportError, EOFError)
  )


def one_line(error: Exception) -> str:
  """Returns an error's message, with its place in the configuration if known.

  Args:
    error: An input error.
  """
  if isinstance(error, OSError) and error.strerror:
    names = [x for x in (error.filename, error.filename2) if x is not None]
    return ': '.join([*map(str, names), error.strerror])
  text = _STACK.sub('', str(error))
  message = _LOCATION.split(text, maxsplit=1)[0]
  code, _ = _origin(error)
  if code is not None and _is_in(_GIN, code):
    # gin may append the whole configuration.
    message = message.partition('\n')[0]
  if missing := _missing(error):
    message = (
        f'{missing["name"]} lacks {missing["arguments"]}: bind it, or, if the'
        f' program passes it, refer to the class without parentheses,'
        f' `@{missing["name"]}`.'
    )
  message = ' '.join(message.split())
  place = _LOCATION.search(text)
  if place is None or place['configurable'] == _RUN and not (
      code is not None and _is_in(_RUN_FILE, code)
  ):
    return message
  return f'{message} ({_describe(place)})'


def _missing(error: Exception) -> Optional[re.Match]:
  return _MISSING.match(str(error)) if isinstance(error, TypeError) else None


def _describe(place: re.Match) -> str:
  if place['configurable']:
    return f'gin: {place["configurable"]}'
  if place['file']:
    return f'{place["file"]}, line {place["line"]}: {place["code"].strip()}'
  return f'--gin_bindings: {place["binding"].strip()}'


def _origin(error) -> Tuple[Optional[types.CodeType], int]:
  """Returns the code that raised an error and the instruction's offset."""
  trace = error.__traceback__
  if trace is None:
    return None, 0
  while trace.tb_next is not None:
    trace = trace.tb_next
  return trace.tb_frame.f_code, trace.tb_lasti


def _is_in(place: str, code: types.CodeType) -> bool:
  """Returns whether code is of a file, or of a file in a folder."""
  path = os.path.abspath(code.co_filename)
  return path == place or path.startswith(place + os.sep)
