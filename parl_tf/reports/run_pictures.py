"""Draws the pictures in the `report` directory of a run."""

import os
from typing import Mapping, Optional

from parl_tf.reports import evaluations
from parl_tf.reports import learning_curve
from parl_tf.reports import run_files
from parl_tf.reports import start_map

LEARNING_CURVE = os.path.join('report', 'learning_curve.png')
START_MAP = os.path.join('report', 'starts.png')


def draw(
    root_dir: str, references: Mapping[str, Optional[float]], title: str
) -> None:
  """Draws the learning curve, and the successes by start.

  Args:
    root_dir: The run's directory.
    references: See `learning_curve.draw`.
    title: Title of the pictures.

  Raises:
    ValueError: If a file of the run is faulty.
  """
  learning_curve.draw(
      os.path.join(root_dir, LEARNING_CURVE),
      run_files.read_metrics(root_dir),
      references=references,
      title=title,
  )
  start_map.draw(
      os.path.join(root_dir, START_MAP),
      evaluations.read(root_dir),
      title=title,
  )
