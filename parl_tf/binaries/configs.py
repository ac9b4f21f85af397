"""Finds and reads gin files, installed or in a checkout."""

import difflib
import functools
import glob
import inspect
import os
import re
import sys
import tokenize
from typing import Iterable, List, Sequence

import gin

_UNKNOWN_NAME = re.compile(
    r"No configurable matching (?:reference )?'@?([\w.]+)"
)
_UNKNOWN_PARAMETER = re.compile(
    r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'"
)
# What a gin file binds, `Name.parameter =`, or refers to, `@Name`.
_NAMES = re.compile(r'^(?:\w+/)*(\w+)\.\w+ *=|@(\w+)', re.MULTILINE)


@functools.lru_cache(maxsize=None)
def add_search_path() -> List[str]:
  """Lets gin find the library's own files; returns where it looks.

  Paths given on a command line are taken relative to the working directory
  first, then to `parl_tf/configs`, where an installation keeps the files, or
  to `gin` beside the package in a checkout.
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


def parse(
    gin_files: Sequence[str],
    gin_bindings: Sequence[str] = (),
    skip_unknown: bool = False,
) -> None:
  """Reads gin files in order, then bindings, and locks the configuration.

  Modules that they import may be in the working directory.

  Args:
    gin_files: Paths; later ones override earlier ones.
    gin_bindings: Such as `PointMaze.size = 'Medium'`; they override files.
    skip_unknown: Whether to pass over bindings of names that nothing defines.

  Raises:
    FileNotFoundError: If a file is in none of the places searched.
    ImportError: If a module that a file imports is missing.
    ValueError: If a file is no gin file, or a binding names what nothing
      defines; names what is closest to it.
  """
  places = [os.getcwd()] + add_search_path()
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  paths = [_find(path, places) for path in gin_files]
  try:
    gin.parse_config_files_and_bindings(
        paths,
        list(gin_bindings),
        # Finalizing rejects references to what nothing defines, macros
        # included.
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
    hint = _closest(str(error))
    if not hint:
      raise
    message, newline, place = str(error).partition('\n')
    raise ValueError(f'{message}{hint}{newline}{place}') from error


def _find(path: str, places: Sequence[str]) -> str:
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
      + _did_you_mean(path, found)
  )


def _closest(message: str) -> str:
  """Returns which name an error of gin may have meant, as a sentence."""
  if unknown := _UNKNOWN_NAME.search(message):
    names = set()
    for place in add_search_path():
      for path in glob.glob(os.path.join(place, '**', '*.gin'), recursive=True):
        with open(path, encoding='utf-8') as file:
          for pair in _NAMES.findall(file.read()):
            names.update(pair)
    return _did_you_mean(unknown[1], names)
  if unknown := _UNKNOWN_PARAMETER.search(message):
    parameters = inspect.signature(gin.get_configurable(unknown[1])).parameters
    return _did_you_mean(unknown[2], parameters)
  return ''


def _did_you_mean(name: str, names: Iterable[str]) -> str:
  closest = difflib.get_close_matches(name, sorted(names), n=1)
  return f' Did you mean {closest[0]!r}?' if closest else ''
