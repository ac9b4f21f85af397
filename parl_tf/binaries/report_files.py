"""Writes a report on runs to files, and describes it as text."""

import os
from typing import List, Optional, Sequence

from parl_tf.binaries import outputs
from parl_tf.reports import comparison
from parl_tf.reports import control_comparison
from parl_tf.reports import controls
from parl_tf.reports import figures
from parl_tf.reports import page
from parl_tf.reports import permutation
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics
from parl_tf.reports import tables
from parl_tf.training import progress as progress_lib

MAX_LINES = 30
"""Lines of a summary, at most."""

_MAX_NOTES, _MAX_CONTROLS, _MAX_PAIRS = 3, 3, 4
_HEADER = (
    'domain', 'method', 'phase', 'seeds', 'score', 'of each seed',
    'score without search', 'env steps', 'minutes',
)
_LEGEND = (
    'score: interquartile mean of the last phase over seeds, 0 to 100 [95 %'
    f' bootstrap interval, for {statistics.MIN_SEEDS} or more seeds].',
)


def write_report(
    folders: Sequence[str],
    output: str,
    *,
    baseline: Optional[str] = None,
    group_by: str = 'auto',
    num_resamples: int = statistics.NUM_RESAMPLES,
) -> page.Content:
  """Writes `index.html`, its figures, `table.csv` and `comparisons.csv`.

  Args:
    folders: Run directories, or folders that contain runs at any depth.
    output: Directory of the report; created if it is missing.
    baseline: Method to compare every other method with; None compares every
      pair.
    group_by: Source of a run's method name; see `runs.read_runs`.
    num_resamples: Number of resamples of each bootstrap.

  Returns:
    The content of the page.

  Raises:
    ValueError: If there is no evaluated run, a file is missing or faulty, two
      runs have the same method and seed, `baseline` is not a method, or
      `output` cannot be a directory.
  """
  outputs.check_directory(output)  # The bootstraps may take minutes.
  run_set = runs_lib.read_runs(folders, group_by)
  groups = comparison.make_groups(run_set.runs)
  if not groups:
    raise ValueError('`runs` must contain an evaluated run, but has none.')
  num_pairs = comparison.num_pairs(groups, baseline)
  num_domains = len({group.domain for group in groups})
  # Four figures per domain.
  total = len(groups) + num_pairs + 4 * num_domains
  with progress_lib.Progress('report', total) as bar:
    rows = []
    for group in groups:
      rows.append(comparison.make_row(group, num_resamples=num_resamples))
      bar.update(len(rows))
    pairs = comparison.make_pairs(
        groups,
        baseline,
        num_resamples=num_resamples,
        progress=lambda done: bar.update(len(rows) + done),
    )
    os.makedirs(output, exist_ok=True)
    plots = figures.draw_all(output, run_set.runs, rows)
    bar.update(total)
  content = page.Content(run_set, rows, pairs, plots, num_resamples)
  tables.write_rows(os.path.join(output, 'table.csv'), rows)
  tables.write_pairs(os.path.join(output, 'comparisons.csv'), pairs)
  page.write(os.path.join(output, 'index.html'), content)
  return content


def describe(content: page.Content, output: str) -> str:
  """Returns a summary of a report of at most `MAX_LINES` lines.

  It has the last phase of each method, the best first; the rest is in the files
  of the report.

  Args:
    content: Contents of the report.
    output: Its directory.
  """
  # What is merely good to know comes last.
  notes = [
      f'Note: {note}'
      for note in sorted(content.run_set.notes, key=lambda x: ' began ' in x)
  ]
  before = [*_shortened(notes, _MAX_NOTES, 'notes'), '']
  after = [*_LEGEND, '']
  if found := controls.table(content.run_set.runs):
    lines = tables.as_text(controls.HEADER, found).splitlines()
    after += [*_shortened(lines, 2 + _MAX_CONTROLS, 'controls'), '']
  if statements := control_comparison.statements(content.run_set.runs):
    after += [*_shortened(statements, _MAX_CONTROLS, 'on the page'), '']
  if content.pairs:
    resolved = [x for x in content.pairs if x.comparison.is_resolved]
    pairs = [_statement(pair) for pair in resolved]
    after += [
        f'{len(resolved)} of {len(content.pairs)} comparisons are resolved at'
        f' {permutation.LEVEL:.0%} (permutation test over seeds).',
        *_shortened(pairs, _MAX_PAIRS, 'in comparisons.csv'),
        '',
    ]
  after.append(f'Page: {os.path.join(output, "index.html")}')
  rows = _last_rows(content.rows)
  table = tables.as_text(
      _HEADER, [_cells(row) for row in rows]
  ).splitlines()
  num_free = MAX_LINES - len(before) - len(after) - 1
  table = _shortened(table, num_free, 'in table.csv')
  return '\n'.join([*before, *table, *after])


def _last_rows(rows: Sequence[comparison.Row]) -> List[comparison.Row]:
  """Returns the last phase of each method, by domain, the best first."""
  last = {(row.domain, row.method): row for row in rows}
  order = {domain: i for i, (domain, _) in enumerate(last)}
  return sorted(
      last.values(), key=lambda row: (order[row.domain], -row.score.value)
  )


def _cells(row: comparison.Row) -> List[str]:
  cells = dict(zip(tables.HEADER, tables.row_cells(row), strict=True))
  return [cells[name] for name in _HEADER]


def _statement(pair: comparison.Pair) -> str:
  difference = comparison.as_text(pair.comparison.difference, '+.1f')
  return (
      f'  {pair.domain}, {pair.phase.replace("_", " ")}:'
      f' {comparison.verdict(pair)}, {difference},'
      ' {} and {} seeds'.format(*pair.comparison.num_seeds)
  )


def _shortened(lines: Sequence[str], limit: int, rest: str) -> List[str]:
  """Returns at most `limit` lines, and one that counts the others."""
  if len(lines) <= limit:
    return list(lines)
  return [*lines[:limit], f'  and {len(lines) - limit} more {rest}']
