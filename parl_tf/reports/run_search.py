"""Finds run directories."""

import os
from typing import Dict, List, Sequence, Set, Tuple

from parl_tf.reports import run_files


def find_runs(folders: Sequence[str]) -> Tuple[List[str], List[str]]:
  """Finds run directories, which contain `metrics.csv`.

  Args:
    folders: Run directories, or folders that contain some at any depth.

  Returns:
    Their paths, and notes on runs that have started but logged nothing.

  Raises:
    ValueError: If a folder is missing, is a run without `metrics.csv`, or no
      folder contains a run.
  """
  paths: Dict[str, str] = {}
  notes = []
  seen: Set[str] = set()
  for top in folders:
    if not os.path.isdir(top):
      raise ValueError(f'`runs`: there is no directory {top}.')
    for folder, children, files in os.walk(top, followlinks=True):
      # The name of a run counts before those of links to it.
      children.sort(
          key=lambda x: (os.path.islink(os.path.join(folder, x)), x)  # noqa: B023
      )
      if folder != top and os.path.realpath(folder) in seen:
        children.clear()  # A link leads here again, perhaps to itself.
        continue
      seen.add(os.path.realpath(folder))
      is_run = run_files.CONFIG in files or run_files.SUMMARY in files
      if run_files.METRICS in files and not is_run and folder != top:
        notes.append(
            f'{folder} is omitted: it has no {run_files.CONFIG}, as the folder'
            ' of an evaluator.'
        )
        children.clear()
      elif run_files.METRICS in files:
        # Compare real paths, because the same run may be given twice.
        paths.setdefault(os.path.realpath(folder), folder)
        children.clear()
      elif is_run:
        if folder == top:
          raise ValueError(
              f'{folder} must contain {run_files.METRICS}, but does not.'
          )
        notes.append(f'{folder} is omitted: it has no {run_files.METRICS}.')
        children.clear()
  if not paths:
    raise ValueError(
        f'`runs` must contain runs (directories with {run_files.METRICS}), but'
        f' these contain none: {", ".join(folders)}.'
    )
  return list(paths.values()), notes
