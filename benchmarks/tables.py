"""Writes tables of both READMEs from the committed results of studies.

  python -m benchmarks.tables

A table stands between the comments `<!-- table NAME -->` and `<!-- end -->`,
where NAME is a kind and the folder of the study. `scores` are made from
`results.csv`, which `benchmarks.methods` writes, `claims` from `claims.csv` of
`benchmarks.claims`, `drift` from `drift.csv` of `benchmarks.drift`, `rivals`
from `rivals.csv` of `benchmarks.rivals`, `controls` from `controls.json` of
each run, `summary` from the last two files of several studies, and `quickstart`
from `study.csv` of `benchmarks/quickstart_study.py`. With `--check`, nothing is
written, and the exit status is 1 if a table differs.
"""

import csv
import pathlib
import re
import sys
from typing import Any, Callable, Dict, List, Mapping, Sequence

from absl import app
from absl import flags
import numpy as np

from benchmarks import markdown
from benchmarks import summary_table
from parl_tf import synced_file
from parl_tf.reports import controls
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics

RESULTS = pathlib.Path(__file__).parent / 'results'
PAGES = (RESULTS / 'README.md', RESULTS.parents[1] / 'README.md')

_TABLE = re.compile(
    r'<!-- table (\w+) ([\w ]+) -->\n(?:(?!<!-- ).)*<!-- end -->', re.DOTALL
)
_SCORES = {
    'cloning': 'behavior_cloning_score_without_search',
    'offline': 'offline_score',
    'online': 'online_score',
    'policy alone': 'online_score_without_search',
}

Row = markdown.Row


def render(text: str, results: pathlib.Path) -> str:
  """Returns a page with its tables made anew.

  Args:
    text: The page.
    results: Folder of the studies.

  Raises:
    KeyError: If a table has an unknown kind.
    FileNotFoundError: If a study lacks the file.
  """

  def replace(match: re.Match) -> str:
    kind, studies = match.groups()
    folders = [results / study for study in studies.split()]
    lines = '\n'.join(_KINDS[kind](*folders))
    gap = '' if kind in ('summary', 'quickstart') else '\n'
    return f'<!-- table {kind} {studies} -->\n{gap}{lines}\n{gap}<!-- end -->'

  return _TABLE.sub(replace, text)


def score_lines(rows: Sequence[Row]) -> List[str]:
  """Returns the Markdown lines of a table of scores, one method a line.

  A score is the mean over seeds, the interquartile mean in brackets, and the
  numbers of all seeds. Methods are in the order of their online means. Runs
  that are not finished are counted, but have no scores.
  """
  # Runs that failed before their first metrics have no domain.
  if len({row['domain'] for row in rows if row['domain']}) > 1:
    raise ValueError('All runs of a table must be of one domain.')
  methods: Dict[str, List[Row]] = {}
  for row in rows:
    # Not the method alone, which entries in other folders may share.
    entry = row['run'].rpartition('/')[0]
    methods.setdefault(entry, []).append(row)
  lines = markdown.head(
      'method', 'seeds', *_SCORES, 'online steps', 'core-minutes'
  )
  lines_by_score = []
  for method, own in methods.items():
    done = [row for row in own if row['status'] == 'finished']
    num_unfinished = len(own) - len(done)
    seeds = f'{len(done)}'
    if num_unfinished:
      seeds += f' and {num_unfinished} unfinished'
    scores = {name: _numbers(done, column) for name, column in _SCORES.items()}
    line = markdown.line(
        f'`{method}`',
        seeds,
        *map(_score_text, scores.values()),
        _mean(done, 'env_steps', ',.0f'),
        _mean(done, 'core_minutes', '.1f'),
    )
    lines_by_score.append((np.mean(scores['online'] or [-np.inf]), line))
  lines_by_score.sort(key=lambda x: -x[0])
  return [*lines, *(line for _, line in lines_by_score)]


def claim_lines(rows: Sequence[Row]) -> List[str]:
  """Returns the Markdown lines of a table of claims that have runs."""
  lines = markdown.head(
      'claim', 'difference of', 'figure (95 % interval)', 'seeds', 'by chance',
      'verdict',
  )
  for row in rows:
    if not row['figure']:
      continue
    figure = f'{float(row["figure"]):.1f}'
    if row['low'] not in ('', 'nan'):  # Few seeds have no interval.
      figure += f' ({float(row["low"]):.1f} to {float(row["high"]):.1f})'
    verdict = row['verdict']
    if verdict == 'not resolved' and row['needed']:
      verdict += f'; needs about {row["needed"]} seeds'
      if ',' in row['seeds']:  # Of two methods.
        verdict += ' each'
    by_chance = f'{float(row["by_chance"]):.1%}'
    lines.append(
        markdown.line(
            row['claim'], row['measure'], figure, row['seeds'], by_chance,
            verdict,
        )
    )
  return lines


def drift_lines(rows: Sequence[Row]) -> List[str]:
  """Returns the Markdown lines of a table of success over online episodes.

  A cell has success with search and of the policy alone, in percent.
  """
  prefix = 'after_'
  columns = [name for name in rows[0] if name.startswith(prefix)]
  runs: Dict[str, Dict[str, Row]] = {}
  for row in rows:
    runs.setdefault(row['run'], {})[row['policy']] = row
  numbers = [name[len(prefix) :] for name in columns]
  lines = markdown.head('run', 'episodes', *numbers, 'best, last third')
  for name, own in runs.items():
    search, alone = own['search'], own['alone']

    def both(column, search=search, alone=alone):
      rates = [row[column] for row in (search, alone)]
      return ' / '.join(f'{float(x):.0f}' for x in rates if x)

    lines.append(
        markdown.line(
            f'`{name}`',
            search['episodes'],
            *map(both, columns),
            f'{both("best")}, {both("last_third")}',
        )
    )
  return lines


def rival_lines(rows: Sequence[Row]) -> List[str]:
  """Returns the Markdown lines of a table of `benchmarks.rivals`.

  A cell has success with search and of the policy alone, in percent.
  """
  prefix = 'search_after_'
  numbers = [x[len(prefix) :] for x in rows[0] if x.startswith(prefix)]
  lines = markdown.head(
      'method', 'seeds', 'before', *numbers, 'each run, with search', 'alone',
      'lead by chance', 'to success', 'to 80 %', 'return, lead by chance',
  )
  for row in rows:
    by_chance = [row.get(f'{x}_by_chance', '') for x in ('search', 'alone')]
    lines.append(
        markdown.line(
            f'`{row["method"]}`',
            _seeds(row),
            row['search_before'] and f'{float(row["search_before"]):.0f}',
            *(
                ' / '.join(
                    f'{float(row[f"{source}_after_{number}"]):.0f}'
                    for source in ('search', 'alone')
                )
                for number in numbers
            ),
            row['search_of_runs'],
            row['alone_of_runs'],
            ' / '.join(f'{x} %' for x in by_chance if x),
            row['steps_to_success'],
            _steps_to_80(row),
            _mean_return(row),
        )
    )
  return lines


def _seeds(row: Row) -> str:
  seeds, runs = row['seeds'], row['runs']
  return seeds if seeds == runs else f'{seeds} ({runs} runs)'


def _steps_to_80(row: Row) -> str:
  reached, runs = row['runs_at_80'], row['runs']
  if reached == runs:
    return row['env_steps_to_80']
  return f'{row["env_steps_to_80"] or "-"} ({reached} of {runs})'


def _mean_return(row: Row) -> str:
  by_chance = row.get('mean_return_by_chance')
  mean = f'{float(row["mean_return"]):.1f}'
  return f'{mean}, {by_chance} %' if by_chance else mean


def quickstart_lines(rows: Sequence[Row]) -> List[str]:
  """Returns the Markdown lines of the quickstart's phases and controls.

  A cell has the mean success of all seeds, in percent.

  Raises:
    ValueError: If the rows are of several variants.
  """
  variants = sorted({row['variant'] for row in rows})
  if len(variants) != 1:
    raise ValueError(f'All rows must be of one variant, got {variants}.')

  def percent(column: str) -> str:
    return f'{100 * np.mean(_numbers(rows, column)):.0f} %'

  temperatures = markdown.listed(controls.TEMPERATURES)
  clone = (percent(f'clone_{x}') for x in controls.TEMPERATURES)
  return [
      *markdown.head(
          f'success, mean of {len(rows)} seeds', 'with search', 'alone'
      ),
      markdown.line('offline RL', percent('offline'), ''),
      markdown.line(
          'online fine-tuning', percent('online'), percent('online_base')
      ),
      markdown.line(
          f'control: the data; the clone at temperatures {temperatures}',
          '',
          f'{percent("data")}; {markdown.listed(list(clone))}',
      ),
      markdown.line(
          'control: self-distillation, the same budget without a critic',
          '',
          percent('self_distillation'),
      ),
  ]


def control_lines(folder: pathlib.Path) -> List[str]:
  """Returns the Markdown lines of the controls of a study's runs."""
  runs = runs_lib.read_runs([str(folder)]).runs
  return [
      *markdown.head(*controls.HEADER[1:]),
      *(markdown.line(*line[1:]) for line in controls.table(runs)),
  ]


def write_and_print(
    path: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    make: Callable[[Sequence[Row]], List[str]],
) -> None:
  """Writes rows to a CSV file, and prints the lines that `make` makes of it."""
  synced_file.write_csv(path, columns, rows)
  with open(path, encoding='utf-8') as file:
    print('\n'.join(make(list(csv.DictReader(file)))))


def _of_file(
    name: str, make: Callable[[Sequence[Row]], List[str]]
) -> Callable[[pathlib.Path], List[str]]:
  """Returns a function that reads a CSV file of a study and calls `make`."""
  return lambda folder: make(markdown.read_rows(folder / name))


def _score_text(scores: Sequence[float]) -> str:
  if not scores:
    return ''
  mean = f'{np.mean(scores):.0f}'
  if len(scores) == 1:
    return mean
  middle = statistics.interquartile_mean(np.array(scores)[:, None])
  each = ' '.join(f'{score:.0f}' for score in scores)
  return f'{mean} ({middle:.0f}): {each}'


def _mean(rows: Sequence[Row], column: str, style: str) -> str:
  numbers = _numbers(rows, column)
  return format(np.mean(numbers), style) if numbers else ''


def _numbers(rows: Sequence[Row], column: str) -> List[float]:
  return [float(row[column]) for row in rows if row[column]]


_KINDS: Dict[str, Callable[..., List[str]]] = {
    'scores': _of_file('results.csv', score_lines),
    'claims': _of_file('claims.csv', claim_lines),
    'drift': _of_file('drift.csv', drift_lines),
    'rivals': _of_file('rivals.csv', rival_lines),
    'summary': summary_table.lines,
    'quickstart': _of_file('study.csv', quickstart_lines),
    'controls': control_lines,
}


def main(_):
  """Writes the tables, or compares them."""
  pages = {page: page.read_text(encoding='utf-8') for page in PAGES}
  new = {page: render(text, RESULTS) for page, text in pages.items()}
  if flags.FLAGS.check:
    sys.exit(int(new != pages))
  for page, text in new.items():
    with synced_file.write(str(page)) as file:
      file.write(text.encode())
    print(f'{page}: {len(_TABLE.findall(text))} tables.')


if __name__ == '__main__':
  flags.DEFINE_bool('check', False, 'Only compare the tables with the results.')
  app.run(main)
