"""The episodes of all evaluations of a run: `evaluations.csv`.

The evaluations of a run share their start states and the seeds of their draws.
Two policies are therefore best compared start by start, which the rates in
`metrics.csv` do not allow.
"""

import csv
import errno
import io
import os
from typing import Mapping

import numpy as np

from parl_tf import synced_file
from parl_tf.reports import run_files
from parl_tf.training import evaluation_result


class EvaluationsFile:
  """Appends a row for each episode and policy of an evaluation.

  Every evaluation is synced to the disk. A restart drops those that belong to
  dropped rows of `metrics.csv`.
  """

  def __init__(self, root_dir: str, resume_rows: int):
    """Opens the file.

    Args:
      root_dir: The run's directory.
      resume_rows: Number of rows of `metrics.csv` that are kept. Evaluations of
        an earlier version, which did not write this file, are missing.

    Raises:
      ValueError: If the file has other columns.
    """
    self._path = os.path.join(root_dir, run_files.EVALUATIONS)
    self._keep(resume_rows)
    self._file = open(self._path, 'ab', buffering=0)

  def write(
      self,
      metrics_row: int,
      phase: str,
      train_step: int,
      episodes: int,
      results: Mapping[str, evaluation_result.EvaluationResult],
  ) -> None:
    """Appends an evaluation, and flushes it to the disk.

    Args:
      metrics_row: Number of its row in `metrics.csv`, from 0.
      phase: Name of the phase.
      train_step: Gradient steps since the run began.
      episodes: Episodes collected so far.
      results: What each policy did: `search`, the policy with search, or
        `alone`.
    """
    rows = [
        (
            metrics_row, phase, train_step, episodes, policy, start,
            int(result.successes[start]),
            _step(result.success_steps[start]),
            f'{result.returns[start]:.9g}',  # Enough for float32.
        )
        for policy, result in results.items()
        for start in range(len(result.episodes))
    ]
    text = io.StringIO(newline='')
    csv.writer(text, lineterminator='\n').writerows(rows)
    line = text.getvalue().encode()
    with synced_file.named_errors(self._path):
      if self._file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _keep(self, resume_rows):
    """Atomically drops what a kill cut off, and later evaluations."""
    lines = []
    if resume_rows and os.path.exists(self._path):
      with open(self._path, 'rb') as file:
        header, *lines = file.read().split(b'\n')[:-1] or [b'']
      if header != _HEADER:
        raise ValueError(
            f'{self._path} must have the columns {_HEADER.decode()}, got'
            f' {header.decode(errors="replace") or "none"}.'
        )
    with synced_file.write(self._path) as file:
      file.write(_HEADER + b'\n')
      for line in lines:
        if int(line.split(b',')[0]) < resume_rows:
          file.write(line + b'\n')


_HEADER = ','.join(run_files.EVALUATION_COLUMNS).encode()


def _step(number: float) -> str:
  return '' if np.isnan(number) else str(int(number))
