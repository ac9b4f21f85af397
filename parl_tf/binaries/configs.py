"""Finds and parses gin files, in an installation or a checkout."""

import contextlib
import functools
import glob
import importlib
import inspect
import logging
import os
import re
import sys
import tokenize
from typing import Iterator, List, Sequence

import gin

from parl_tf.binaries import binding_types
from parl_tf.binaries import gin_names
from parl_tf.binaries import gin_syntax
from parl_tf.binaries import imports
from parl_tf.binaries import overridden_bindings
from parl_tf.binaries import shadowed_bindings
from parl_tf.binaries import unused_bindings

_SEARCHES = ('Search', 'ActionOptimizer', 'CrossEntropyMethod')
_UNKNOWN_NAME = re.compile(
    r"No configurable matching (?:reference )?'@?([\w.]+)"
)
_UNKNOWN_PARAMETER = re.compile(
    r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'"
)


@functools.lru_cache(maxsize=None)
def add_search_path() -> List[str]:
  """Adds the library's own gin files to gin's search path.

  Paths on the command line are first resolved against the working directory,
  then against the returned directories: `parl_tf/configs` in an installation,
  `gin` next to the package in a checkout.

  Returns:
    The directories added to the search path.
  """
  package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  places = [
      place
      for place in (
          os.path.join(package, 'configs'),
          os.path.join(os.path.dirname(package), 'gin'),
      )
      if os.path.isdir(place)
  ]
  for place in places:
    gin.add_config_file_search_path(place)
  return places


def check(gin_files: Sequence[str], gin_bindings: Sequence[str] = ()) -> None:
  """Checks gin files and bindings, without importing what they configure.

  It warns of each binding of a user's file that has no effect.

  Args:
    gin_files: Paths.
    gin_bindings: For example `PointMaze.size = 'Medium'`.

  Raises:
    FileNotFoundError: If a file is in none of the searched directories.
    ValueError: If a file or a binding is not valid gin, or if one of its names
      is misspelt.
  """
  _check_syntax(gin_files, gin_bindings)
  try:
    lost = overridden_bindings.warnings(
        gin_files, gin_bindings, _find, _is_own
    )
  except FileNotFoundError:  # Gin may find it in an installed package.
    lost = []
  for warning in lost:
    logging.warning('%s', warning)
  gin_names.check(
      [
          *((path, gin_syntax.read(_find(path))) for path in gin_files),
          *((f'--gin_bindings {text!r}', text) for text in gin_bindings),
      ],
      _find,
  )


def warn_of_unused(
    gin_files: Sequence[str], gin_bindings: Sequence[str] = ()
) -> None:
  """Warns of bindings of the user that have no effect on the agent.

  Args:
    gin_files: Paths of the files that were parsed.
    gin_bindings: Bindings that were parsed.
  """
  try:
    unused = [
        *unused_bindings.warnings(gin_files, gin_bindings, _find, _is_own),
        *shadowed_bindings.warnings(gin_files, gin_bindings, _find, _is_own),
    ]
  except FileNotFoundError:  # Gin may find it in an installed package.
    unused = []
  for warning in unused:
    logging.warning('%s', warning)


def warn_of_search(
    gin_files: Sequence[str], gin_bindings: Sequence[str] = ()
) -> None:
  """Warns of bindings of the user for a search that a SavedModel contains.

  Args:
    gin_files: Paths of the files that were parsed.
    gin_bindings: Bindings that were parsed.
  """
  names = []
  with contextlib.suppress(FileNotFoundError):  # In an installed package.
    for _, statement in unused_bindings.own_statements(
        gin_files, gin_bindings, _find, _is_own
    ):
      name = statement.selector.rpartition('.')[2]
      if name in _SEARCHES:
        names.append(f'{name}.{statement.arg_name}')
  if names:
    logging.warning(
        '%s: no effect on a SavedModel, which contains its search. Export it'
        ' with these bindings (parl-export).',
        ', '.join(dict.fromkeys(names)),
    )


def digest(gin_files: Sequence[str], gin_bindings: Sequence[str] = ()) -> str:
  """Returns a digest of a configuration's text; imports nothing.

  Args:
    gin_files: Paths, in order.
    gin_bindings: Bindings, in order.
  """
  contents = gin_syntax.digest([_find(path) for path in gin_files], _find)
  return '\n'.join([contents, *gin_bindings])


def parse(
    gin_files: Sequence[str],
    gin_bindings: Sequence[str] = (),
    skip_unknown: bool = False,
    import_names: bool = False,
) -> None:
  """Parses gin files in order, then bindings.

  Gin files may import modules from the working directory.

  Args:
    gin_files: Paths; later ones override earlier ones.
    gin_bindings: For example `PointMaze.size = 'Medium'`; they override the
      files.
    skip_unknown: Whether to ignore bindings of undefined names. If False, the
      configuration is locked afterwards.
    import_names: Whether to import the modules of this package whose names are
      bound. A program that only needs the task then takes the gin file of a
      training run as it is.

  Raises:
    FileNotFoundError: If a file is in none of the searched directories.
    ImportError: If a gin file imports a missing module.
    OSError: If a file includes a missing file.
    SyntaxError: If an included file is not valid gin.
    ValueError: If a file or binding is not valid gin, uses an undefined name,
      in which case the message suggests the closest defined one, or binds text
      to a number.
  """
  _check_syntax(gin_files, gin_bindings)
  _register_type_check()
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  paths = [_find(path) for path in gin_files]
  try:
    # The files import modules.
    with _without_gin_messages(), imports.without_garbage_collection():
      if import_names:
        texts = [*(gin_syntax.read(path) for path in paths), *gin_bindings]
        for module in sorted(set(gin_names.used_modules(texts, _find))):
          importlib.import_module(module)
      gin.parse_config_files_and_bindings(
          paths,
          list(gin_bindings),
          # Finalizing rejects references to undefined names, including macros.
          finalize_config=not skip_unknown,
          skip_unknown=skip_unknown,
      )
  except ModuleNotFoundError as error:
    raise ImportError(str(error)) from error
  except (tokenize.TokenError, UnicodeDecodeError) as error:
    reason = ', line '.join(
        [error.args[0], str(error.args[1][0])]
        if isinstance(error, tokenize.TokenError)
        else [str(error)]
    )
    raise ValueError(
        f'{", ".join([*gin_files, *gin_bindings])}: the configuration must be'
        f' gin, but cannot be parsed: {reason}.'
    ) from error
  except ValueError as error:
    hint = _hint(str(error))
    if not hint:
      raise
    message, newline, place = str(error).partition('\n')
    raise ValueError(f'{message}{hint}{newline}{place}') from error


@contextlib.contextmanager
def _without_gin_messages() -> Iterator[None]:
  """Hides gin's log messages.

  It logs an error for each searched directory that lacks an included file, even
  if a later directory has it, and raises an exception for real failures.
  """
  folder = os.path.dirname(gin.__file__) + os.sep

  def is_shown(record: logging.LogRecord) -> bool:
    return not record.pathname.startswith(folder)

  root = logging.getLogger()
  root.addFilter(is_shown)
  try:
    yield
  finally:
    root.removeFilter(is_shown)


@functools.lru_cache(maxsize=None)
def _register_type_check() -> None:
  gin.config.register_finalize_hook(binding_types.check)


def _check_syntax(
    gin_files: Sequence[str], gin_bindings: Sequence[str]
) -> None:
  for path in gin_files:
    gin_syntax.check_file(_find(path), path)
  for binding in gin_bindings:
    gin_syntax.check_binding(binding)


def _is_own(path: str) -> bool:
  real = os.path.realpath(path)
  return not any(
      real.startswith(os.path.realpath(place) + os.sep)
      for place in add_search_path()
  )


def _find(path: str) -> str:
  places = [os.getcwd()] + add_search_path()
  for place in places:
    candidate = os.path.join(place, path)
    if os.path.isfile(candidate):
      return candidate
  found = (
      os.path.relpath(file, place)
      for place in places
      for pattern in ('*.gin', '*/*.gin')
      for file in glob.glob(os.path.join(place, pattern))
  )
  raise FileNotFoundError(
      f'There is no gin file {path!r} in any of: {", ".join(places)}.'
      + gin_names.did_you_mean(path, found)
  )


def _hint(message: str) -> str:
  """Returns a sentence on how to mend a gin error, or ''."""
  if unknown := _UNKNOWN_NAME.search(message):
    known = gin_names.modules()
    if module := known.get(unknown[1]):
      return f' It needs `import {module}` in a gin file.'
    return f'{gin_names.did_you_mean(unknown[1], known)} {gin_names.OWN_CLASS}'
  if unknown := _UNKNOWN_PARAMETER.search(message):
    parameters = inspect.signature(gin.get_configurable(unknown[1])).parameters
    return gin_names.did_you_mean(unknown[2], parameters)
  return ''
