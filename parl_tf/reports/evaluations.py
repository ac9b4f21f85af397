"""Reads the episodes of a run's evaluations."""

import csv
import os
from typing import Dict, List, NamedTuple, Tuple

import numpy as np

from parl_tf.reports import run_files

POLICIES = ('search', 'alone')
"""The policy with search, and the policy alone."""


class Evaluation(NamedTuple):
  """What one policy did in one evaluation.

  Attributes:
    metrics_row: Number of its row in `metrics.csv`, from 0.
    phase: Name of the phase.
    train_step: Gradient steps before it.
    num_online_episodes: Online episodes before it, the warm-up included.
    policy: One of `POLICIES`.
    successes: `[N]` bool, by start. Start i is the same in all evaluations of a
      run.
  """

  metrics_row: int
  phase: str
  train_step: int
  num_online_episodes: int
  policy: str
  successes: np.ndarray


def read(folder: str) -> List[Evaluation]:
  """Returns the evaluations of a run in their order.

  A run of an earlier version has none. An incomplete last line is ignored, and
  so are evaluations whose row of `metrics.csv` is not written yet.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If a column is missing, a line is truncated, or a cell is not a
      number. The message names the line.
  """
  path = os.path.join(folder, run_files.EVALUATIONS)
  if not os.path.exists(path):
    return []
  whole, _, _ = run_files.read_text(path).rpartition('\n')
  header, *lines = list(csv.reader(whole.splitlines())) or [[]]
  if tuple(header) != run_files.EVALUATION_COLUMNS:
    raise ValueError(
        f'{path} must have the columns {list(run_files.EVALUATION_COLUMNS)},'
        f' got {header}.'
    )
  num_rows = len(run_files.read_metrics(folder).phases)
  successes: Dict[Tuple[int, str, int, int, str], List[bool]] = {}
  for number, cells in enumerate(lines, 2):
    try:
      row, phase, step, episodes, policy, start, success, _, _ = cells
      key = (int(row), phase, int(step), int(episodes), policy)
      own = successes.setdefault(key, [])
      if int(start) != len(own):
        raise ValueError(f'start {start} instead of {len(own)}')
      own.append(bool(int(success)))
    except ValueError as error:
      raise ValueError(
          f'{path}, line {number}, must be an episode, got {cells}: {error}.'
      ) from error
  return [
      Evaluation(*key, np.array(own, bool))
      for key, own in successes.items()
      if key[0] < num_rows
  ]
