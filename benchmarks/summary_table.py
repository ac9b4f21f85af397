"""The README's table of several studies, with their controls."""

import pathlib
from typing import Any, Iterable, List, Mapping, Optional, Sequence

from benchmarks import markdown
from parl_tf.reports import controls

_TITLES = {
    'both': 'PA-RL',
    'cal_ql': 'Cal-QL',
    'no_local': 'PA-RL without ascent',
    **{x: x.upper() for x in ('expo', 'dsrl', 'idql', 'fql', 'iql', 'rlpd')},
}
# Title of a study in a summary, and the study whose runs have its controls.
_STUDIES = {
    'cube_play_task1_seeds': ('task 1', 'cube_play_faster_task1'),
    'cube_play_ablations_task2': ('task 2', 'cube_play_faster'),
    'cube_play_task3': ('task 3', 'cube_play_task3'),
}


def lines(*folders: pathlib.Path) -> List[str]:
  """Returns the Markdown lines of a table with a column for each study.

  A cell has the success with search and of the policy alone, in percent, after
  the last number of online episodes. The last two rows have the highest rates
  of the controls, of any run and temperature.

  Args:
    *folders: Folders of `_STUDIES`; the first has all methods, in this order.

  Raises:
    ValueError: If a study is unknown, has no controls or has a method that the
      first lacks, or the studies have different numbers of episodes.
  """
  if unknown := [x.name for x in folders if x.name not in _STUDIES]:
    raise ValueError(f'`_STUDIES` must have {unknown}, got {list(_STUDIES)}.')
  studies = [markdown.read_rows(folder / 'rivals.csv') for folder in folders]
  lasts = {
      [x for x in rows[0] if x.startswith('search_after_')][-1]
      for rows in studies
  }
  if len(lasts) > 1:
    raise ValueError(f'All studies must end alike, got {sorted(lasts)}.')
  number = lasts.pop().removeprefix('search_after_')

  methods = {row['method'] for row in studies[0]}
  for folder, rows in zip(folders, studies, strict=True):
    if missing := {row['method'] for row in rows} - methods:
      raise ValueError(
          f'{folders[0]} must have all methods of {folder}, but lacks'
          f' {sorted(missing)}.'
      )

  def cell(rows: Sequence[markdown.Row], method: str) -> str:
    for row in rows:
      if row['method'] == method:
        rates = (row[f'{x}_after_{number}'] for x in ('search', 'alone'))
        return ' / '.join(f'{float(rate):.0f}' for rate in rates)
    return 'not run'

  result = markdown.head(
      f'after {number} episodes', *(_STUDIES[x.name][0] for x in folders)
  )
  for row in studies[0]:
    method = row['method']
    cells = (cell(rows, method) for rows in studies)
    result.append(markdown.line(_TITLES.get(method, method), *cells))
  measured = [_controls(x.parent / _STUDIES[x.name][1]) for x in folders]
  return [
      *result,
      markdown.line(
          'control: the clone at temperatures'
          f' {markdown.listed(controls.TEMPERATURES)}, at most',
          *(_highest(s for x in y for s in x.clone.values()) for y in measured),
      ),
      markdown.line(
          'control: self-distillation, at most in any evaluation',
          *(_highest(x.self_distillation for x in y) for y in measured),
      ),
  ]


def _controls(folder: pathlib.Path) -> List[controls.Controls]:
  """Returns the controls of all runs of a study."""
  paths = sorted(folder.rglob(controls.FILE))
  if not paths:
    raise ValueError(f'{folder} must have runs with controls, but has none.')
  return [x for path in paths if (x := controls.read(str(path.parent)))]


def _highest(scores: Iterable[Optional[Mapping[str, Any]]]) -> str:
  """Returns the highest success rate in percent, of any evaluation."""
  rates = [
      x.get('best_success_rate', x['success_rate'])
      for x in scores
      if x is not None
  ]
  return f'{100 * max(rates):.0f}'
