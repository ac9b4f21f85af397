"""Tests which of the paper's claims a study supports.

  python -m benchmarks.claims --root_dir benchmarks/results/pointmaze

Each claim of arXiv:2412.06685 is one number per run, and one comparison of two
methods, or of one method with 0. The claim holds, or does not hold, if the 95 %
bootstrap interval over seeds excludes 0. Otherwise it is not resolved, and the
output gives the number of seeds needed with the observed variance. Intervals of
few seeds are too narrow: `by chance` is the probability that an interval
excludes 0 if there is no effect.
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
# By the smaller number of seeds. Simulated with normally distributed numbers:
# 1,500 studies of one method; for two methods, those of `comparison`.
_BY_CHANCE_OF_ONE = {2: 0.50, 3: 0.25, 4: 0.12, 5: 0.11}
_BY_CHANCE_OF_TWO = {**comparison.FALSE_ORDERS, 5: 0.07}


class Claim(NamedTuple):
  """A claim, stated as a difference that should be positive.

  Attributes:
    text: The claim.
    measure: Description of the measure.
    number: Computes the measure of a run; NaN if it is not available.
    first: Method with the larger measure.
    second: The other method, or None to compare with 0.
    is_of_unfinished: Whether unfinished runs count.
  """

  text: str
  measure: str
  number: Callable[[runs_lib.Run], float]
  first: str
  second: Optional[str]
  is_of_unfinished: bool = False


def online_score(run: runs_lib.Run) -> float:
  """Returns the score, 0 to 100, of the last online evaluation."""
  return _score(run, 'online', 'score')


def base_policy_gain(run: runs_lib.Run) -> float:
  """Returns the gain of the score without search since behavior cloning."""
  before, after = (
      _score(run, phase, 'score_without_search')
      for phase in ('behavior_cloning', 'online')
  )
  return after - before


def instability(run: runs_lib.Run) -> float:
  """Returns the mean absolute change of the score between evaluations."""
  scores = runs_lib.scores(run.metrics)[run.metrics.phases == 'online']
  scores = scores[np.isfinite(scores)]
  return float(np.mean(np.abs(np.diff(scores)))) if len(scores) > 1 else np.nan


def overestimation(run: runs_lib.Run) -> float:
  """Returns predicted minus realised return at the start of fine-tuning.

  A lower bound if no reward is positive; see `training.value_bias`.
  """
  metrics = run.metrics
  realised = metrics.column('values/start_realised')
  bias = metrics.column('values/start') - realised
  known = np.flatnonzero((metrics.phases == 'offline') & np.isfinite(bias))
  return float(bias[known[-1]]) if len(known) else np.nan


def score_of_time(minutes: float) -> Callable[[runs_lib.Run], float]:
  """Returns a function that computes the mean score of the first minutes.

  Between two evaluations the score is that of the earlier one. A run that
  stopped at its budget counts if it got this far.

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
    minutes: Durations for the claims about score against time.
    ours: Name of PA-RL's entry in the study.
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
  """Tests a claim and returns its row.

  Args:
    claim: The claim.
    runs: Runs of all methods. Unfinished runs do not count unless the claim
      includes them.
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
  """Prints the table and writes `claims.csv` to the study's directory."""
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
    if np.isfinite(row['low']):  # There is no interval with one seed.
      figure += f' ({row["low"]:.1f} to {row["high"]:.1f})'
    if row.get('needed') and verdict == 'not resolved':
      verdict += f'; needs about {row["needed"]} seeds each'
    if row.get('by_chance'):
      verdict += f' (by chance: {row["by_chance"]:.0%})'
    print(
        f'| {row["claim"]} | {row["measure"]} | {figure} | {row["seeds"]} '
        f'| {verdict} |'
    )
  missing = [row['claim'] for row in rows if 'figure' not in row]
  if missing:
    print(f'\nNo runs for: {"; ".join(dict.fromkeys(missing))}.')
  path = os.path.join(root_dir, 'claims.csv')
  with open(path, 'w', encoding='utf-8', newline='') as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)


if __name__ == '__main__':
  flags.DEFINE_string('root_dir', None, 'Study directory.', required=True)
  flags.DEFINE_string('ours', OURS, "Name of PA-RL's entry in the study.")
  flags.DEFINE_list('minutes', ['2', '5'], 'Durations for score against time.')
  app.run(main)
