"""Shared console behavior of all programs: help, messages, errors and exit.

Every program runs inside `run`. It hides routine messages of other packages,
prints an input error as one line, and shows only the program's own flags in
`--help`.

The module of a program holds its description, flags and checks of usage. `main`
imports the module that does the work, so that `--help` and usage errors take a
fraction of a second.
"""

import contextlib
import io
import logging as stdlib_logging
import os
import re
import select
import shlex
import sys
import textwrap
from typing import Callable, ContextManager, List, NoReturn, Optional, Sequence

from absl import app
from absl import flags
from absl import logging

from parl_tf import interruption
from parl_tf.binaries import configs
from parl_tf.binaries import input_errors
from parl_tf.binaries import third_party_messages

_HELP = ('--help', '-help', '-h')
_WIDTH = 80
_INPUT_ERROR, _USAGE_ERROR, _READER_GONE = 1, 2, 141  # Exit statuses.
_MISSING_FLAG = re.compile(r'Flag (--\w+) must have a value other than None')
# What absl appends to the help of a flag that may be repeated.
_REPEAT = re.compile(r'\.?;\s+repeat this option to specify a list of values')
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def run(
    name: str,
    main: Callable[[Sequence[str]], Optional[int]],
    define_flags: Callable[[], None],
    *,
    is_resumable: bool = False,
    cleans_up: bool = False,
) -> NoReturn:
  """Runs a program and exits.

  The exit status is the return value of `main`, 1 for an input error, 2 for
  wrong flags, 130 after Ctrl-C (or SIGTERM, if `is_resumable` and not
  `cleans_up`), and 141, as for other commands, if the output is no longer read.
  A bug keeps its traceback; `--debug` shows the traceback of any error. The
  message of a `KeyboardInterrupt` is printed.

  Args:
    name: Name of the command.
    main: Takes the program's path and the positional arguments; returns the
      exit status. `--help` prints the docstring of its module.
    define_flags: Defines the program's flags. It is called here, not on import,
      so that programs with equal flag names can be imported together.
    is_resumable: Whether rerunning the command resumes after Ctrl-C or SIGTERM.
    cleans_up: Whether the program tells other processes when it ends, for which
      it may take its time after Ctrl-C. Otherwise it ends within two seconds,
      unless it takes its time meanwhile (`interruption`), for instance because
      its domain moves a machine.
  """
  others = set(flags.FLAGS)
  define_flags()
  flags.DEFINE_bool('debug', False, 'Shows the traceback of an error.')
  own = [flag for flag in flags.FLAGS if flag not in others]
  resume = shlex.join([name, *sys.argv[1:]]) if is_resumable else ''
  farewells = [f'\nInterrupted.{resume and " To resume: "}{resume}\n']

  def parse(argv: List[str]) -> List[str]:
    if any(argument in _HELP for argument in argv[1:]):
      description = sys.modules[main.__module__].__doc__ or ''
      with contextlib.suppress(BrokenPipeError):
        print(_help(description, own))
      _reader_is_gone()
      sys.exit(0)
    try:
      arguments = flags.FLAGS(argv)
    except flags.Error as error:
      _report(name, f'{_describe_flags_error(error)} See {name} --help.')
      sys.exit(_USAGE_ERROR)
    show_our_messages()
    third_party_messages.silence_tensorflow()
    return arguments

  def call(argv: List[str]) -> Optional[int]:
    watch: ContextManager[None] = contextlib.nullcontext()
    if not cleans_up:
      watch = interruption.ends_soon(lambda: ''.join(farewells))
      if is_resumable:
        interruption.heed_sigterm()
    try:
      with watch:
        values = flags.FLAGS.flag_values_dict()
        # Before `main`, which imports TensorFlow.
        configs.check(
            values.get('gin_file') or (), values.get('gin_bindings') or ()
        )
        status = main(argv)
        _reader_is_gone()
        return status
    except app.UsageError as error:
      _report(name, f'{error} See {name} --help.')
      return _USAGE_ERROR
    except KeyboardInterrupt as error:
      if flags.FLAGS.debug:
        raise
      farewells.append(f'{error}\n' if str(error) else '')
      print(*farewells, sep='', end='', file=sys.stderr)
      farewells.clear()
      return interruption.STATUS
    except (
        EOFError, ImportError, OSError, RuntimeError, SyntaxError, TypeError,
        ValueError,
    ) as error:
      if isinstance(error, BrokenPipeError) and _reader_is_gone():
        return _READER_GONE
      if flags.FLAGS.debug or not input_errors.is_of_input(error):
        raise
      _report(name, input_errors.one_line(error))
      return _INPUT_ERROR

  app.run(call, flags_parser=parse)


def _reader_is_gone() -> bool:
  """Returns whether standard output is a pipe that nothing reads any more.

  If so, as after `| head`, it silences further output, whose failure Python
  would report at exit.
  """
  try:
    sys.stdout.flush()
    poll = select.poll()
    poll.register(sys.stdout, 0)  # Errors are always reported.
    is_gone = any(event & select.POLLERR for _, event in poll.poll(0))
  except BrokenPipeError:
    is_gone = True
  except io.UnsupportedOperation:  # It is no file.
    return False
  if is_gone:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return is_gone


def show_our_messages() -> None:
  """Sets the minimum log level: INFO for this project, WARNING for others.

  On a terminal, messages are plain text; elsewhere they start with the time and
  the source location.
  """
  logging.set_verbosity(logging.INFO)
  handler = logging.get_absl_handler()
  handler.addFilter(_is_shown)
  # With this flag, absl looks up `sys.stderr` for every message, so that
  # messages appear above a progress bar.
  flags.FLAGS['logtostderr'].value = True
  if sys.stderr.isatty():
    handler.setFormatter(_PlainFormatter())


class _PlainFormatter(stdlib_logging.Formatter):

  def format(self, record: stdlib_logging.LogRecord) -> str:
    message = super().format(record)
    if record.levelno >= stdlib_logging.WARNING:
      return f'{record.levelname.capitalize()}: {message}'
    return message


def _is_shown(record: stdlib_logging.LogRecord) -> bool:
  if third_party_messages.is_noise(record):
    return False
  is_ours = record.pathname.startswith(_OURS)
  return is_ours or record.levelno >= stdlib_logging.WARNING


def _report(name: str, message: str) -> None:
  print(f'{name}: error: {message}', file=sys.stderr)


def _describe_flags_error(error: flags.Error) -> str:
  missing = dict.fromkeys(_MISSING_FLAG.findall(str(error)))
  if missing:
    return f'{", ".join(missing)} must be given.'
  return ' '.join(str(error).split()).rstrip('.') + '.'


def _help(description: str, names: Sequence[str]) -> str:
  """Returns the description of a program and its flags."""
  lines = [description.strip(), '', 'Flags:']
  for name in names:
    flag = flags.FLAGS[name]
    text = _REPEAT.sub('. May be repeated.', flag.help)
    if flag.default not in (None, [], False):
      text += f' Default: {flag.default}.'
    lines.append(f'  --{name}')
    lines += textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=' ' * 6,
        subsequent_indent=' ' * 6,
    )
  return '\n'.join(lines)
