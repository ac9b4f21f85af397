"""JSON files that describe datasets, and their error handling."""

import contextlib
import json
from typing import Any, Iterator, Mapping

from parl_tf.datasets import rows as rows_lib


def read(path: str) -> Mapping[str, Any]:
  """Returns the object in a JSON file.

  Raises:
    rows.DamagedFileError: If the file cannot be read or contains no object.
  """
  try:
    with open(path, encoding='utf-8') as file:
      content = json.load(file)
  except (OSError, ValueError) as error:
    raise rows_lib.DamagedFileError(
        f'{path}: must be complete JSON, but is missing, truncated or corrupt'
        f' ({error}).'
    ) from error
  if not isinstance(content, dict):
    raise rows_lib.DamagedFileError(
        f'{path}: must contain a JSON object, got {type(content).__name__}.'
    )
  return content


@contextlib.contextmanager
def structure_checked(where: str) -> Iterator[None]:
  """Converts the exceptions of values of another type or structure.

  Args:
    where: File and field, for the error.

  Raises:
    DamagedFileError: In place of those exceptions.
  """
  try:
    yield
  except rows_lib.DamagedFileError:
    raise
  except (AttributeError, LookupError, TypeError, ValueError) as error:
    raise rows_lib.DamagedFileError(
        f'{where} must have the structure of its format, but {error!r}.'
    ) from error
