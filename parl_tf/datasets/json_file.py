"""JSON files that describe datasets, and their error handling."""

import json
from typing import Any, Mapping

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
