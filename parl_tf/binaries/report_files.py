"""Writes a report on runs to files, and describes it as text."""

import os
from typing import List, Optional, Sequence

from parl_tf.reports import comparison
from parl_tf.reports import controls
from parl_tf.reports import figures
from parl_tf.reports import page
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics
from parl_tf.reports import tables
from parl_tf.training import progress as progress_lib

# The terminal lists at most this many comparisons; the CSV file has all.
_MAX_LISTED_PAIRS = 40


def write_report(
    folders: Sequence[str],
    output: str,
    *,
    baseline: Optional[str] = None,
    group_by: str = 'parent',
    num_resamples: int = statistics.NUM_RESAMPLES,
) -> page.Content:
  """Writes `index.html`, its figures, `table.csv` and `comparisons.csv`.

  Args:
    folders: Run directories, or folders that contain runs at any depth.
    output: Directory of the report; created if it is missing.
    baseline: Method to compare every other method with; None compares every
      pair.
    group_by: Source of a run's method name: 'parent' for its parent directory,
      or 'name' for its own directory name without the seed suffix.
    num_resamples: Number of resamples of each bootstrap.

  Returns:
    The content of the page.

  Raises:
    ValueError: If there is no evaluated run, a file is missing or faulty, two
      runs have the same method and seed, or `baseline` is not a method.
  """
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
  """Returns a human-readable summary of a report."""
  lines: List[str] = [f'Note: {note}' for note in content.run_set.notes]
  cells = [tables.row_cells(row) for row in content.rows]
  lines += ['', tables.as_text(tables.HEADER, cells), *tables.LEGEND]
  if found := controls.table(content.run_set.runs):
    lines += ['', tables.as_text(controls.HEADER, found), *controls.LEGEND]
  if content.pairs:
    lines += [
        '',
        *tables.PAIR_LEGEND,
        page.multiplicity_note(content.pairs),
        '',
        *_pair_lines(content.pairs, output),
    ]
  lines += ['', f'Page: {os.path.join(output, "index.html")}']
  return '\n'.join(lines)


def _pair_lines(
    pairs: Sequence[comparison.Pair], output: str
) -> List[str]:
  """Returns one line per comparison; resolved ones come first if truncated."""
  listed = list(pairs)
  if len(listed) > _MAX_LISTED_PAIRS:
    listed.sort(key=lambda pair: not pair.comparison.is_resolved)  # Stable.
    listed = listed[:_MAX_LISTED_PAIRS]
  lines = [
      f'{pair.domain}, {pair.phase.replace("_", " ")}:'
      f' {comparison.statement(pair)}'
      for pair in listed
  ]
  if len(listed) < len(pairs):
    path = os.path.join(output, 'comparisons.csv')
    lines.append(f'{len(pairs) - len(listed)} more are in {path}.')
  return lines
