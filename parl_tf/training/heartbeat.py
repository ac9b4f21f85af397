"""The progress of a run, written at every turn to `heartbeat.json`.

A checkpoint is older. The difference is the work that a restart repeats.
"""

import json
import os

from absl import logging

# A failed write is logged less often than it is tried.
_REPORT_SECONDS = 30


class Heartbeat:
  """Writes and reads the file of one run."""

  def __init__(self, root_dir: str):
    """Initializes the object.

    Args:
      root_dir: The run's directory.
    """
    self._path = os.path.join(root_dir, 'heartbeat.json')

  def write(self, train_step: int, wall_seconds: float) -> None:
    """Records the progress; logs an error if the write fails."""
    temporary = self._path + '.tmp'
    try:
      with open(temporary, 'w', encoding='utf-8') as file:
        json.dump(
            {'train_step': train_step, 'wall_seconds': wall_seconds}, file
        )
      os.replace(temporary, self._path)
    except OSError as error:
      logging.log_every_n_seconds(
          logging.ERROR,
          '%s could not be written: %s',
          _REPORT_SECONDS,
          self._path,
          error,
      )

  def describe_work_since(self, train_step: int, wall_seconds: float) -> str:
    """Returns, as text, the work since a checkpoint with this progress."""
    # A full disk or a power failure may have left no file.
    try:
      with open(self._path, encoding='utf-8') as file:
        latest = json.load(file)
    except (OSError, ValueError) as error:
      logging.warning('%s cannot be read: %s', self._path, error)
      return 'some training steps'
    return (
        f'{latest["train_step"] - train_step} training steps, '
        f'{latest["wall_seconds"] - wall_seconds:.1f} s of work,'
    )
