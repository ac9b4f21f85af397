"""Figures of the scores of methods against environment steps or minutes."""

import math
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from matplotlib import ticker
import numpy as np

from parl_tf.reports import curves
from parl_tf.reports import drawing
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics

# If a curve extends beyond the median end by more than this factor, the axis is
# logarithmic beyond the median.
_LONG_RANGE = 20.0
_NUM_COLUMNS = 4
_STEPS = (
    'Score against environment steps; step 0 is the end of offline training.'
    ' The first episodes are the warm-up, which collects data without training.'
)
_KEY = 'dots: evaluations of a seed; line: interquartile mean of the seeds'
_MEAN = (
    'Dots are evaluations of a seed. The line is the interquartile mean over'
    ' seeds, each interpolated linearly between its evaluations, as far as all'
    ' seeds reach; a marker on it is at a point where every seed was evaluated.'
    f' With {statistics.MIN_SEEDS} or more seeds it has a pointwise 95 %'
    ' bootstrap band, with fewer each seed has a thin line.'
)


def draw(
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
    found = [curve.in_units_of(60.0) for curve in found]
  has_mean = any(curve.num_seeds > 1 for curve in found)
  domain = methods[0][0].domain
  if len(found) > drawing.MAX_CURVES:
    plot, panels = _draw_side_by_side(found, styles, domain)
  else:
    plot = drawing.make_plot(8.0, 4.8, domain)
    panels = [plot.subplots()]
    drawing.draw_curves(panels[0], found, styles, is_marked=True)
    drawing.draw_legend(plot, panels, _KEY if has_mean else None)
  if is_time:
    _draw_beginnings(panels, found, styles)
  for panel in panels:
    panel.set_ylim(drawing.score_limits(panel.dataLim.intervaly, 3.0))
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
  parts = [_time_caption(methods) if is_time else _STEPS]
  if has_mean:
    parts.append(_MEAN)
  missing = [
      runs[0].method
      for runs, curve in zip(methods, every, strict=True)
      if curve is None
  ]
  if missing:
    parts.append(
        'Not drawn, for lack of evaluations in a range common to all seeds:'
        f' {", ".join(missing)}.'
    )
  return ' '.join(parts)


def _time_caption(methods: Sequence[Sequence[runs_lib.Run]]) -> str:
  text = (
      'Score against wall-clock time, all phases. Dotted: time before the first'
      ' evaluation of a seed'
  )
  taken_over = _taken_over(methods)
  if not taken_over:
    return (
        f'{text}, which is that of behavior cloning at its end, without search.'
    )
  return (
      f'{text}. The time of phases that runs took over from other runs is not'
      f' included: {"; ".join(taken_over)}.'
  )


def _taken_over(methods: Sequence[Sequence[runs_lib.Run]]) -> List[str]:
  """Returns which phases the runs of each method took over, as text."""
  found = []
  for runs in methods:
    groups: Dict[Tuple[str, ...], int] = {}
    for run in runs:
      if run.initial_run is not None:
        phases = tuple(run.initial_run.skipped_phases)
        groups[phases] = groups.get(phases, 0) + 1
    for phases, count in groups.items():
      names = ' and '.join(x.replace('_', ' ') for x in phases)
      share = '' if count == len(runs) else f' ({count} of {len(runs)} seeds)'
      found.append(f'{names} of {runs[0].method}{share}')
  return found


def _draw_beginnings(panels, found, styles):
  """Draws a dotted line from minute 0 to the first evaluation of each seed."""
  for i, curve in enumerate(found):
    for line in curve.seeds:
      panels[i if len(panels) > 1 else 0].plot(
          [0.0, line.x[0]],
          [line.y[0]] * 2,
          color=styles[curve.method].color,
          linestyle=':',
          linewidth=1.0,
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
    drawing.draw_curve(panel, curve, style, is_marked=True)
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
  ends = [curve.end for curve in found if curve.end > 0.0]
  if ends and max(ends) > _LONG_RANGE * np.median(ends):
    # Rounded, so that the tick labels are exact.
    end = float(f'{np.median(ends):.0e}')
    panel.set_xscale('symlog', linthresh=end, linscale=2.0)
    decades = range(1, 1 + math.ceil(math.log10(max(ends) / end)))
    panel.set_xticks([0.0, end / 2.0, end, *(end * 10.0**x for x in decades)])
    panel.xaxis.set_minor_locator(ticker.NullLocator())
    panel.set_xlim(-0.03 * end, 1.1 * max(ends))
