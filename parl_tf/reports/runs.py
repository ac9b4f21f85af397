"""Runs: which there are, what they are seeds of, what their phases came to."""

import os
import re
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from parl_tf.reports import run_files

_DOMAIN_BINDING = 'select_domain.domain'
_GROUPINGS = ('parent', 'name')
# What a run's own name ends in, where that names the method too.
_NUMBER_ENDING = re.compile(r'[-_]?(seed)?[-_]?(\d+)$')
# Settings that may differ between the seeds of a method.
_SEED_SETTINGS = ('run_experiment.dataset_path', 'run_experiment.dataset_seed')


class Run(NamedTuple):
  """One run directory.

  Attributes:
    path: The directory.
    method: What the run is a seed of.
    seed: Its seed.
    domain: The domain's name; see `label_domains`.
    settings: gin's bindings by name, as text.
    metrics: What it logged.
    is_finished: Whether it came to its end.
  """

  path: str
  method: str
  seed: int
  domain: str
  settings: Mapping[str, str]
  metrics: run_files.Metrics
  is_finished: bool


class PhaseResult(NamedTuple):
  """What one phase of a run came to at its last evaluation.

  Attributes:
    score: 0 to 100, with search where there was one.
    score_without_search: 0 to 100, NaN where it was not logged.
    success_rate: With search, 0 to 1, NaN where there was none.
    success_rate_without_search: Likewise.
    num_episodes: Episodes of that evaluation, 0 where it was not logged.
    env_steps: Environment steps of this phase.
    wall_seconds: Seconds of this phase.
    is_partial: Whether the run stopped, so far, within this phase.
  """

  score: float
  score_without_search: float
  success_rate: float
  success_rate_without_search: float
  num_episodes: int
  env_steps: float
  wall_seconds: float
  is_partial: bool


class RunSet(NamedTuple):
  """All runs of a report.

  Attributes:
    runs: Sorted by domain, method and seed; domains are labelled.
    notes: What a reader should know of them, one sentence each.
  """

  runs: Tuple[Run, ...]
  notes: Tuple[str, ...]


def read_runs(folders: Sequence[str], group_by: str = 'parent') -> RunSet:
  """Reads every run in or below `folders`.

  Args:
    folders: Run directories, or folders that contain some at any depth.
    group_by: What names a run's method: 'parent', the folder it stands in, or
      'name', its own name without the seed that it ends in.

  Raises:
    ValueError: If there is no run, a file is missing, cut short or at odds
      with another one, or two runs are the same seed of one method.
  """
  if group_by not in _GROUPINGS:
    raise ValueError(
        f'`group_by` must be one of {list(_GROUPINGS)}, got {group_by!r}.'
    )
  paths, notes = find_runs(folders)
  runs = []
  for path in paths:
    parent = os.path.basename(os.path.dirname(os.path.abspath(path)))
    run = read_run(path, parent)
    if group_by == 'name':
      run = run._replace(method=_name_without_seed(run))
    if not run.metrics.phases.size:
      notes.append(f'{path} is left out: it has logged nothing yet.')
      continue
    if not run.is_finished:
      last = run.metrics.phases[-1].replace('_', ' ')
      notes.append(f'{path} is not finished; it stands in {last}.')
    runs.append(run)
  if not runs:
    raise ValueError(
        '`runs` must hold a run that has logged something, but: '
        + ' '.join(notes)
    )
  runs = label_domains(runs)
  _check_distinct(runs)
  runs.sort(key=lambda run: (run.domain, run.method, run.seed))
  return RunSet(tuple(runs), (*notes, *_differences(runs)))


def find_runs(folders: Sequence[str]) -> Tuple[List[str], List[str]]:
  """Finds run directories: those that hold `metrics.csv`.

  Args:
    folders: Run directories, or folders that contain some at any depth.

  Returns:
    Their paths, and notes on runs that were begun but logged nothing.

  Raises:
    ValueError: If a folder is missing, is a run without `metrics.csv`, or none
      holds a run.
  """
  paths, notes = {}, []
  for top in folders:
    if not os.path.isdir(top):
      raise ValueError(f'`runs`: there is no directory {top}.')
    for folder, children, files in os.walk(top):
      children.sort()
      if run_files.METRICS in files:
        # By its real path: the same run may be given twice.
        paths.setdefault(os.path.realpath(folder), folder)
        children.clear()
      elif run_files.CONFIG in files or run_files.SUMMARY in files:
        if folder == top:
          raise ValueError(
              f'{folder} must hold {run_files.METRICS}, but has none.'
          )
        notes.append(f'{folder} is left out: it has no {run_files.METRICS}.')
        children.clear()
  if not paths:
    raise ValueError(
        f'`runs` must hold runs, directories with {run_files.METRICS}, but'
        f' none is in: {", ".join(folders)}.'
    )
  return list(paths.values()), notes


def read_run(path: str, method: str) -> Run:
  """Reads one run directory.

  Args:
    path: The directory.
    method: What the run is a seed of.

  Raises:
    ValueError: If a file is missing, cut short or at odds with another one.
  """
  seed, settings = run_files.read_config(path)
  run = Run(
      path=path,
      method=method,
      seed=seed,
      domain=_domain(path, settings),
      settings=settings,
      metrics=run_files.read_metrics(path),
      is_finished=False,
  )
  return run._replace(is_finished=_is_finished(run))


def scores(metrics: run_files.Metrics) -> np.ndarray:
  """`[rows]` scores: with search, else without it, NaN without evaluation."""
  score = metrics.columns['score']
  without_search = metrics.column('score_without_search')
  return np.where(np.isfinite(score), score, without_search)


def phase_result(run: Run, phase: str) -> Optional[PhaseResult]:
  """Returns what `phase` came to, None where it was not evaluated."""
  metrics = run.metrics
  is_own = metrics.phases == phase
  evaluated = np.flatnonzero(is_own & np.isfinite(scores(metrics)))
  if not evaluated.size:
    return None
  row = evaluated[-1]
  first, last = np.flatnonzero(is_own)[[0, -1]]

  def taken(counter):
    values = metrics.columns[counter]
    return float(values[last] - (values[first - 1] if first else 0.0))

  num_episodes = metrics.column('num_evaluation_episodes')[row]
  without_search = metrics.column('success_rate_without_search')
  return PhaseResult(
      score=float(scores(metrics)[row]),
      score_without_search=float(metrics.column('score_without_search')[row]),
      success_rate=float(metrics.columns['success_rate'][row]),
      success_rate_without_search=float(without_search[row]),
      num_episodes=int(num_episodes) if np.isfinite(num_episodes) else 0,
      env_steps=taken('env_steps'),
      wall_seconds=taken('wall_seconds'),
      is_partial=not run.is_finished and metrics.phases[-1] == phase,
  )


def label_domains(runs: Sequence[Run]) -> List[Run]:
  """Tells domains of one name apart by the settings in which they differ.

  Scores of a small and of a large maze must not be compared, nor averaged as
  if they were one domain's.
  """
  labels = []
  for run in runs:
    kin = [other for other in runs if other.domain == run.domain]
    differing = [
        f'{name.partition(".")[2]}={value}'.replace("'", '')
        for name, value in sorted(run.settings.items())
        if name.startswith(f'{run.domain}.')
        and any(other.settings.get(name) != value for other in kin)
    ]
    suffix = f' ({", ".join(differing)})' if differing else ''
    labels.append(run.domain + suffix)
  return [run._replace(domain=x) for run, x in zip(runs, labels, strict=True)]


def _name_without_seed(run: Run) -> str:
  """A number that is not the run's seed belongs to the method: `samples_32`."""
  name = os.path.basename(os.path.abspath(run.path))
  ending = _NUMBER_ENDING.search(name)
  if ending and int(ending[2]) == run.seed:
    return name[:ending.start()] or name
  return name


def _domain(path: str, settings: Mapping[str, str]) -> str:
  value = settings.get(_DOMAIN_BINDING, '')
  while value.startswith('%'):  # A macro.
    value = settings.get(value[1:], '')
  name = re.fullmatch(r'@([\w./]+)\(\)', value)
  if not name:
    raise ValueError(
        f'{os.path.join(path, run_files.CONFIG)} must bind'
        f' `{_DOMAIN_BINDING}` to a domain, got {value!r}.'
    )
  return re.split(r'[./]', name[1])[-1]


def _is_finished(run: Run) -> bool:
  """Whether `summary.json` is there, and of the run as it stands."""
  phases = run_files.read_summary_phases(run.path, run.seed)
  if not phases:
    return False
  train_steps = run.metrics.columns['train_step']
  reached = train_steps[-1] if train_steps.size else 0
  total = sum(phase['train_steps'] for phase in phases.values())
  if reached > total:
    return False  # It was taken up again, to take more steps.
  if reached < total or run.metrics.is_torn:
    raise ValueError(
        f'{os.path.join(run.path, run_files.METRICS)}: `train_step` must reach'
        f' {total}, as in {run_files.SUMMARY}, got {reached:g}: the file is cut'
        ' short.'
    )
  for name, phase in phases.items():
    result = phase_result(run, name)
    logged = None if result is None else result.score
    if logged is None or abs(logged - phase['score']) > 1e-6:
      raise ValueError(
          f'{os.path.join(run.path, run_files.SUMMARY)}: `phases.{name}.score`'
          ' must be that of the last evaluation in'
          f' {run_files.METRICS}, {logged}, got {phase["score"]}.'
      )
  return True


def _check_distinct(runs: Sequence[Run]) -> None:
  seen = {}
  for run in runs:
    key = (run.domain, run.method, run.seed)
    if key in seen:
      raise ValueError(
          f'{seen[key]} and {run.path} must not both be seed {run.seed} of'
          f' method {run.method!r} in {run.domain}. Lay runs out as'
          ' METHOD/seed_S, or group them by their own names.'
      )
    seen[key] = run.path


def _differences(runs: Sequence[Run]) -> List[str]:
  """Notes on methods whose seeds do not have the same settings."""
  groups = {}
  for run in runs:
    groups.setdefault((run.method, run.domain), []).append(run)
  notes = []
  for (method, domain), group in groups.items():
    names = sorted({name for run in group for name in run.settings})
    differing = [
        name
        for name in names
        if name not in _SEED_SETTINGS
        and len({run.settings.get(name) for run in group}) > 1
    ]
    if differing:
      notes.append(
          f'The seeds of {method} in {domain} differ in'
          f' {", ".join(differing)}.'
      )
  return notes
