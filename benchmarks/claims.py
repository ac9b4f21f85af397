"""Tests which of the paper's claims a study supports.

  python -m benchmarks.claims --root_dir benchmarks/results/pointmaze

Each claim of arXiv:2412.06685 is one number per run, and one comparison of two
methods, or of one method with 0. A claim states the sign of the difference. It
holds if a one-sided permutation test over seeds gives at most 5 %, and
does not hold if the test of the opposite claim does. Otherwise it is not
resolved, and the output gives the number of seeds needed with the observed
variance. `by chance` is the probability of such a difference, or a larger one,
without an effect. Intervals are 95 % bootstrap intervals over seeds, if each
method has five or more. The controls of the study's runs follow. A log names
methods whose seeds have different settings.
"""

import os
import pathlib
from typing import Callable, List, NamedTuple, Optional, Sequence

from absl import app
from absl import flags
from absl import logging
import numpy as np

from benchmarks import tables
from parl_tf.reports import controls
from parl_tf.reports import permutation
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics

OURS = 'parl_cal_ql_diffusion'
# With four equal signs, the one-sided sign test has 6.25 %.
_MIN_SEEDS_OF_ONE = 5
COLUMNS = (
    *('claim', 'measure', 'figure', 'low', 'high', 'seeds'),
    *('verdict', 'by_chance', 'needed'),
)

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


def base_policy_score(run: runs_lib.Run) -> float:
  """Returns the score without search of the last online evaluation."""
  return _score(run, 'online', 'score_without_search')


def base_policy_gain(run: runs_lib.Run) -> float:
  """Returns the gain of the score without search since behavior cloning."""
  before = _score(run, 'behavior_cloning', 'score_without_search')
  return base_policy_score(run) - before


def instability(run: runs_lib.Run) -> float:
  """Returns the mean fall of the score between evaluations; a rise is 0."""
  scores = runs_lib.scores(run.metrics)[run.metrics.phases == 'online']
  scores = scores[np.isfinite(scores)]
  falls = np.maximum(0.0, -np.diff(scores))
  return float(np.mean(falls)) if len(falls) else np.nan


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
    knows_start = np.isfinite(scores[~is_online]).any()
    if run.initial_run is not None and not knows_start:
      return np.nan  # It has the score of another run.
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
          'mean fall from evaluation to evaluation',
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
          'distilling a sample is better than distilling the best action',
          'score without search',
          base_policy_score,
          'sampled_distillation',
          'greedy_distillation',
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

  Raises:
    ValueError: If the runs are of several domains.
  """
  runs_lib.check_one_domain(runs)
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
  is_of_one = claim.second is None
  by_chance, of_opposite = (
      _by_chance(sign * first, sign * second, is_of_one)
      for sign in (1.0, -1.0)
  )
  verdict = 'not resolved'
  if by_chance <= permutation.LEVEL:
    verdict = 'holds'
  elif of_opposite <= permutation.LEVEL:
    verdict = 'does not hold'
  return {
      **row,
      'figure': difference.value,
      'low': difference.low,
      'high': difference.high,
      'verdict': verdict,
      'by_chance': by_chance,
      'needed': _needed(first, second, is_of_one),
  }


def _needed(first, second, is_of_one):
  """Returns the seeds that the claim needs, or None if that is not known."""
  needed = statistics.needed_seeds(first, second, is_two_sided=False)
  if needed is None or not is_of_one:
    return needed
  return max(_MIN_SEEDS_OF_ONE, needed)


def _by_chance(first, second, is_of_one):
  """Returns the one-sided probability that `first` is so much larger."""
  if is_of_one:
    return permutation.by_chance_of_one(first, is_two_sided=False)
  return permutation.by_chance_of_two(first, second, is_two_sided=False)


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
  missing = [row['claim'] for row in rows if 'figure' not in row]
  path = os.path.join(root_dir, 'claims.csv')
  tables.write_and_print(path, COLUMNS, rows, tables.claim_lines)
  if missing:
    print(f'\nNo runs for: {"; ".join(dict.fromkeys(missing))}.')
  if controls.table(runs):
    print('\nControls, without a critic:\n')
    print('\n'.join(tables.control_lines(pathlib.Path(root_dir))))
  else:
    print('\nNo controls: a gain may need no critic; see `parl-controls`.')
  for note in runs_lib.differences(runs):
    logging.warning('%s', note)


if __name__ == '__main__':
  flags.DEFINE_string('root_dir', None, 'Study directory.', required=True)
  flags.DEFINE_string('ours', OURS, "Name of PA-RL's entry in the study.")
  flags.DEFINE_list('minutes', ['2', '5'], 'Durations for score against time.')
  app.run(main)
