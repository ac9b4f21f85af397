"""Compares the settings of the seeds of each entry of a study."""

import glob
import os
from typing import List, Sequence

from parl_tf.reports import run_files


def differences(folders: Sequence[str]) -> List[str]:
  """Returns a sentence for each entry whose seeds differ in their settings.

  Runs of two versions of a gin file have the same command.

  Args:
    folders: Directories of entries, with runs in `seed_S`.

  Raises:
    ValueError: If the configuration of a run is damaged.
  """
  notes = []
  for folder in folders:
    runs = sorted(glob.glob(os.path.join(glob.escape(folder), 'seed_*')))
    settings = [
        run_files.read_config(run)[1]
        for run in runs
        if os.path.exists(os.path.join(run, run_files.CONFIG))
    ]
    if differing := run_files.differing_settings(settings):
      notes.append(f'The seeds of {folder} differ in {", ".join(differing)}.')
  return notes
