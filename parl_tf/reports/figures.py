"""Figures of a report: scores, their curves and the health of the critic."""

import itertools
import os
from typing import List, Mapping, NamedTuple, Optional, Sequence

from matplotlib import ticker
import numpy as np

from parl_tf.reports import comparison
from parl_tf.reports import curves
from parl_tf.reports import drawing
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import score_curves
from parl_tf.reports import statistics

# Column and label. A critic without a TD term logs only its total loss.
_HEALTH = (
    ('values/mean', 'mean value'),
    ('values/disagreement', 'disagreement'),
    ('losses/td', 'TD loss'),
    ('losses/critic', 'critic loss'),
)
# Positive values whose ratio of maximum to minimum exceeds this are drawn on a
# logarithmic axis.
_LOGARITHMIC_RANGE = 100.0
# Line widths of noisy curves, relative to those of scores.
_HEALTH_SCALE = 0.6
_SEED_OFFSET = 0.27  # Relative to the distance between two methods.


class Plot(NamedTuple):
  """An image file of the report.

  Attributes:
    file_name: File name in the report's directory.
    caption: Description in one or two sentences.
    domain: Domain of the runs shown.
  """

  file_name: str
  caption: str
  domain: str


def draw_all(
    output: str,
    runs: Sequence[runs_lib.Run],
    rows: Sequence[comparison.Row],
) -> List[Plot]:
  """Draws every figure for which there is data.

  Args:
    output: Directory to write to.
    runs: All runs.
    rows: Rows of the table.

  Returns:
    The images, ordered by domain.
  """
  styles = drawing.make_styles(list(dict.fromkeys(run.method for run in runs)))
  plots = []
  for number, domain in enumerate(dict.fromkeys(row.domain for row in rows)):
    own = [row for row in rows if row.domain == domain]
    methods = curves.by_method(runs, domain)
    drawings = (
        ('scores', lambda path: draw_scores(path, own, styles)),
        (
            'env_steps',
            lambda path: score_curves.draw(path, methods, styles, 'env_steps'),
        ),
        (
            'wall_clock',
            lambda path: score_curves.draw(
                path, methods, styles, 'wall_seconds'
            ),
        ),
        (
            'critic_health',
            lambda path: draw_critic_health(path, methods, styles),
        ),
    )
    for name, draw in drawings:
      file_name = f'{name}_{number}.png'
      caption = draw(os.path.join(output, file_name))
      if caption:
        plots.append(Plot(file_name, caption, domain))
  return plots


def draw_scores(
    path: str,
    rows: Sequence[comparison.Row],
    styles: Mapping[str, drawing.Style],
) -> str:
  """Draws the score of each method, one panel per phase; returns the caption.

  Args:
    path: PNG file to write.
    rows: Table rows of one domain.
    styles: Styles by method.
  """
  phases = list(dict.fromkeys(row.phase for row in rows))
  shown = {row.method for row in rows}
  methods = [method for method in styles if method in shown]
  plot = drawing.make_plot(
      2.2 + 2.9 * len(phases), 1.5 + 0.45 * len(methods), rows[0].domain
  )
  panels = plot.subplots(1, len(phases), sharey=True, squeeze=False)[0]
  for panel, phase in zip(panels, phases, strict=True):
    for row in rows:
      if row.phase == phase:
        _draw_score(panel, row, methods.index(row.method), styles[row.method])
    panel.set_title(phase.replace('_', ' '), fontsize=11)
    panel.set_xlim(drawing.score_limits(panel.dataLim.intervalx, 4.0))
    panel.set_xlabel('score')
    drawing.style_panel(panel, 'x')
  panels[0].set_yticks(range(len(methods)), map(drawing.as_label, methods))
  panels[0].set_ylim(len(methods) - 0.4, -0.6)
  drawing.save(plot, path)
  return (
      'Score at the end of each phase: interquartile mean over seeds with 95 %'
      f' bootstrap interval, for {statistics.MIN_SEEDS} or more seeds. Small'
      ' dots show the seeds.'
  )


def draw_critic_health(
    path: str,
    methods: Sequence[Sequence[runs_lib.Run]],
    styles: Mapping[str, drawing.Style],
) -> Optional[str]:
  """Draws the values, disagreement and losses that the critic logged.

  Args:
    path: PNG file to write.
    methods: The runs in one domain, one list per method.
    styles: Styles by method.

  Returns:
    The caption; None if nothing was logged.
  """
  panels_of = []
  for column, label in _HEALTH:
    found = [curves.metric_curve(runs, column) for runs in methods]
    found = [curve for curve in found if curve is not None]
    if found:
      panels_of.append((column, label, found))
  if not panels_of:
    return None
  caption = (
      'Health of the critic, averaged within bins of training steps:'
      ' interquartile mean over seeds with pointwise 95 % bootstrap band, or,'
      f' for fewer than {statistics.MIN_SEEDS} seeds, a line per seed.'
      ' A line marks the start of the online phase if all runs share it.'
  )
  if max(len(found) for _, _, found in panels_of) > drawing.MAX_CURVES:
    _draw_health_by_method(path, panels_of, methods, styles)
    return caption
  plot = drawing.make_plot(
      8.0, 1.4 + 2.0 * len(panels_of), methods[0][0].domain
  )
  panels = plot.subplots(len(panels_of), 1, sharex=True, squeeze=False)
  for panel, (column, label, found) in zip(
      panels[:, 0], panels_of, strict=True
  ):
    drawing.draw_curves(
        panel, found, styles, is_marked=False, scale=_HEALTH_SCALE
    )
    panel.set_ylabel(label)
    if _is_wide(found):
      panel.set_yscale('log')
    drawing.style_panel(panel, 'y')
    _draw_online_start(panel, methods, column)
  panels[-1, 0].set_xlabel('training steps of the critic')
  panels[-1, 0].xaxis.set_major_formatter(
      ticker.FuncFormatter(drawing.thousands)
  )
  drawing.draw_legend(plot, panels[:, 0])
  drawing.save(plot, path)
  return caption


def _draw_health_by_method(path, panels_of, methods, styles):
  """Draws a row of panels per method, with all others in gray."""
  shown = {curve.method for _, _, found in panels_of for curve in found}
  rows = [runs[0].method for runs in methods if runs[0].method in shown]
  plot = drawing.make_plot(10.0, 0.8 + 1.3 * len(rows), methods[0][0].domain)
  panels = plot.subplots(
      len(rows), len(panels_of), sharex=True, sharey='col', squeeze=False
  )
  for panel, method in zip(panels[:, 0], rows, strict=True):
    panel.set_title(
        drawing.as_label(method), loc='left', fontsize=9, color=drawing.GRAY
    )
  for column, (name, label, found) in enumerate(panels_of):
    panels[0, column].set_title(label, loc='right', fontsize=10)
    if _is_wide(found):
      panels[0, column].set_yscale('log')
    for panel, method in zip(panels[:, column], rows, strict=True):
      for curve in found:
        if curve.method != method:
          panel.plot(
              curve.x, curve.y.value, color=drawing.LIGHT_GRAY, linewidth=0.6
          )
      for curve in found:
        if curve.method == method:
          style = styles[method]._replace(dashes='-')
          drawing.draw_curve(panel, curve, style, is_marked=False, width=1.6)
      drawing.style_panel(panel, 'y')
      panel.xaxis.set_major_formatter(ticker.FuncFormatter(drawing.thousands))
      _draw_online_start(panel, methods, name)
  plot.supxlabel('training steps of the critic', fontsize=10)
  drawing.save(plot, path)


def _draw_score(panel, row, y, style):
  # Offset from the estimate, which would otherwise cover the dots.
  panel.scatter(
      row.seed_scores,
      np.full_like(row.seed_scores, y + _SEED_OFFSET),
      s=14,
      color=style.color,
      alpha=0.5,
      linewidths=0,
      zorder=2,
  )
  if row.score.has_interval:
    panel.plot(
        [row.score.low, row.score.high],
        [y, y],
        color=style.color,
        linewidth=4.0,
        alpha=0.55,
        solid_capstyle='butt',
        zorder=3,
    )
  panel.plot(
      row.score.value,
      y,
      marker=style.marker,
      color=style.color,
      markersize=7,
      markeredgecolor='white',
      markeredgewidth=0.8,
      zorder=4,
  )


def _draw_online_start(panel, methods, column):
  starts = {
      curves.online_start(run, column)
      for run in itertools.chain.from_iterable(methods)
  } - {None}
  if len(starts) == 1:
    panel.axvline(starts.pop(), color=drawing.GRAY, linewidth=1.0, zorder=1)


def _is_wide(found) -> bool:
  values = np.concatenate([curve.y.value for curve in found])
  smallest = np.min(values)
  return smallest > 0 and np.max(values) > _LOGARITHMIC_RANGE * smallest
