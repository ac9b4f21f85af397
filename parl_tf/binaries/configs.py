"""Finds and reads gin files, installed or in a checkout."""

import functools
import os
import sys
from typing import List, Sequence

import gin


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

  Modules that they import may stand in the working directory.

  Args:
    gin_files: Paths; later ones override earlier ones.
    gin_bindings: Such as `PointMaze.size = 'Medium'`; they override files.
    skip_unknown: Whether to pass over bindings of names that nothing defines.

  Raises:
    FileNotFoundError: If a file is in none of the places searched.
    ValueError: If a binding names what nothing defines.
  """
  places = [os.getcwd()] + add_search_path()
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  paths = [_find(path, places) for path in gin_files]
  gin.parse_config_files_and_bindings(
      paths,
      list(gin_bindings),
      # Finalizing rejects references to what nothing defines, macros included.
      finalize_config=not skip_unknown,
      skip_unknown=skip_unknown,
  )


def _find(path: str, places: Sequence[str]) -> str:
  for place in places:
    candidate = os.path.join(place, path)
    if os.path.isfile(candidate):
      return candidate
  raise FileNotFoundError(
      f'There is no gin file {path!r} in any of: {", ".join(places)}.'
  )
