"""Tells which of the paper's claims a study bears out.

  python -m benchmarks.claims --root_dir benchmarks/results/pointmaze

Each claim of arXiv:2412.06685 is one number a run, and one comparison of
methods, or of one method with 0. It holds, or does not, where the 95 %
bootstrap interval over seeds excludes 0; else it is not resolved, and the
number of seeds is told that the seen variance would need. Intervals of few
seeds are too narrow: `by chance` tells how often one would exclude 0 were there
nothing to find.
"""

import csv
import os
from typing import Callable, List, NamedTuple, Optional, Sequence

from absl import app
from absl import flags
import numpy as np

from parl_tf.reports import comparison
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics

OURS = 'parl_cal_ql_diffusion'
COLUMNS = (
    *('claim', 'measure', 'figure', 'low', 'high', 'seeds'),
    *('verdict', 'by_chance', 'needed'),
)
# By the fewest seeds of a method; simulated with normally distributed numbers,
# 1,500 studies of one method, and `comparison`'s of two.
_BY_CHANCE_OF_ONE = {2: 0.50, 3: 0.25, 4: 0.12, 5: 0.11}
_BY_CHANCE_OF_TWO = {**comparison.FALSE_ORDERS, 5: 0.07}


class Claim(NamedTuple):
  """What is claimed, as a difference that is then positive.

  Attributes:
    text: The claim.
    measure: What the difference is of.
    number: The measure of a run, NaN where the run lacks it.
    first: Method whose number is the larger one.
    second: The other method, or None for 0.
    is_of_unfinished: Whether runs count that stopped before their end.
  """

  text: str
  measure: str
  number: Callable[[runs_lib.Run], float]
  first: str
  second: Optional[str]
  is_of_unfinished: bool = False


def online_score(run: runs_lib.Run) -> float:
  """The score, 0 to 100, of the last evaluation online."""
  return _score(run, 'online', 'score')


def base_policy_gain(run: runs_lib.Run) -> float:
  """By how much the score without search rose since behaviour cloning."""
  before, after = (
      _score(run, phase, 'score_without_search')
      for phase in ('behavior_cloning', 'online')
  )
  return after - before


def instability(run: runs_lib.Run) -> float:
  """Mean absolute change of the score between online evaluations."""
  scores = runs_lib.scores(run.metrics)[run.metrics.phases == 'online']
  scores = scores[np.isfinite(scores)]
  return float(np.mean(np.abs(np.diff(scores)))) if len(scores) > 1 else np.nan


def overestimation(run: runs_lib.Run) -> float:
  """Predicted minus realised return when fine-tuning begins.

  At least so much where no reward is positive: see `training.value_bias`.
  """
  metrics = run.metrics
  realised = metrics.column('values/start_realised')
  bias = metrics.column('values/start') - realised
  known = np.flatnonzero((metrics.phases == 'offline') & np.isfinite(bias))
  return float(bias[known[-1]]) if len(known) else np.nan


def score_of_time(minutes: float) -> Callable[[runs_lib.Run], float]:
  """Returns the mean score of a run over its first minutes online.

  Between two evaluations the score is that of the first one. A run that stopped
  at its budget counts if it came so far.

  Args:
    minutes: Minutes of the online phase, the same for all methods compared.
  """

  def number(run):
    scores = runs_lib.scores(run.metrics)
    seconds = run.metrics.columns['wall_seconds']
    is_online = run.metrics.phases == 'online'
    start = seconds[is_online][0] if is_online.any() else np.nan
    if not run.is_finished and not seconds[-1] - start >= 60.0 * minutes:
      return np.nan
    known = np.flatnonzero(np.isfinite(scores))
    times = np.clip(seconds[known] - start, 0.0, 60.0 * minutes)
    lengths = np.diff(np.append(times, 60.0 * minutes))
    return float(np.sum(lengths * scores[known]) / (60.0 * minutes))

  return number


def make_claims(minutes: Sequence[float], ours: str = OURS) -> List[Claim]:
  """Returns the claims.

  Args:
    minutes: Of score against time.
    ours: The study's entry of PA-RL.
  """
  return [
      Claim('N = 1 hurts', 'online score', online_score, ours, 'no_global'),
      Claim('T > 0 helps', 'online score', online_score, ours, 'no_local'),
      Claim(
          'base-policy targets are less stable',
          'change from evaluation to evaluation',
          instability,
          'base_policy_targets',
          ours,
      ),
      Claim(
          'self-imitation fails',
          'online score',
          online_score,
          ours,
          'self_imitation',
      ),
      Claim(
          'CEM from random actions overestimates',
          'predicted minus realised return',
          overestimation,
          'cem_random',
          None,
      ),
      Claim(
          'CEM from random actions overestimates more than PA-RL',
          'predicted minus realised return',
          overestimation,
          'cem_random',
          ours,
      ),
      Claim(
          'distillation moves the base policy',
          'score without search, after less before',
          base_policy_gain,
          ours,
          None,
      ),
      Claim(
          'scalar critics over-estimate where HL-Gauss does not',
          'predicted minus realised return',
          overestimation,
          'scalar_critic',
          ours,
      ),
      *(
          Claim(
              f'PA-RL is faster than {name}',
              f'mean score of the first {x:g} minutes online',
              score_of_time(x),
              ours,
              method,
              is_of_unfinished=True,
          )
          for name, method in (
              ('IDQL', 'idql'),
              ('Diffusion Q-learning', 'diffusion_q_learning'),
          )
          for x in minutes
      ),
  ]


def judge(claim: Claim, runs: Sequence[runs_lib.Run]) -> dict:
  """Returns the row of a claim.

  Args:
    claim: What is claimed.
    runs: Of all methods; unfinished ones do not count.
  """
  first = _numbers(claim, claim.first, runs)
  second = np.zeros_like(first)
  if claim.second is not None:
    second = _numbers(claim, claim.second, runs)
  row = {'claim': claim.text, 'measure': claim.measure}
  row['seeds'] = f'{len(first)}'
  if claim.second is not None:
    row['seeds'] += f', {len(second)}'
  if not len(first) or not len(second):
    return {**row, 'verdict': 'no runs'}
  found = statistics.compare(first, second)
  difference = found.difference
  verdict, by_chance = 'not resolved', None
  if found.is_resolved:
    verdict = 'holds' if difference.value > 0.0 else 'does not hold'
    rates = _BY_CHANCE_OF_TWO if claim.second else _BY_CHANCE_OF_ONE
    by_chance = rates.get(min(len(first), len(second)), 0.08)
  return {
      **row,
      'figure': difference.value,
      'low': difference.low,
      'high': difference.high,
      'verdict': verdict,
      'by_chance': by_chance,
      'needed': found.num_needed_seeds,
  }


def _numbers(claim, method, runs):
  numbers = [
      claim.number(run)
      for run in runs
      if run.method == method and (run.is_finished or claim.is_of_unfinished)
  ]
  return np.array([x for x in numbers if np.isfinite(x)])[:, np.newaxis]


def _score(run, phase, name):
  result = runs_lib.phase_result(run, phase)
  return np.nan if result is None else getattr(result, name)


def main(_):
  """Prints the table and writes `claims.csv` beside the runs."""
  root_dir = flags.FLAGS.root_dir
  runs = runs_lib.read_runs([root_dir]).runs
  minutes = [float(x) for x in flags.FLAGS.minutes]
  rows = [judge(x, runs) for x in make_claims(minutes, flags.FLAGS.ours)]
  print('| claim | difference of | figure (95 % interval) | seeds | verdict |')
  print('|---|---|---|---|---|')
  for row in rows:
    if 'figure' not in row:
      continue
    verdict = row['verdict']
    figure = f'{row["figure"]:.1f}'
    if np.isfinite(row['low']):  # One seed has no interval.
      figure += f' ({row["low"]:.1f} to {row["high"]:.1f})'
    if row.get('needed') and verdict == 'not resolved':
      verdict += f'; some {row["needed"]} seeds of each would be needed'
    if row.get('by_chance'):
      verdict += f' (by chance: {row["by_chance"]:.0%})'
    print(
        f'| {row["claim"]} | {row["measure"]} | {figure} | {row["seeds"]} '
        f'| {verdict} |'
    )
  missing = [row['claim'] for row in rows if 'figure' not in row]
  if missing:
    print(f'\nWithout runs: {"; ".join(dict.fromkeys(missing))}.')
  path = os.path.join(root_dir, 'claims.csv')
  with open(path, 'w', encoding='utf-8', newline='') as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)


if __name__ == '__main__':
  flags.DEFINE_string('root_dir', None, 'The study.', required=True)
  flags.DEFINE_string('ours', OURS, "The study's entry of PA-RL.")
  flags.DEFINE_list('minutes', ['2', '5'], 'Of score against time.')
  app.run(main)
