"""Reads gin files and bindings without importing what they configure.

The modules that gin files import take seconds to import; errors in a file or a
binding should not wait for them.
"""

import hashlib
import re
import tokenize
from typing import Any, Callable, Iterator, List, Sequence, Tuple

from gin import config_parser

# `name = text` whose text lacks its quotes.
_UNQUOTED = re.compile(
    r'''\s*([\w./]+)\s*=\s*(?!(?:True|False|None)\b)'''
    r'''([A-Za-z_.~/][^'"()\[\]{},#@%=]*?)\s*(?:\#.*)?$'''
)


class Reference(str):
  """The text of a reference or a macro, such as `@Adam`, as a value."""

  __repr__ = str.__str__


class _Names(config_parser.ParserDelegate):
  """Represents references and macros as text; lists the references."""

  def __init__(self):
    self.references: List[str] = []

  def configurable_reference(self, scoped_configurable_name, evaluate):
    self.references.append(scoped_configurable_name.split('/')[-1])
    return Reference(f'@{scoped_configurable_name}{"()" if evaluate else ""}')

  def macro(self, macro_name):
    return Reference(f'%{macro_name}')


def check_file(path: str, name: str) -> None:
  """Checks a gin file, without the files that it includes.

  Args:
    path: Path of the file.
    name: Name of the file in messages.

  Raises:
    ValueError: If it is not gin; the message names file and line.
  """
  try:
    text = read(path)
  except UnicodeDecodeError as error:
    raise ValueError(
        f'{name}: must be gin, but cannot be decoded: {error}.'
    ) from error
  _check(text, lambda line: f'{name}, line {line}')


def check_binding(binding: str) -> None:
  """Checks a binding.

  Raises:
    ValueError: If it is not gin.
  """
  _check(binding, lambda line: f'--gin_bindings {binding!r}')


def digest(paths: Sequence[str], find: Callable[[str], str]) -> str:
  """Returns a digest of the contents of gin files and all that they include.

  Args:
    paths: Paths of the files.
    find: Returns the path of an included file.
  """
  return hashlib.sha256('\0'.join(_texts(paths, find)).encode()).hexdigest()


def statements(
    text: str, find: Callable[[str], str], within: Sequence[str] = ()
) -> Iterator[Tuple[Any, List[str]]]:
  """Yields gin's statements and the names to which each of them refers.

  An included file's statements follow the one that includes it.

  Args:
    text: Valid gin.
    find: Returns the path of an included file.
    within: Paths of the files that led to this one.

  Raises:
    FileNotFoundError: If `find` finds no included file.
    ValueError: If an included file is not gin, and the message names file and
      line, or includes itself.
  """
  names = _Names()
  for statement in config_parser.ConfigParser(text, names):
    yield statement, names.references
    names.references = []
    if isinstance(statement, config_parser.IncludeStatement):
      path = _find_included(statement.filename, find, within)
      check_file(path, statement.filename)
      yield from statements(read(path), find, (*within, path))


def bindings(
    text: str,
    name: str,
    find: Callable[[str], str],
    within: Sequence[str] = (),
) -> Iterator[Tuple[str, Any]]:
  """Yields the bindings of gin, each with the name of its file.

  Those of an included file come where the file is included.

  Args:
    text: Valid gin.
    name: Name of its file.
    find: Returns the path of an included file.
    within: Paths of the files that led to this one.

  Raises:
    FileNotFoundError: If `find` finds no included file.
    ValueError: If an included file is not gin, and the message names file and
      line, or includes itself.
  """
  for statement in config_parser.ConfigParser(text, _Names()):
    if isinstance(statement, config_parser.IncludeStatement):
      path = _find_included(statement.filename, find, within)
      check_file(path, statement.filename)
      yield from bindings(
          read(path), statement.filename, find, (*within, path)
      )
    elif isinstance(statement, config_parser.BindingStatement):
      yield name, statement


def read(path: str) -> str:
  """Returns the text of a file.

  Raises:
    ValueError: If it begins with a byte order mark.
  """
  with open(path, encoding='utf-8') as file:
    text = file.read()
  if text.startswith('\ufeff'):
    raise ValueError(
        f'{path} must be UTF-8 without a byte order mark (BOM), but begins with'
        ' one.'
    )
  return text


def _texts(paths, find, within=()) -> Iterator[str]:
  for path in paths:
    text = read(path)
    yield text
    inner = (*within, path)
    for statement in config_parser.ConfigParser(text, _Names()):
      if isinstance(statement, config_parser.IncludeStatement):
        included = _find_included(statement.filename, find, inner)
        yield from _texts([included], find, inner)


def _find_included(
    name: str, find: Callable[[str], str], within: Sequence[str]
) -> str:
  path = find(name)
  if path in within:
    raise ValueError(
        f'{name}: includes itself, by way of {" and ".join(within)}.'
    )
  return path


def _check(text: str, place: Callable[[int], str]) -> None:
  try:
    for _ in config_parser.ConfigParser(text, _Names()):
      pass
  except tokenize.TokenError as error:
    reason, (line, _) = error.args
    raise ValueError(f'{place(line)}: must be gin, but {reason}.') from error
  except SyntaxError as error:
    lines = ['', *text.splitlines()]
    line = min(error.lineno or 0, len(lines) - 1)
    raise ValueError(
        f'{place(line)}: {_mend(lines[line], error.msg)}'
    ) from error


def _mend(line: str, message: str) -> str:
  unquoted = _UNQUOTED.match(line)
  if unquoted:
    name, value = unquoted.groups()
    return f'text needs quotes: {name} = "{value}".'
  if '=' not in line:
    return f'must be `name.parameter = value`, got {line.strip()!r}.'
  return f'{message.splitlines()[0].rstrip(".")}: {line.strip()!r}.'
