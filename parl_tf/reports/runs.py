"""Reads runs: their methods, seeds and phase results."""

import os
import re
from typing import (
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from parl_tf.reports import run_files
from parl_tf.reports import run_search

_DOMAIN_BINDING = 'select_domain.domain'
_GROUPINGS = ('auto', 'parent', 'name')
# Seed suffix of a run's directory name, if that name also contains the method.
_LEARNER = 'learner'  # The directory of a distributed run that has it.
_NUMBER_ENDING = re.compile(r'[-_]?(seed)?[-_]?(\d+)$')


class Run(NamedTuple):
  """One run directory.

  Attributes:
    path: The directory.
    method: Method of the run.
    seed: The run's seed.
    domain: The domain's name; see `label_domains`.
    settings: Gin bindings as text, by name.
    metrics: Logged metrics.
    is_finished: Whether the run is finished.
    initial_run: Where the run began; None if it started from scratch.
  """

  path: str
  method: str
  seed: int
  domain: str
  settings: Mapping[str, str]
  metrics: run_files.Metrics
  is_finished: bool
  initial_run: Optional[run_files.InitialRun] = None


class PhaseResult(NamedTuple):
  """Result of a phase at its last evaluation.

  Attributes:
    score: 0 to 100, with search if the phase has search.
    score_without_search: 0 to 100; NaN if not logged.
    success_rate: 0 to 1, with search; NaN if the phase has no search.
    success_rate_without_search: 0 to 1; NaN if not logged.
    num_episodes: Number of episodes of the evaluation; 0 if not logged.
    env_steps: Environment steps of this phase.
    wall_seconds: Duration of this phase in seconds.
    is_partial: Whether the run stopped in this phase or is still in it.
    steps_to_success: Mean environment steps to success, over the successful
      episodes with search; NaN if there are none.
    steps_to_success_without_search: Same, without search.
    mean_return: Mean undiscounted return with search; NaN if not logged.
    mean_return_without_search: Same, without search.
    is_taken_over: Whether another run did this phase: the run only evaluated
      what it took over.
  """

  score: float
  score_without_search: float
  success_rate: float
  success_rate_without_search: float
  num_episodes: int
  env_steps: float
  wall_seconds: float
  is_partial: bool
  steps_to_success: float = np.nan
  steps_to_success_without_search: float = np.nan
  mean_return: float = np.nan
  mean_return_without_search: float = np.nan
  is_taken_over: bool = False


class RunSet(NamedTuple):
  """All runs of a report.

  Attributes:
    runs: Sorted by domain, method and seed, with labelled domains.
    notes: Remarks for the reader, one sentence each.
  """

  runs: Tuple[Run, ...]
  notes: Tuple[str, ...]


def read_runs(
    folders: Sequence[str], group_by: str = 'auto', may_repeat: bool = False
) -> RunSet:
  """Reads every run in or below `folders`.

  Args:
    folders: Run directories, or folders that contain some at any depth.
    group_by: Source of a run's method name: 'parent' for its parent directory,
      'name' for its own directory name without the seed suffix, or 'auto' for
      the parent of directories whose name is a seed only, such as `seed_3`,
      otherwise 'name'.
    may_repeat: Whether two runs may have the same method and seed.

  Raises:
    ValueError: If there is no run, a file is missing, truncated or contradicts
      another one, or two runs have the same method and seed, but may not.
  """
  if group_by not in _GROUPINGS:
    raise ValueError(
        f'`group_by` must be one of {list(_GROUPINGS)}, got {group_by!r}.'
    )
  paths, notes = run_search.find_runs(folders)
  runs = []
  for path in paths:
    parent = os.path.basename(os.path.dirname(_own_directory(path)))
    run = read_run(path, parent)
    if group_by == 'name' or (group_by == 'auto' and not _is_seed(path)):
      run = run._replace(method=_name_without_seed(run))
    if not run.metrics.phases.size:
      notes.append(f'{path} is omitted: it has not logged anything yet.')
      continue
    if not run.is_finished:
      last = run.metrics.phases[-1].replace('_', ' ')
      notes.append(f'{path} is not finished; it is in phase {last}.')
    runs.append(run)
  if not runs:
    raise ValueError(
        '`runs` must contain a run with logged metrics. ' + ' '.join(notes)
    )
  runs = label_domains(runs)
  if not may_repeat:
    _check_distinct(runs)
  runs.sort(key=lambda run: (run.domain, run.method, run.seed))
  return RunSet(tuple(runs), (*notes, *_beginnings(runs), *differences(runs)))


def read_run(path: str, method: str) -> Run:
  """Reads one run directory.

  Args:
    path: The directory.
    method: Method of the run.

  Raises:
    ValueError: If a file is missing, truncated or contradicts another one.
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
      initial_run=run_files.read_initial_run(path),
  )
  return run._replace(is_finished=_is_finished(run))


def scores(metrics: run_files.Metrics) -> np.ndarray:
  """Returns `[rows]` scores, with search if available; NaN if not evaluated."""
  score = metrics.columns['score']
  without_search = metrics.column('score_without_search')
  return np.where(np.isfinite(score), score, without_search)


def phase_result(run: Run, phase: str) -> Optional[PhaseResult]:
  """Returns the result of `phase`, or None if it was not evaluated."""
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
      is_taken_over=(
          run.initial_run is not None
          and phase in run.initial_run.skipped_phases
      ),
      **{
          name: float(metrics.column(name)[row])
          for name in run_files.SPEED_METRICS
      },
  )


def check_one_domain(runs: Sequence[Run]) -> None:
  """Raises `ValueError` if runs are of several domains."""
  domains = sorted({run.domain for run in runs})
  if len(domains) > 1:
    raise ValueError(f'All runs must be of one domain, got {domains}.')


def differences(runs: Sequence[Run]) -> List[str]:
  """Returns notes on methods whose seeds have different settings."""
  groups: Dict[Tuple[str, str], List[Run]] = {}
  for run in runs:
    groups.setdefault((run.method, run.domain), []).append(run)
  notes = []
  for (method, domain), group in groups.items():
    settings = [run.settings for run in group]
    if differing := run_files.differing_settings(settings):
      notes.append(
          f'The seeds of {method} in {domain} differ in'
          f' {", ".join(differing)}.'
      )
  return notes


def label_domains(runs: Sequence[Run]) -> List[Run]:
  """Appends to each domain name the settings that differ between its runs.

  This keeps, for instance, scores of a small and a large maze from being
  compared or averaged as if they were from the same domain. The address of a
  task's server does not count.
  """
  labels = []
  every = [run_files.task_settings(run.settings, run.domain) for run in runs]
  kin: Dict[str, List[Mapping[str, str]]] = {}
  for run, settings in zip(runs, every, strict=True):
    kin.setdefault(run.domain, []).append(settings)
  varying = {
      domain: {
          name
          for name in set().union(*group)
          if len({x.get(name) for x in group}) > 1
      }
      for domain, group in kin.items()
  }
  for run, settings in zip(runs, every, strict=True):
    own = dict(settings)
    # A task of gymnasium is known by its id.
    task = own.pop('id', '').strip('\'"').rpartition(':')[2]
    differing = [
        f'{name}={value}'.replace("'", '')
        for name, value in sorted(own.items())
        if name in varying[run.domain]
    ]
    suffix = f' ({", ".join(differing)})' if differing else ''
    labels.append((task or run.domain) + suffix)
  return [run._replace(domain=x) for run, x in zip(runs, labels, strict=True)]


def _own_directory(path: str) -> str:
  """Returns the directory of a run; its learner's is within that."""
  path = os.path.abspath(path)
  is_learner = os.path.basename(path) == _LEARNER
  return os.path.dirname(path) if is_learner else path


def _is_seed(path: str) -> bool:
  name = os.path.basename(_own_directory(path))
  return _NUMBER_ENDING.fullmatch(name) is not None


def _name_without_seed(run: Run) -> str:
  """Strips a number only if it is the run's seed: `samples_32` stays."""
  name = os.path.basename(_own_directory(run.path))
  ending = _NUMBER_ENDING.search(name)
  if ending and int(ending[2]) == run.seed:
    return name[:ending.start()] or name
  return name


def _domain(path: str, settings: Mapping[str, str]) -> str:
  value = run_files.resolve(settings.get(_DOMAIN_BINDING, ''), settings)
  name = re.fullmatch(r'@([\w./]+)\(\)', value)
  if not name:
    raise ValueError(
        f'{os.path.join(path, run_files.CONFIG)} must bind'
        f' `{_DOMAIN_BINDING}` to a domain, got {value!r}.'
    )
  return re.split(r'[./]', name[1])[-1]


def _beginnings(runs: Sequence[Run]) -> List[str]:
  """Returns notes on runs that began from others, one for seeds of a method."""
  notes: Dict[Tuple[str, str], List[str]] = {}
  for run in runs:
    if run.initial_run is not None:
      initial = run.initial_run
      of_seeds = initial._replace(path=os.path.dirname(initial.path))
      key = os.path.dirname(run.path), of_seeds.describe()
      note = f'{run.path} began from {initial.describe()}.'
      notes.setdefault(key, []).append(note)
  return [
      group[0]
      if len(group) == 1
      else f'{folder}: {len(group)} runs began from {initials}.'
      for (folder, initials), group in notes.items()
  ]


def _is_finished(run: Run) -> bool:
  """Returns whether `summary.json` exists and matches the current metrics."""
  phases = run_files.read_summary_phases(run.path, run.seed)
  if not phases:
    return False
  train_steps = run.metrics.columns['train_step']
  first = run.metrics.first_train_step
  reached = train_steps[-1] if train_steps.size else first
  total = first + sum(phase['train_steps'] for phase in phases.values())
  if reached > total:
    return False  # The run was resumed for more steps.
  if reached < total or run.metrics.is_torn:
    raise ValueError(
        f'{os.path.join(run.path, run_files.METRICS)}: `train_step` must reach'
        f' {total}, as in {run_files.SUMMARY}, got {reached:g}; the file is'
        ' truncated.'
    )
  for name, phase in phases.items():
    result = phase_result(run, name)
    logged = None if result is None else result.score
    score = phase.get('score')
    if score is None:  # Nothing was evaluated, or no longer.
      continue
    if logged is None or abs(logged - score) > 1e-6:
      raise ValueError(
          f'{os.path.join(run.path, run_files.SUMMARY)}: `phases.{name}.score`'
          f' must be {logged}, as in the last evaluation in'
          f' {run_files.METRICS}, got {score}.'
      )
  return True


def _check_distinct(runs: Sequence[Run]) -> None:
  groups: Dict[Tuple[str, str, int], List[str]] = {}
  for run in runs:
    key = (run.domain, run.method, run.seed)
    groups.setdefault(key, []).append(run.path)
  repeated = [
      f'seed {seed} of method {method!r} in {domain} is {" and ".join(paths)}'
      for (domain, method, seed), paths in groups.items()
      if len(paths) > 1
  ]
  if repeated:
    raise ValueError(
        '`runs` must have each seed of a method once, but'
        f' {"; ".join(repeated)}. To leave a run out, name the others, each'
        ' with its own --runs; to keep all, name their directories'
        ' METHOD/seed_S, or choose another --group_by, parent or name.'
    )
