"""Compares one method of a study with each of the others, over online episodes.

  python -m benchmarks.rivals --root_dir benchmarks/results/cube_play_seeds

Prints and writes `rivals.csv`, with a row for each method: the mean success
rate in percent after the given numbers of online episodes, with search and of
the policy alone, and the rates of all runs after the last of them.
`search_before` is the mean rate with search before the first episode, of the
runs that have an evaluation there. With search, `steps_to_success` is the mean
number of environment steps of the successes of all runs after the last of them,
and `env_steps_to_80` the median over runs of the environment steps until an
evaluation reached 80 percent, 0 if the last one before the online phase did,
and empty unless more than half of the runs did; `runs_at_80` counts these, and
`mean_return` is the mean return with search after the last of them. `by_chance`
is the p-value of the lead of `--ours` there, by a one-sided permutation test
over seeds, not corrected for the number of methods. With `--average`, rates and
returns of all runs and the p-values are those of the mean over all these
numbers of episodes. `--beside` adds runs of other studies. Further runs of the
same method and seed count in the means; the test takes their mean, because they
are not independent.

A run counts if it has success rates and returns after all of these episodes,
finished or not; a log names the others, and methods whose seeds have different
settings.
"""

import os
import re
from typing import Any, Dict, List, Sequence, Tuple

from absl import app
from absl import flags
from absl import logging
import numpy as np

from benchmarks import drift
from benchmarks import tables
from parl_tf.reports import permutation
from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib

# Success rates or returns `[numbers of episodes]` of a run, by column.
Measured = Dict[str, np.ndarray]

_HIGH_SUCCESS = 0.8
_SEARCH_SETTING = re.compile(r'(Search|Optimizer|Ranking|Method)\.')
_RETURN = 'mean_return'


def compare(
    runs: Sequence[runs_lib.Run],
    ours: str,
    episodes: Sequence[int],
    average: bool = False,
) -> List[Dict[str, Any]]:
  """Returns the rows, in the order of the last means with search.

  Args:
    runs: Runs of all methods.
    ours: Method to compare with the others.
    episodes: Numbers of online episodes.
    average: Whether to compare the means over `episodes`, not the last rates.

  Raises:
    ValueError: If `ours` has no run with success rates and returns after these
      episodes, or the runs are of several domains.
  """
  runs_lib.check_one_domain(runs)
  for note in runs_lib.differences(runs):
    logging.warning('%s', note)
  methods: Dict[str, List[Measured]] = {}
  speeds: Dict[str, List[Tuple[float, float, float]]] = {}
  before: Dict[str, List[float]] = {}
  seeds: Dict[str, List[int]] = {}
  for run in sorted(runs, key=lambda run: run.seed):
    measured = _measured(run, episodes)
    if measured:
      methods.setdefault(run.method, []).append(measured)
      speeds.setdefault(run.method, []).append(_speed(run, episodes[-1]))
      before.setdefault(run.method, []).append(_success_before(run))
      seeds.setdefault(run.method, []).append(run.seed)
    elif 'online' in run.metrics.phases:
      logging.info(
          '%s/seed_%d has no success rates and returns after all of %s online'
          ' episodes.',
          run.method,
          run.seed,
          list(episodes),
      )
  if ours not in methods:
    raise ValueError(
        f'`ours` must be a method with success rates and returns after'
        f' {list(episodes)} online episodes, one of {sorted(methods)}, got'
        f' {ours!r}.'
    )
  rows = []
  for method, own in methods.items():
    row: Dict[str, Any] = {
        'method': method, 'seeds': len(set(seeds[method])), 'runs': len(own)
    }
    compared = {
        column: _compared(own, column, average) for column in own[0]
    }
    of_search = [x for x in before[method] if np.isfinite(x)]
    row['search_before'] = _text(100.0 * np.mean(of_search or [np.nan]), '.3f')
    for source in drift.SOURCES:
      means = np.mean([x[source] for x in own], axis=0)
      for number, mean in zip(episodes, means):
        row[f'{source}_after_{number}'] = f'{mean:.3f}'
      row[f'{source}_of_runs'] = ' '.join(f'{x:.0f}' for x in compared[source])
    of_success, successes, of_80 = np.transpose(speeds[method])
    total = np.sum(successes)
    # Runs without successes have no steps.
    steps = np.sum(np.nan_to_num(of_success) * successes)
    row['steps_to_success'] = f'{steps / total:.1f}' if total else ''
    row['env_steps_to_80'] = _text(np.median(of_80), '.0f')
    row['runs_at_80'] = int(np.sum(np.isfinite(of_80)))
    row[_RETURN] = f'{np.mean(compared[_RETURN]):.3f}'
    if method != ours:
      for column, theirs in compared.items():
        row[f'{column}_by_chance'] = _lead(
            _seed_means(
                _compared(methods[ours], column, average), seeds[ours]
            ),
            _seed_means(theirs, seeds[method]),
        )
    rows.append(row)
  last = f'search_after_{episodes[-1]}'
  return sorted(rows, key=lambda row: -float(row[last]))


def _compared(
    runs: Sequence[Measured], column: str, average: bool
) -> np.ndarray:
  """Returns what is compared, `[runs]`."""
  values = np.stack([run[column] for run in runs])  # [runs, episodes]
  return np.mean(values, axis=1) if average else values[:, -1]


def _seed_means(values: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
  """Returns the means `[number of seeds]` of the runs of each seed."""
  return np.array([
      np.mean(values[np.equal(seeds, seed)]) for seed in sorted(set(seeds))
  ])


def _lead(ours: np.ndarray, theirs: np.ndarray) -> str:
  """Returns how often chance gives such a lead of seeds, in percent."""
  by_chance = permutation.by_chance_of_two(
      ours[:, np.newaxis], theirs[:, np.newaxis], is_two_sided=False
  )
  return f'{100.0 * by_chance:.1f}'


def _measured(
    run: runs_lib.Run, episodes: Sequence[int]
) -> Measured:
  """Returns rates and returns after `episodes`; empty if one is missing."""
  known, numbers = drift.online_evaluations(run)
  places = [np.flatnonzero(numbers == number) for number in episodes]
  if not all(place.size for place in places):
    return {}

  def after(column):
    return run.metrics.column(column)[known][[place[0] for place in places]]

  found = {
      source: 100.0 * after(column) for source, column in drift.SOURCES.items()
  }
  found[_RETURN] = after(_RETURN)
  return found if np.isfinite(list(found.values())).all() else {}


def _speed(run: runs_lib.Run, last: int) -> Tuple[float, float, float]:
  """Returns how fast a run succeeds, and how soon.

  Returns:
    The mean number of environment steps of a success after the last number of
    episodes, NaN if there is none; the number of these successes; and the
    environment steps until success of 80 percent, infinite if no evaluation
    until then reached it.
  """
  known, numbers = drift.online_evaluations(run)
  until = numbers <= last

  def column(name):
    return run.metrics.column(name)[known][until]

  rates = column('success_rate')
  num_successes = rates[-1] * column('num_evaluation_episodes')[-1]
  reached = np.flatnonzero(rates >= _HIGH_SUCCESS)
  steps = column('env_steps')[reached[0]] if reached.size else np.inf
  if _success_before(run) >= _HIGH_SUCCESS:
    steps = 0.0
  return column('steps_to_success')[-1], num_successes, steps


def _success_before(run: runs_lib.Run) -> float:
  """Returns the success rate with search before the online phase, or NaN.

  Earlier versions did not evaluate what a run took over from another one. Then
  the other run's evaluation counts, if it is in the same study and has the same
  search.
  """
  rates = run.metrics.column('success_rate')[run.metrics.phases != 'online']
  rates = rates[np.isfinite(rates)]
  if rates.size:
    return rates[-1]
  if run.initial_run is None:
    return np.nan
  method, seed = run.initial_run.path.rstrip('/').split('/')[-2:]
  path = os.path.join(run.path, '..', '..', method, seed)
  if not os.path.exists(os.path.join(path, run_files.METRICS)):
    return np.nan
  other = runs_lib.read_run(path, method)
  is_same = _search_settings(other) == _search_settings(run)
  return _success_before(other) if is_same else np.nan


def _search_settings(run: runs_lib.Run) -> Dict[str, str]:
  return {
      name: value
      for name, value in run.settings.items()
      if _SEARCH_SETTING.search(name)
  }


def _text(number: float, format_spec: str) -> str:
  return format(number, format_spec) if np.isfinite(number) else ''


def write(path: str, rows: Sequence[Dict[str, Any]]) -> None:
  """Writes the rows, and prints them as a table."""
  columns = max((list(row) for row in rows), key=len)
  tables.write_and_print(path, columns, rows, tables.rival_lines)


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  options = flags.FLAGS
  folders = [options.root_dir, *options.beside]
  runs = runs_lib.read_runs(folders, may_repeat=True).runs
  episodes = sorted(int(x) for x in options.episodes)
  if not episodes:
    raise app.UsageError('--episodes must be numbers of online episodes.')
  rows = compare(runs, options.ours, episodes, options.average)
  write(os.path.join(options.root_dir, 'rivals.csv'), rows)


def run() -> None:
  """Defines the flags and runs the command."""
  flags.DEFINE_string('root_dir', None, 'Folder with runs.', required=True)
  flags.DEFINE_list('beside', [], 'Further folders with runs to compare.')
  flags.DEFINE_string('ours', 'parl_iql', 'Method to compare with the others.')
  flags.DEFINE_list('episodes', ['10', '30', '60'], 'Online episodes to show.')
  flags.DEFINE_bool('average', False, 'Whether to compare means over them.')
  app.run(main)


if __name__ == '__main__':
  run()
