"""The HTML page of a report."""

import html
import os
from typing import List, NamedTuple, Sequence
import urllib.parse

from parl_tf import synced_file
from parl_tf.reports import comparison
from parl_tf.reports import control_comparison
from parl_tf.reports import controls
from parl_tf.reports import figures
from parl_tf.reports import permutation
from parl_tf.reports import run_files
from parl_tf.reports import run_pictures
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import tables

_STYLE = """
body { font: 15px/1.45 sans-serif; color: #222; max-width: 76em;
       margin: 2em auto; padding: 0 1em; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-size: 13px; }
.wide { overflow-x: auto; }
th, td { padding: 3px 9px; text-align: left; white-space: nowrap;
         border-bottom: 1px solid #e4e4e4; }
td:last-child { white-space: normal; }
th { border-bottom: 2px solid #999; }
td { font-variant-numeric: tabular-nums; }
figure { margin: 1.5em 0; }
figure img { max-width: 100%; }
figcaption, .small { color: #555; font-size: 13px; }
.resolved { font-weight: bold; }
"""


# What the page links to in each run's directory, if it is there.
_RUN_FILES = (
    ('picture', run_pictures.LEARNING_CURVE),
    ('starts', run_pictures.START_MAP),
    ('configuration', run_files.CONFIG),
    ('metrics', run_files.METRICS),
    ('export', 'policies'),
)


class Content(NamedTuple):
  """Contents of a page.

  Attributes:
    run_set: The runs, and notes on them.
    rows: Rows of the table.
    pairs: Comparisons.
    plots: Image files in the directory of the page.
    num_resamples: Number of bootstrap resamples behind the tables.
  """

  run_set: runs_lib.RunSet
  rows: Sequence[comparison.Row]
  pairs: Sequence[comparison.Pair]
  plots: Sequence[figures.Plot]
  num_resamples: int


def write(path: str, content: Content) -> None:
  """Writes the page atomically.

  Args:
    path: HTML file to write, in the directory of the images.
    content: Contents of the page.
  """
  parts = ['<h1>Comparison of runs</h1>', *_introduction(content)]
  for domain in dict.fromkeys(row.domain for row in content.rows):
    parts += _domain_section(domain, content)
  parts += _runs_section(content.run_set.runs, os.path.dirname(path))
  text = '\n'.join(
      [
          '<!DOCTYPE html>',
          '<html lang="en">',
          '<head><meta charset="utf-8"><title>Comparison of runs</title>',
          f'<style>{_STYLE}</style></head>',
          '<body>',
          *parts,
          '</body>',
          '</html>',
          '',
      ]
  )
  with synced_file.write(path) as file:
    file.write(text.encode())


def multiplicity_note(pairs: Sequence[comparison.Pair]) -> str:
  """Returns a note on the expected number of false positives."""
  return (
      f'{len(pairs)} comparisons at 5 %: if all methods were equal, up to'
      f' {permutation.LEVEL * len(pairs):.1f} of them would be resolved by'
      ' chance.'
  )


def _introduction(content: Content) -> List[str]:
  runs = content.run_set.runs
  num_methods = len({run.method for run in runs})
  num_finished = sum(run.is_finished for run in runs)
  parts = [
      f'<p>{_count(num_methods, "method")}, {_count(len(runs), "run")},'
      f' {num_finished} of them finished. Score intervals are over seeds, with'
      f' {content.num_resamples:,} resamples. Data:'
      ' <a href="table.csv">table.csv</a>,'
      ' <a href="comparisons.csv">comparisons.csv</a>.</p>'
  ]
  if content.run_set.notes:
    parts.append('<h2>Notes</h2>')
    parts.append(_list(content.run_set.notes))
  return parts


def _domain_section(domain: str, content: Content) -> List[str]:
  rows = [row for row in content.rows if row.domain == domain]
  pairs = [pair for pair in content.pairs if pair.domain == domain]
  plots = [x for x in content.plots if x.domain == domain]
  parts = [f'<h2>{html.escape(domain)}</h2>']
  # The section heading names the domain, so the table omits it.
  parts.append(
      _table(tables.HEADER[1:], [tables.row_cells(row)[1:] for row in rows])
  )
  parts += [f'<div class="small">{html.escape(x)}</div>' for x in tables.LEGEND]
  own_runs = [run for run in content.run_set.runs if run.domain == domain]
  if lines := controls.table(own_runs):
    parts.append('<h3>Controls</h3>')
    parts.append(_table(controls.HEADER[1:], [line[1:] for line in lines]))
    parts += [
        f'<div class="small">{html.escape(x)}</div>' for x in controls.LEGEND
    ]
    if found := control_comparison.statements(own_runs):
      parts.append(_list(found))
      legend = html.escape(control_comparison.LEGEND)
      parts.append(f'<div class="small">{legend}</div>')
  parts += [_figure(plot) for plot in plots]
  if pairs:
    parts.append('<h3>Comparisons</h3>')
    parts.append(
        _table(
            tables.PAIR_HEADER,
            [tables.pair_cells(pair) for pair in pairs],
            [pair.comparison.is_resolved for pair in pairs],
        )
    )
    notes = (*tables.PAIR_LEGEND, multiplicity_note(content.pairs))
    parts += [f'<div class="small">{html.escape(x)}</div>' for x in notes]
  return parts


def _runs_section(runs: Sequence[runs_lib.Run], output: str) -> List[str]:
  """Lists the runs.

  Args:
    runs: The runs.
    output: Directory of the page, to which the links are relative.
  """
  lines = [
      [
          run.domain,
          run.method,
          str(run.seed),
          'finished' if run.is_finished else 'not finished',
          f'{run.metrics.columns["env_steps"][-1]:,.0f}',
          f'{run.metrics.columns["wall_seconds"][-1] / 60.0:.1f}',
          run.path,
      ]
      for run in runs
  ]
  header = (
      'domain',
      'method',
      'seed',
      'status',
      'env steps',
      'minutes',
      'directory',
      'files',
  )
  links = [_links(run.path, output) for run in runs]
  return ['<h2>Runs</h2>', _table(header, lines, last_cells=links)]


def _links(folder: str, output: str) -> str:
  """Returns links to the files of a run that exist, as HTML."""
  links = []
  for name, file in _RUN_FILES:
    path = os.path.join(folder, file)
    if os.path.exists(path):
      address = urllib.parse.quote(os.path.relpath(path, output or '.'))
      links.append(f'<a href="{address}">{name}</a>')
  return ' '.join(links)


def _table(
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    marked: Sequence[bool] = (),
    last_cells: Sequence[str] = (),
) -> str:
  """Returns a table as HTML.

  Args:
    header: Names of the columns.
    lines: Cells of each row, as text.
    marked: Whether each row is emphasized; none is by default.
    last_cells: A further cell of each row, as HTML.
  """
  def row(cells, tag, is_marked=False):
    mark = ' class="resolved"' if is_marked else ''
    return ''.join(f'<{tag}{mark}>{html.escape(x)}</{tag}>' for x in cells)

  marks = marked or [False] * len(lines)
  ends = [f'<td>{x}</td>' for x in last_cells] or [''] * len(lines)
  body = '\n'.join(
      f'<tr>{row(cells, "td", is_marked)}{end}</tr>'
      for cells, is_marked, end in zip(lines, marks, ends, strict=True)
  )
  return (
      f'<div class="wide"><table>\n<tr>{row(header, "th")}</tr>\n{body}\n'
      '</table></div>'
  )


def _figure(plot: figures.Plot) -> str:
  name = html.escape(plot.file_name, quote=True)
  caption = html.escape(plot.caption)
  return (
      f'<figure><a href="{name}"><img src="{name}" alt="{caption}"></a>'
      f'<figcaption>{caption}</figcaption></figure>'
  )


def _list(texts: Sequence[str]) -> str:
  return f'<ul>{"".join(f"<li>{html.escape(x)}</li>" for x in texts)}</ul>'


def _count(number: int, noun: str) -> str:
  return f'{number} {noun}' + 's' * (number != 1)
