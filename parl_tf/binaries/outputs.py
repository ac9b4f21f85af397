"""Refuses outputs that cannot be written, or would replace something."""

import os
from typing import Sequence


def check_file(
    path: str, *, overwrite: bool, inputs: Sequence[str] = ()
) -> None:
  """Checks a file that a program will write, before it works.

  Args:
    path: The file.
    overwrite: Whether to accept a file that exists.
    inputs: Files that the program reads.

  Raises:
    ValueError: If there is a directory, a file that may not be replaced, or no
      folder for it.
  """
  check_folder(path)
  if os.path.isdir(path):
    raise ValueError(f'`output` must be a file, but {path} is a directory.')
  if os.path.exists(path):
    if any(os.path.exists(x) and os.path.samefile(path, x) for x in inputs):
      raise ValueError(f'`output` must not be one of the inputs, got {path}.')
    if not overwrite:
      raise ValueError(f'{path} exists: give --overwrite to replace it.')


def check_folder(path: str) -> None:
  """Raises `ValueError` if the folder of `path` is missing or read-only."""
  folder = os.path.dirname(os.path.abspath(path))
  if not os.path.isdir(folder):
    raise ValueError(f'`output`: there is no directory {folder}.')
  _check_writable(folder)


def check_saved_model(path: str, *, overwrite: bool) -> None:
  """Checks the directory of a SavedModel, before a program exports.

  Args:
    path: The directory.
    overwrite: Whether to accept a directory that holds a SavedModel.

  Raises:
    ValueError: If there is a file, something other than a SavedModel, or a
      SavedModel that may not be replaced.
  """
  place = os.path.abspath(path)
  if os.path.isdir(place) and os.listdir(place):
    if 'saved_model.pb' not in os.listdir(place):
      raise ValueError(
          f'`output` must be a new directory or a SavedModel, but {path} holds '
          f'{sorted(os.listdir(place))[:4]}.'
      )
    if not overwrite:
      raise ValueError(
          f'{path} has a SavedModel: give --overwrite to replace it.'
      )
  check_directory(path)


def check_directory(path: str, name: str = 'output') -> None:
  """Checks that a directory exists or can be created.

  Args:
    path: The directory.
    name: Name of the flag, for the error.

  Raises:
    ValueError: If the path is empty, there is a file in its place, or it is not
      writable.
  """
  if not path:
    raise ValueError(f'`{name}` must be a directory, got an empty path.')
  place = os.path.abspath(path)
  while not os.path.lexists(place):
    place = os.path.dirname(place)
  if not os.path.isdir(place):
    raise ValueError(f'`{name}` must be a directory, but {place} is a file.')
  _check_writable(place, name)


def _check_writable(folder: str, name: str = 'output') -> None:
  if not os.access(folder, os.W_OK):
    raise ValueError(f'`{name}`: {folder} must be writable, but is not.')
