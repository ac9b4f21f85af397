"""Reads the files of a run directory that reports need."""

import csv
import json
import os
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

CONFIG = 'config.gin'
METRICS = 'metrics.csv'
EVALUATIONS = 'evaluations.csv'
SUMMARY = 'summary.json'
INITIAL_RUN = 'initial_run.json'
PHASE_CHECKPOINTS = 'phases'
COUNTERS = ('train_step', 'env_steps', 'wall_seconds')
SPEED_METRICS = (
    'steps_to_success',
    'steps_to_success_without_search',
    'mean_return',
    'mean_return_without_search',
)
"""Columns of `metrics.csv` and entries of `summary.json`, besides success."""
EVALUATION_COLUMNS = (
    'metrics_row',
    'phase',
    'train_step',
    'episodes',
    'policy',
    'start',
    'success',
    'steps_to_success',
    'return',
)
"""Columns of `evaluations.csv`."""
# Classes whose settings are settings of a domain that contains them.
_PARTS = {'DrawnMaze': ('PointMaze',)}
# Settings of domains that do not change the task.
_NO_TASK = ('address',)
# Settings of domains that change only the data that a run records.
_RECORDING = ('controller_ctor', 'oracle_min_norm')
# Settings that may differ between the seeds of a method.
_SEED_SETTINGS = (
    'run_experiment.dataset_path',
    'run_experiment.dataset_seed',
    'run_experiment.initial_run',
    'Offline.action_cache',
)
_REQUIRED = ('phase', *COUNTERS, 'score', 'success_rate')
_SEED_LINE = re.compile(r'# seed = (\d+)\s')


class InitialRun(NamedTuple):
  """Contents of `initial_run.json`: where a run began.

  Attributes:
    path: Directory of the other run, as gin named it.
    phase: The other run's phase at whose end this run began.
    skipped_phases: Phases that this run therefore does not train.
    train_step: Training steps of the other run up to that point.
    dataset_path: The other run's dataset; None if it was recorded, and is then
      in this run's directory too.
  """

  path: str
  phase: str
  skipped_phases: Sequence[str]
  train_step: int
  dataset_path: Optional[str]

  def describe(self) -> str:
    """Returns the run and the phase for a reader."""
    return f'{self.path} after {self.phase.replace("_", " ")}'


class Metrics(NamedTuple):
  """Contents of `metrics.csv`.

  Attributes:
    phases: `[rows]` names.
    columns: `[rows]` float64 by name; NaN for empty cells.
    is_torn: Whether an incomplete last line was ignored: the run is still
      writing it, or was killed while writing it.
    first_train_step: The training step at which the run began.
  """

  phases: np.ndarray
  columns: Mapping[str, np.ndarray]
  is_torn: bool = False
  first_train_step: int = 0

  def column(self, name: str) -> np.ndarray:
    """Returns `[rows]` values; all NaN if there is no such column."""
    missing = np.full([len(self.phases)], np.nan)
    return self.columns.get(name, missing)


def read_text(path: str) -> str:
  """Returns the text of a file.

  Raises:
    ValueError: If it is not UTF-8 text.
  """
  with open(path, encoding='utf-8', newline='') as file:
    try:
      return file.read()
    except UnicodeDecodeError as error:
      raise ValueError(f'{path} must be UTF-8 text: {error}.') from error


def read_config(folder: str) -> Tuple[int, Dict[str, str]]:
  """Reads a run's seed and its gin bindings as text, by name.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If the file is missing, is not text, or does not start with the
      seed.
  """
  path = os.path.join(folder, CONFIG)
  if not os.path.exists(path):
    raise ValueError(f'{path} is missing; it defines the seed and the domain.')
  text = read_text(path)
  seed = _SEED_LINE.match(text)
  if not seed:
    raise ValueError(f'{path}, line 1, must be `# seed = N`.')
  return int(seed[1]), parse_settings(text)


def parse_settings(text: str) -> Dict[str, str]:
  """Returns the bindings of a gin configuration as text, by name."""
  settings, name = {}, None
  for line in text.splitlines():
    if line.startswith(' ') and name:  # Continuation of a long value.
      settings[name] = f'{settings[name]} {line.strip()}'.strip()
    elif ' = ' in line and not line.startswith('#'):
      name, _, value = line.partition(' = ')
      settings[name] = value.rstrip('\\').strip()
    else:
      name = None
  return settings


def read_initial_run(folder: str) -> Optional[InitialRun]:
  """Reads where a run began; None if it did not begin from another run.

  Raises:
    ValueError: If the file is not text, is truncated, or has other fields.
  """
  path = os.path.join(folder, INITIAL_RUN)
  if not os.path.exists(path):
    return None
  text = read_text(path)
  try:
    return InitialRun(**json.loads(text))
  except (json.JSONDecodeError, TypeError) as error:
    raise ValueError(
        f'{path} must be JSON with the fields {list(InitialRun._fields)}: '
        f'{error}.'
    ) from error


def read_metrics(folder: str) -> Metrics:
  """Reads the metrics of a run.

  Ignores an incomplete last line, as the run itself does when it resumes.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If the file or a column is missing, the file is not text, a line
      is truncated, or a cell is not a number. The message names line and
      column.
  """
  path = os.path.join(folder, METRICS)
  if not os.path.exists(path):
    raise ValueError(f'{path} is missing.')
  whole, _, rest = read_text(path).rpartition('\n')
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
  initial_run = read_initial_run(folder)
  return Metrics(
      np.array(phases, str),
      columns,
      is_torn=bool(rest),
      first_train_step=initial_run.train_step if initial_run else 0,
  )


def read_summary_phases(
    folder: str, seed: int
) -> Mapping[str, Mapping[str, float]]:
  """Reads the phases of `summary.json`; empty if there is no such file.

  Args:
    folder: The run's directory.
    seed: The run's seed, which must match the file.

  Raises:
    ValueError: If the file is not text, is truncated, has another seed, or
      lacks a field.
  """
  path = os.path.join(folder, SUMMARY)
  if not os.path.exists(path):
    return {}
  text = read_text(path)
  try:
    summary = json.loads(text)
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
      if field == 'score' and phase.get('num_evaluation_episodes') == 0:
        continue
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


def task_settings(
    settings: Mapping[str, str], domain: str
) -> Dict[str, str]:
  """Returns the settings of a domain, in any scope, with macros resolved.

  Args:
    settings: Gin bindings as text, by name.
    domain: Name of the domain's class.
  """
  parts = _PARTS.get(domain, ())
  found = {}
  for name, value in settings.items():
    configurable, _, parameter = name.rpartition('.')
    *scopes, class_name = re.split(r'[./]', configurable)
    if class_name in (domain, *parts) and parameter not in (
        *_NO_TASK, *_RECORDING
    ):
      names = [*scopes, parameter]
      if class_name in parts:
        names.insert(-1, class_name)
      found['/'.join(names)] = resolve(value, settings)
  return found


def differing_settings(settings: Sequence[Mapping[str, str]]) -> List[str]:
  """Returns the names of settings that differ, but should not between seeds.

  Args:
    settings: Gin bindings of each run as text, by name.
  """
  names = sorted({name for own in settings for name in own})
  return [
      name
      for name in names
      if name not in _SEED_SETTINGS
      and name.rpartition('.')[2] not in _NO_TASK
      and len({own.get(name) for own in settings}) > 1
  ]


def resolve(value: str, settings: Mapping[str, str]) -> str:
  """Returns the value of a macro, or a value that is none."""
  while value.startswith('%'):
    value = settings.get(value[1:], '')
  return value
