"""Prints whether online success holds after its peak.

  python -m benchmarks.drift --root_dir runs/drift --episodes 10,30,60

Each run with an online phase has a row, with search and for the policy alone:
the success rate after the given numbers of online episodes, the best
evaluation, the mean of the evaluations in the last third of the phase, and the
fall from one to the other. The best of several evaluations exceeds their mean
by chance alone: a run that stays at 80 percent shows a fall of six points on
average after six evaluations of 64 independent episodes. `by_chance` is the
probability in percent of such a fall in a run that does not change after the
first third of the phase, or from its best evaluation on if that is earlier.

If the run has `evaluations.csv`, this is a permutation test: of a policy that
does not change, the evaluations of each start could have come in any order. The
probability is a little too low, because the best evaluation may decide where
the test begins: in a simulation, 8 percent of runs that do not change have less
than 5 percent.
Runs of earlier versions have rates only. Their probability is that of
independent evaluations with one rate. But evaluations share starts and draws,
and vary less: policies that do not change have a deviation of 1 point where
this has 6. So it is too high, and a fall that it excuses may be real.

`start` and `realised` are the predicted and the realised return of the first
action, of the first and of the last online evaluation. Realised returns end at
the time limit, so a policy that never succeeds has the lowest one possible.
"""

import os
import re
from typing import Any, Dict, List, Sequence, Tuple

from absl import app
from absl import flags
import numpy as np

from parl_tf import synced_file
from parl_tf.reports import evaluations as evaluations_lib
from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib

SOURCES = {'search': 'success_rate', 'alone': 'success_rate_without_search'}
"""Columns of success rates: with search, and of the policy alone."""

_NUM_SIMULATIONS = 10_000
_VALUES = {'start': 'values/start', 'realised': 'values/start_realised'}


def measure(
    run: runs_lib.Run, episodes: Sequence[int]
) -> List[Dict[str, Any]]:
  """Returns the rows of a run; none if it has no online evaluation.

  Args:
    run: The run. Its warm-up episode counts as none of the episodes.
    episodes: Numbers of online episodes; a number without an evaluation gives
      an empty cell.
  """
  metrics = run.metrics
  known, numbers = online_evaluations(run)
  if not numbers.size:
    return []
  is_late = numbers > numbers[-1] * 2.0 / 3.0
  num_evaluation_episodes = metrics.column('num_evaluation_episodes')[known]
  evaluations = {
      (x.policy, x.metrics_row): x.successes
      for x in evaluations_lib.read(run.path)
  }
  rows = []
  for source, column in SOURCES.items():
    rates = 100.0 * metrics.column(column)[known]
    found = dict(zip(numbers, rates))
    # Before, success still rises.
    settled = slice(
        min(np.argmax(rates), np.argmax(numbers > numbers[-1] / 3.0)), None
    )
    best, late = np.max(rates), np.mean(rates[is_late])
    successes = [
        # Without a search, as in DPPO, one evaluation counts for both.
        evaluations.get((source, row), evaluations.get(('alone', row)))
        for row in np.flatnonzero(known)[settled]
    ]
    if any(x is None for x in successes):
      by_chance = _chance_of_fall(
          rates[settled] / 100.0,
          is_late[settled],
          num_evaluation_episodes[settled].astype(int),
      )
    else:
      by_chance = _chance_of_order(successes, is_late[settled])
    row = {
        'run': f'{run.method}/seed_{run.seed}',
        'policy': source,
        'episodes': numbers[-1],
        **{f'after_{n}': _text(found.get(n, np.nan)) for n in episodes},
        'best': _text(best),
        'last_third': _text(late),
        'fall': _text(best - late),
        'by_chance': _text(100.0 * by_chance),
    }
    for name, column in _VALUES.items():
      first, *_, last = [*metrics.column(column)[known]] * 2
      row[f'first_{name}'] = _text(first if source == 'search' else np.nan)
      row[f'last_{name}'] = _text(last if source == 'search' else np.nan)
    rows.append(row)
  return rows


def online_evaluations(run: runs_lib.Run) -> Tuple[np.ndarray, np.ndarray]:
  """Returns a mask of the online evaluations, and the online episodes before.

  Args:
    run: The run. Its warm-up episode does not count.
  """
  metrics = run.metrics
  success = metrics.column('success_rate')
  known = (metrics.phases == 'online') & np.isfinite(success)
  numbers = metrics.column('episodes')[known] - _num_warm_up_episodes(run)
  return known, numbers.astype(int)


def _chance_of_fall(rates, is_late, num_episodes: np.ndarray) -> float:
  """Simulates level runs; returns how often they fall as much."""
  random = np.random.default_rng(0)
  draws = random.binomial(
      num_episodes, np.mean(rates), [_NUM_SIMULATIONS, len(rates)]
  ) / num_episodes
  falls = np.max(draws, axis=1) - np.mean(draws[:, is_late], axis=1)
  fall = np.max(rates) - np.mean(rates[is_late])
  return float(np.mean(falls >= fall - 1e-9))


def _chance_of_order(
    successes: Sequence[np.ndarray], is_late: np.ndarray
) -> float:
  """Shuffles the evaluations of each start; returns how often they so fall.

  Args:
    successes: Outcomes by start, of each evaluation. Only the starts that all
      have count.
    is_late: `[E]` bool, whether an evaluation is in the last third.
  """
  random = np.random.default_rng(0)
  num_starts = min(map(len, successes))
  observed = np.stack([x[:num_starts] for x in successes])

  def fall(outcomes):
    rates = np.mean(outcomes, axis=1)
    return np.max(rates) - np.mean(rates[is_late])

  falls = [
      fall(random.permuted(observed, axis=0)) for _ in range(_NUM_SIMULATIONS)
  ]
  # The observed order is one of the possible ones.
  num_falls = np.sum(np.array(falls) >= fall(observed) - 1e-9)
  return float((1 + num_falls) / (1 + _NUM_SIMULATIONS))


def _num_warm_up_episodes(run: runs_lib.Run) -> int:
  settings = run.settings
  online = settings.get('run_experiment.online_ctor', '@Online')
  if re.split(r'[@./]', run_files.resolve(online, settings))[-1] != 'Online':
    return 0  # Other online phases have no warm-up.
  number = settings.get('Online.num_warm_up_episodes', '1')
  return int(run_files.resolve(number, settings))


def _text(number: float) -> str:
  return '' if np.isnan(number) else f'{number:.3f}'


def write(path: str, rows: Sequence[Dict[str, Any]]) -> None:
  """Writes the table, and prints it."""
  synced_file.write_csv(path, list(rows[0]), rows)
  print('| ' + ' | '.join(x.replace('_', ' ') for x in rows[0]) + ' |')
  print('|' + '---|' * len(rows[0]))
  for row in rows:
    print('| ' + ' | '.join(map(str, row.values())) + ' |')
  print(path)


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  options = flags.FLAGS
  runs = runs_lib.read_runs([options.root_dir]).runs
  episodes = [int(x) for x in options.episodes]
  rows = [row for run in runs for row in measure(run, episodes)]
  if not rows:
    raise ValueError(
        f'{options.root_dir} must have a run with an online evaluation.'
    )
  write(os.path.join(options.root_dir, 'drift.csv'), rows)


def run() -> None:
  """Defines the flags and runs the command."""
  flags.DEFINE_string('root_dir', None, 'Folder with runs.', required=True)
  flags.DEFINE_list(
      'episodes', ['10', '20', '30', '50', '100'], 'Online episodes to show.'
  )
  app.run(main)


if __name__ == '__main__':
  run()
