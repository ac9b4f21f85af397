"""Directories with networks and their description, replaced as a whole."""

import json
import os
import shutil
from typing import Any, Mapping

from absl import logging
import tensorflow as tf

from parl_tf import synced_file


def replace(
    directory: str,
    networks: Mapping[str, Mapping[str, Any]],
    file_name: str,
    description: Mapping[str, Any],
) -> bool:
  """Writes TensorFlow checkpoints and a JSON file, synced to disk.

  A failed write is logged; an earlier directory then stays as it was.

  Args:
    directory: Directory to replace.
    networks: The objects of each TensorFlow checkpoint, by its name.
    file_name: Name of the JSON file.
    description: Its content.

  Returns:
    Whether everything was written.
  """
  partial = directory + synced_file.PARTIAL_SUFFIX
  try:
    shutil.rmtree(partial, ignore_errors=True)
    synced_file.make_directory(partial)
    for name, items in networks.items():
      tf.train.Checkpoint(**items).write(os.path.join(partial, name))
    with synced_file.write(os.path.join(partial, file_name)) as file:
      file.write(json.dumps(description, indent=2).encode())
    synced_file.replace_directory(partial, directory)
  except (OSError, tf.errors.OpError) as error:
    logging.error('Cannot write %s: %s', directory, error)
    shutil.rmtree(partial, ignore_errors=True)
    return False
  return True
