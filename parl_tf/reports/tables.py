"""Formats the numbers of a report for the terminal, CSV files and HTML."""

import csv
import io
from typing import List, Optional, Sequence

import numpy as np

from parl_tf import synced_file
from parl_tf.reports import comparison
from parl_tf.reports import run_files
from parl_tf.reports import statistics

HEADER = (
    'domain',
    'method',
    'phase',
    'seeds',
    'score',
    'mean',
    'of each seed',
    'score without search',
    'success',
    'success without search',
    'steps',
    'steps without search',
    'episodes',
    'env steps',
    'minutes',
)
PAIR_HEADER = (
    'phase',
    'first',
    'second',
    'difference of scores',
    'P(first > second)',
    'by chance',
    'seeds',
    'order',
)
LEGEND = (
    'score: interquartile mean over seeds [95 % stratified bootstrap interval'
    f' over seeds; none with fewer than {statistics.MIN_SEEDS}]. mean, of each'
    ' seed: all seeds.',
    'success: share of successful episodes, over all seeds [95 % Wilson'
    ' interval over EPISODES: it describes these policies, not the method].',
    'steps: mean environment steps to success, over the successful episodes of'
    ' all seeds.',
    'seeds: number of seeds in the score; in brackets, how many stopped within'
    ' the phase. Their last evaluation is used.',
    'env steps, minutes: totals of the phase, mean over seeds. Minutes are'
    ' wall-clock time, which equals core-minutes if a run had one core.',
)
PAIR_LEGEND = (
    'P(first > second): probability of improvement, i.e. that a seed of the'
    ' first scores above one of the second [95 % bootstrap interval; none with'
    f' fewer than {statistics.MIN_SEEDS} seeds of either].',
    'by chance: permutation test, the share of all assignments of the runs to'
    ' the two methods (beyond 200,000, of random ones) that give a difference'
    ' of means of at least this size. An order is claimed only if it is at most'
    ' 5 %. With equal numbers of seeds, four each are needed.',
    'Needed seeds: for 80 % power, by the normal approximation'
    ' n = (1.96 + 0.84)^2 (s1^2 + s2^2) / d^2 with the observed variances and'
    ' difference of means.',
)
_FIELDS = (
    'domain',
    'method',
    'phase',
    'num_seeds',
    'num_partial',
    'num_episodes',
    'env_steps',
    'minutes',
)
_ESTIMATES = (
    'score',
    'score_without_search',
    'success_rate',
    'success_rate_without_search',
)


def row_cells(row: comparison.Row) -> List[str]:
  """Returns the table cells of a row, in the order of `HEADER`."""
  partial = f' ({row.num_partial} unfinished)' if row.num_partial else ''
  return [
      row.domain,
      row.method,
      row.phase.replace('_', ' '),
      f'{row.num_seeds}{partial}',
      _text(row.score, '.1f'),
      f'{np.mean(row.seed_scores):.1f}',
      ' '.join(f'{score:.0f}' for score in row.seed_scores),
      _text(row.score_without_search, '.1f'),
      _text(row.success_rate, '.3f'),
      _text(row.success_rate_without_search, '.3f'),
      _mean(row.steps_to_success),
      _mean(row.steps_to_success_without_search),
      str(row.num_episodes),
      f'{row.env_steps:,.0f}',
      f'{row.minutes:.1f}',
  ]


def pair_cells(pair: comparison.Pair) -> List[str]:
  """Returns the table cells of a pair, in the order of `PAIR_HEADER`."""
  return [
      pair.phase.replace('_', ' '),
      pair.first,
      pair.second,
      comparison.as_text(pair.comparison.difference, '+.1f'),
      comparison.as_text(pair.comparison.probability, '.2f'),
      f'{pair.comparison.by_chance:.3f}',
      '{} and {}'.format(*pair.comparison.num_seeds),
      comparison.verdict(pair),
  ]


def as_text(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  """Returns a Markdown table with aligned columns."""
  widths = [max(map(len, column)) for column in zip(header, *lines)]

  def line(cells):
    padded = [x.ljust(w) for x, w in zip(cells, widths, strict=True)]
    return f'| {" | ".join(padded)} |'

  rule = f'|{"|".join("-" * (width + 2) for width in widths)}|'
  return '\n'.join([line(header), rule, *map(line, lines)])


def write_rows(path: str, rows: Sequence[comparison.Row]) -> None:
  """Writes the table as CSV, with each number in its own column.

  Args:
    path: File to write.
    rows: Rows of the table.
  """
  header = [*_FIELDS, *run_files.SPEED_METRICS, *_limit_names(_ESTIMATES)]
  lines = [
      [getattr(row, name) for name in (*_FIELDS, *run_files.SPEED_METRICS)]
      + [x for name in _ESTIMATES for x in _limits(getattr(row, name))]
      for row in rows
  ]
  _write(path, header, lines)


def write_pairs(path: str, pairs: Sequence[comparison.Pair]) -> None:
  """Writes the comparisons as CSV, with each number in its own column.

  Args:
    path: File to write.
    pairs: The comparisons.
  """
  header = [
      *('domain', 'phase', 'first', 'second', 'first_seeds', 'second_seeds'),
      *_limit_names(('difference', 'probability_of_improvement')),
      *('by_chance', 'is_resolved', 'needed_seeds'),
  ]
  lines = [
      [
          *pair[:4],
          *pair.comparison.num_seeds,
          *_limits(pair.comparison.difference),
          *_limits(pair.comparison.probability),
          pair.comparison.by_chance,
          pair.comparison.is_resolved,
          pair.comparison.num_needed_seeds,
      ]
      for pair in pairs
  ]
  _write(path, header, lines)


def _mean(value: Optional[float]) -> str:
  return '-' if value is None else f'{value:.1f}'


def _text(estimate: Optional[statistics.Estimate], style: str) -> str:
  return '-' if estimate is None else comparison.as_text(estimate, style)


def _limit_names(names: Sequence[str]) -> List[str]:
  return [x for name in names for x in (name, f'{name}_low', f'{name}_high')]


def _limits(estimate: Optional[statistics.Estimate]) -> List[Optional[float]]:
  """Returns value, low and high; None for each missing one."""
  if estimate is None:
    return [None] * 3
  return [float(x) if np.isfinite(x) else None for x in estimate]


def _write(path, header, lines):
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(header)
  writer.writerows(lines)
  with synced_file.write(path) as file:
    file.write(text.getvalue().encode())
