"""Reads the files of a run directory that reports need."""

import csv
import json
import os
import re
from typing import Dict, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

CONFIG = 'config.gin'
METRICS = 'metrics.csv'
SUMMARY = 'summary.json'
COUNTERS = ('train_step', 'env_steps', 'wall_seconds')
SPEED_METRICS = (
    'steps_to_success',
    'steps_to_success_without_search',
    'mean_return',
    'mean_return_without_search',
)
"""Columns of `metrics.csv` and entries of `summary.json`, besides success."""
_REQUIRED = ('phase', *COUNTERS, 'score', 'success_rate')
_SEED_LINE = re.compile(r'# seed = (\d+)\s')


class Metrics(NamedTuple):
  """Contents of `metrics.csv`.

  Attributes:
    phases: `[rows]` names.
    columns: `[rows]` float64 by name; NaN for empty cells.
    is_torn: Whether an incomplete last line was ignored: the run is still
      writing it, or was killed while writing it.
  """

  phases: np.ndarray
  columns: Mapping[str, np.ndarray]
  is_torn: bool = False

  def column(self, name: str) -> np.ndarray:
    """Returns `[rows]` values; all NaN if there is no such column."""
    missing = np.full([len(self.phases)], np.nan)
    return self.columns.get(name, missing)


def read_config(folder: str) -> Tuple[int, Dict[str, str]]:
  """Reads a run's seed and its gin bindings as text, by name.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If the file is missing or does not start with the seed.
  """
  path = os.path.join(folder, CONFIG)
  if not os.path.exists(path):
    raise ValueError(f'{path} is missing; it defines the seed and the domain.')
  with open(path, encoding='utf-8') as file:
    text = file.read()
  seed = _SEED_LINE.match(text)
  if not seed:
    raise ValueError(f'{path}, line 1, must be `# seed = N`.')
  settings, name = {}, None
  for line in text.splitlines():
    if line.startswith(' ') and name:  # Continuation of a long value.
      settings[name] = f'{settings[name]} {line.strip()}'.strip()
    elif ' = ' in line and not line.startswith('#'):
      name, _, value = line.partition(' = ')
      settings[name] = value.rstrip('\\').strip()
    else:
      name = None
  return int(seed[1]), settings


def read_metrics(folder: str) -> Metrics:
  """Reads the metrics of a run.

  Ignores an incomplete last line, as the run itself does when it resumes.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If the file or a column is missing, a line is truncated, or a
      cell is not a number. The message names line and column.
  """
  path = os.path.join(folder, METRICS)
  if not os.path.exists(path):
    raise ValueError(f'{path} is missing.')
  with open(path, encoding='utf-8', newline='') as file:
    whole, _, rest = file.read().rpartition('\n')
  header, *lines = list(csv.reader(whole.splitlines())) or [[]]
  for name in _REQUIRED:
    if name not in header:
      raise ValueError(f'{path} must have the column `{name}`, got {header}.')
  for number, cells in enumerate(lines, 2):
    if len(cells) != len(header):
      missing = header[min(len(cells), len(header) - 1)]
      raise ValueError(
          f'{path}, line {number}, must have {len(header)} cells, got'
          f' {len(cells)}: it is truncated at `{missing}`.'
      )
  columns = {
      name: _numbers(path, name, [cells[i] for cells in lines])
      for i, name in enumerate(header)
      if name != 'phase'
  }
  phases = [cells[header.index('phase')] for cells in lines]
  return Metrics(np.array(phases, str), columns, is_torn=bool(rest))


def read_summary_phases(
    folder: str, seed: int
) -> Mapping[str, Mapping[str, float]]:
  """Reads the phases of `summary.json`; empty if there is no such file.

  Args:
    folder: The run's directory.
    seed: The run's seed, which must match the file.

  Raises:
    ValueError: If the file is truncated, has another seed, or lacks a field.
  """
  path = os.path.join(folder, SUMMARY)
  if not os.path.exists(path):
    return {}
  try:
    with open(path, encoding='utf-8') as file:
      summary = json.load(file)
  except json.JSONDecodeError as error:
    raise ValueError(f'{path} must be complete JSON: {error}.') from error
  for field in ('seed', 'phases'):
    if field not in summary:
      raise ValueError(f'{path} must have the field `{field}`.')
  if summary['seed'] != seed:
    raise ValueError(
        f'{path}: `seed` must be {seed}, as in {CONFIG}, got'
        f' {summary["seed"]}.'
    )
  for name, phase in summary['phases'].items():
    for field in ('score', 'train_steps'):
      if not isinstance(phase.get(field), (int, float)):
        raise ValueError(
            f'{path}: `phases.{name}.{field}` must be a number, got'
            f' {phase.get(field)!r}.'
        )
  return summary['phases']


def _numbers(path: str, name: str, cells: Sequence[str]) -> np.ndarray:
  numbers = np.full([len(cells)], np.nan)
  for i, cell in enumerate(cells):
    try:
      numbers[i] = float(cell or 'nan')
    except ValueError as error:
      raise ValueError(
          f'{path}, line {i + 2}: `{name}` must be a number, got {cell!r}.'
      ) from error
  return numbers
