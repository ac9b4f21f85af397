"""Scores all runs below some folders into one CSV file."""

import csv
import os
from typing import Any, Callable, Dict, List, Sequence

from absl import flags

from parl_tf.binaries import configs
from parl_tf.reports import run_search


def define_flags() -> None:
  """Defines `--runs` and `--output`."""
  flags.DEFINE_multi_string(
      'runs', None, 'Runs, or folders that contain some.', required=True
  )
  flags.DEFINE_string('output', None, 'CSV file to write.', required=True)


def write(
    folders: Sequence[str],
    score: Callable[[str], List[Dict[str, Any]]],
    columns: Sequence[str],
    output: str,
) -> None:
  """Scores runs and writes their rows.

  Args:
    folders: Run directories, or folders that contain some at any depth.
    score: Returns the rows of a run's directory.
    columns: Names of the columns.
    output: Path of the CSV file.
  """
  configs.add_search_path()
  run_dirs, notes = run_search.find_runs(folders)
  for note in notes:
    print(note)
  rows: List[Dict[str, Any]] = []
  for run_dir in run_dirs:
    rows += score(os.path.normpath(run_dir))
  with open(output, 'w', encoding='utf-8', newline='') as file:
    writer = csv.DictWriter(file, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
