"""Figures of a report: scores, learning curves and the health of the critic."""

import itertools
import math
import os
from typing import List, Mapping, NamedTuple, Optional, Sequence

from matplotlib import ticker
import numpy as np

from parl_tf.reports import comparison
from parl_tf.reports import curves
from parl_tf.reports import drawing
from parl_tf.reports import runs as runs_lib
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
# If a curve extends beyond the median end by more than this factor, the axis is
# logarithmic beyond the median.
_LONG_RANGE = 20.0
# Line widths of noisy curves, relative to those of scores.
_HEALTH_SCALE = 0.6
# With more curves than this, each has a separate panel.
_MAX_CURVES = 8
_NUM_COLUMNS = 4
_MEAN_AND_BAND = (
    'interquartile mean over seeds with pointwise 95 % bootstrap band, or, for'
    f' fewer than {statistics.MIN_SEEDS} seeds, a line per seed'
)
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
            lambda path: draw_learning_curves(
                path, methods, styles, 'env_steps'
            ),
        ),
        (
            'wall_clock',
            lambda path: draw_learning_curves(
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
    panel.set_xlim(_limits(panel.dataLim.intervalx, 4.0))
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


def draw_learning_curves(
    path: str,
    methods: Sequence[Sequence[runs_lib.Run]],
    styles: Mapping[str, drawing.Style],
    counter: str,
) -> Optional[str]:
  """Draws scores against environment steps or minutes.

  Args:
    path: PNG file to write.
    methods: The runs in one domain, one list per method.
    styles: Styles by method.
    counter: 'env_steps' or 'wall_seconds'.

  Returns:
    The caption; None if there is nothing to draw.
  """
  every = [curves.score_curve(runs, counter) for runs in methods]
  found = [curve for curve in every if curve is not None]
  if not found:
    return None
  is_time = counter == 'wall_seconds'
  if is_time:
    found = [curve._replace(x=curve.x / 60.0) for curve in found]
  domain = methods[0][0].domain
  if len(found) > _MAX_CURVES:
    plot, panels = _draw_side_by_side(found, styles, domain)
  else:
    plot = drawing.make_plot(8.0, 4.8, domain)
    panels = [plot.subplots()]
    drawing.draw_curves(panels[0], found, styles, is_marked=True)
    drawing.draw_legend(plot, panels)
  if is_time:
    _draw_beginnings(panels, found, styles)
  for panel in panels:
    panel.set_ylim(_limits(panel.dataLim.intervaly, 3.0))
    _lengthen(panel, found)
    panel.xaxis.set_major_formatter(ticker.FuncFormatter(drawing.thousands))
    drawing.style_panel(panel, 'y')
  label = 'minutes' if is_time else 'environment steps'
  if len(panels) == 1:  # A label of the figure would be under the legend.
    panels[0].set_xlabel(label)
    panels[0].set_ylabel('score')
  else:
    plot.supxlabel(label)
    plot.supylabel('score')
  drawing.save(plot, path)
  text = (
      'Score against wall-clock time, all phases. Dotted: time before the first'
      f' evaluation{_first_evaluation(methods)}'
      if is_time
      else 'Score against environment steps; step 0 is the end of offline'
      ' training. The first episodes are the warm-up, which collects data'
      ' without training'
  )
  return (
      f'{text}. {_MEAN_AND_BAND.capitalize()}, up to the last point that all'
      ' seeds have reached.'
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
      f' {_MEAN_AND_BAND}.'
      ' A line marks the start of the online phase if all runs share it.'
  )
  if max(len(found) for _, _, found in panels_of) > _MAX_CURVES:
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


def _first_evaluation(methods: Sequence[Sequence[runs_lib.Run]]) -> str:
  """Returns what the first evaluation is, if it is the same of all runs."""
  if any(run.initial_run for run in itertools.chain.from_iterable(methods)):
    return ''
  return ', which is that of behavior cloning at its end, without search'


def _draw_beginnings(panels, found, styles):
  """Draws a dotted line from minute 0 to the first evaluation of each curve."""
  for i, curve in enumerate(found):
    panels[i if len(panels) > 1 else 0].plot(
        [0.0, curve.x[0]],
        [curve.y.value[0]] * 2,
        color=styles[curve.method].color,
        linestyle=':',
        linewidth=1.4,
    )


def _draw_side_by_side(found, styles, domain):
  """Draws each curve in its own panel, with all others in gray."""
  num_rows = math.ceil(len(found) / _NUM_COLUMNS)
  plot = drawing.make_plot(10.0, 0.8 + 1.9 * num_rows, domain)
  panels = plot.subplots(
      num_rows, _NUM_COLUMNS, sharex=True, sharey=True, squeeze=False
  ).ravel()
  for panel, curve in zip(panels, found, strict=False):
    for other in found:
      panel.plot(
          other.x, other.y.value, color=drawing.LIGHT_GRAY, linewidth=0.8
      )
    style = styles[curve.method]._replace(dashes='-')
    drawing.draw_curve(panel, curve, style, is_marked=False)
    panel.set_title(
        drawing.as_label(f'{curve.method} ({drawing.seeds_of(curve)})'),
        fontsize=9,
        color=drawing.GRAY,
    )
  for panel in panels[len(found):]:
    panel.set_visible(False)
  # Panels above an empty slot need their own tick labels.
  for panel in panels[len(found) - _NUM_COLUMNS:len(found)]:
    panel.xaxis.set_tick_params(labelbottom=True)
  return plot, list(panels[:len(found)])


def _lengthen(panel, found):
  """Makes the x axis logarithmic beyond most curves if one is much longer."""
  ends = [float(curve.x[-1]) for curve in found if curve.x[-1] > 0.0]
  if ends and max(ends) > _LONG_RANGE * np.median(ends):
    # Rounded, so that the tick labels are exact.
    end = float(f'{np.median(ends):.0e}')
    panel.set_xscale('symlog', linthresh=end, linscale=2.0)
    decades = range(1, 1 + math.ceil(math.log10(max(ends) / end)))
    panel.set_xticks([0.0, end / 2.0, end, *(end * 10.0**x for x in decades)])
    panel.xaxis.set_minor_locator(ticker.NullLocator())
    panel.set_xlim(-0.03 * end, 1.1 * max(ends))


def _limits(interval, margin: float):
  """Returns the limits of an axis of scores, 0 to 100 and what lies beyond."""
  low, high = interval
  return min(0.0, low) - margin, max(100.0, high) + margin


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
