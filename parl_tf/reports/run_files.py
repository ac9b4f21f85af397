"""The files of a run directory that a report reads."""

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
_REQUIRED = ('phase', *COUNTERS, 'score', 'success_rate')
_SEED_LINE = re.compile(r'# seed = (\d+)\s')


class Metrics(NamedTuple):
  """What stands in `metrics.csv`.

  Attributes:
    phases: `[rows]` names.
    columns: `[rows]` float64 by name, NaN where a cell is empty.
    is_torn: Whether a last line without its end was left out: a process was
      writing it, or was killed over it.
  """

  phases: np.ndarray
  columns: Mapping[str, np.ndarray]
  is_torn: bool = False

  def column(self, name: str) -> np.ndarray:
    """`[rows]` numbers, NaN throughout where there is no such column."""
    missing = np.full([len(self.phases)], np.nan)
    return self.columns.get(name, missing)


def read_config(folder: str) -> Tuple[int, Dict[str, str]]:
  """Reads a run's seed, and gin's bindings by name, as text.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If the file is missing or does not begin with the seed.
  """
  path = os.path.join(folder, CONFIG)
  if not os.path.exists(path):
    raise ValueError(f'{path} is missing: it names the seed and the domain.')
  with open(path, encoding='utf-8') as file:
    text = file.read()
  seed = _SEED_LINE.match(text)
  if not seed:
    raise ValueError(f'{path}, line 1, must be `# seed = N`.')
  settings, name = {}, None
  for line in text.splitlines():
    if line.startswith(' ') and name:  # A long value goes on.
      settings[name] = f'{settings[name]} {line.strip()}'.strip()
    elif ' = ' in line and not line.startswith('#'):
      name, _, value = line.partition(' = ')
      settings[name] = value.rstrip('\\').strip()
    else:
      name = None
  return int(seed[1]), settings


def read_metrics(folder: str) -> Metrics:
  """Reads what a run has logged.

  A last line that has no end is left out, as the run itself would do.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If the file or a column is missing, a line is cut short, or a
      cell is no number; names line and column.
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
          f' {len(cells)}: it is cut short at `{missing}`.'
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
  """Reads the phases of `summary.json`; empty without one.

  Args:
    folder: The run's directory.
    seed: The run's seed, which the file must have too.

  Raises:
    ValueError: If the file is cut short, of another seed, or lacks a field.
  """
  path = os.path.join(folder, SUMMARY)
  if not os.path.exists(path):
    return {}
  try:
    with open(path, encoding='utf-8') as file:
      summary = json.load(file)
  except json.JSONDecodeError as error:
    raise ValueError(f'{path} is no whole JSON: {error}.') from error
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
