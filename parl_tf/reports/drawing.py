"""Common style of all figures: colors, curves, legends and files."""

import os
from typing import Any, Dict, Mapping, NamedTuple, Sequence

import numpy as np

from parl_tf import synced_file

# The palette of Okabe and Ito, which remains distinguishable with color vision
# deficiency. The purple is darker, because it also colors text.
BLUE, VERMILION, GREEN, PURPLE = '#0072B2', '#D55E00', '#009E73', '#AA3377'
ORANGE, SKY_BLUE, GRAY = '#E69F00', '#56B4E9', '#555555'
LIGHT_GRAY = '#dddddd'
MAX_CURVES = 8
"""With more curves than this, each has a separate panel."""
MARKS = dict(markersize=5, markeredgecolor='white', markeredgewidth=0.6)
BAND = dict(alpha=0.17, linewidth=0)

_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, GRAY)
# One more than colors, so that methods with the same color differ in markers.
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', 'p')
_DASHES = ('-', '--', '-.', ':')
_NUM_MARKS = 14
# Curves are drawn from wide to narrow, so that coinciding ones stay visible.
# In points.
_NARROWEST, _WIDTH_STEP, _MAX_RANGE = 1.6, 1.2, 2.9


class Style(NamedTuple):
  """Style of a method, the same in every figure."""

  color: str
  marker: str
  dashes: str


def make_styles(methods: Sequence[str]) -> Mapping[str, Style]:
  """Returns a style for each method; the first 28 differ without markers."""
  return {
      method: Style(
          _COLORS[i % len(_COLORS)],
          _MARKERS[i % len(_MARKERS)],
          _DASHES[i // len(_COLORS) % len(_DASHES)],
      )
      for i, method in enumerate(methods)
  }


def draw_curves(panel, curves, styles, is_marked, scale=1.0):
  """Draws curves so that each is visible where several coincide.

  Later curves are narrower, above earlier ones, and marked at other points.

  Args:
    panel: Axes to draw on.
    curves: The curves.
    styles: Styles by method.
    is_marked: Whether they have markers.
    scale: Factor on the line widths.
  """
  for i, curve in enumerate(curves):
    draw_curve(
        panel,
        curve,
        styles[curve.method],
        is_marked,
        width=scale * width(i, len(curves)),
        offset=i / len(curves),
    )


def width(i, num_curves) -> float:
  """Returns the line width in points of curve `i`; later ones are narrower."""
  if num_curves == 1:
    return 2.0
  num_later = num_curves - 1 - i
  step = min(_WIDTH_STEP, _MAX_RANGE / (num_curves - 1))
  return _NARROWEST + step * num_later


def draw_curve(panel, curve, style, is_marked, width=2.0, offset=0.0):
  """Draws a curve with its confidence band, or a point with an error bar.

  Too few seeds for an interval are drawn as thin lines.

  Args:
    panel: Axes to draw on.
    curve: The curve.
    style: Its style.
    is_marked: Whether the mean has markers where all seeds have values, and
      each value of a seed is a dot.
    width: Line width in points.
    offset: First marker, as a share of the distance between two of them.
  """
  x, y = curve.x, curve.y
  is_point = len(x) == 1
  measured = np.flatnonzero(curve.is_measured)
  distance = max(1, round(len(measured) / _NUM_MARKS))
  marks = measured[int(offset * distance)::distance]
  has_marker = is_point or (is_marked and len(marks) > 0)
  panel.plot(
      x,
      y.value,
      color=style.color,
      linestyle=style.dashes,
      linewidth=width,
      marker=style.marker if has_marker else None,
      markevery=None if is_point else marks.tolist(),
      **MARKS,
      label=as_label(f'{curve.method} ({seeds_of(curve)})'),
      zorder=3,
  )
  for line in curve.seeds if curve.num_seeds > 1 else ():
    panel.plot(
        line.x,
        line.y,
        color=style.color,
        linewidth=0.0 if y.has_interval else 0.7,
        alpha=0.5,
        marker='.' if is_marked or len(line.x) == 1 else None,
        markersize=4,
    )
  if not y.has_interval:
    return
  if is_point:
    panel.plot(
        np.repeat(x, 2), [y.low[0], y.high[0]], color=style.color, linewidth=2.0
    )
  else:
    panel.fill_between(x, y.low, y.high, color=style.color, **BAND)


def as_label(text: str) -> str:
  """Returns a label that Matplotlib shows as this text."""
  # It typesets what is between dollar signs, and omits labels with a leading
  # underscore from legends.
  text = text.replace('$', r'\$')
  return f' {text}' if text.startswith('_') else text


def seeds_of(curve) -> str:
  """Returns the number of seeds of a curve as text."""
  return f'{curve.num_seeds} seed' + 's' * (curve.num_seeds != 1)


def score_limits(interval, margin: float):
  """Returns the limits of an axis of scores, 0 to 100 and what lies beyond."""
  low, high = interval
  return min(0.0, low) - margin, max(100.0, high) + margin


def make_plot(width, height, title=None):
  """Returns an empty figure of the given size in inches."""
  # Imported lazily: the import is slow, and a run draws only at its end.
  from matplotlib import figure
  from matplotlib.backends import backend_agg

  # A separate figure and canvas, to avoid the global state of pyplot.
  plot = figure.Figure(figsize=(width, height), layout='constrained')
  backend_agg.FigureCanvasAgg(plot)
  if title:
    plot.suptitle(as_label(title), fontsize=12, fontweight='bold')
  return plot


def style_panel(panel, grid_axis):
  """Removes the top and right spines and adds a grid along one axis."""
  panel.spines[['top', 'right']].set_visible(False)
  panel.grid(axis=grid_axis, color=LIGHT_GRAY, linewidth=0.7)
  panel.set_axisbelow(True)


def draw_legend(plot, panels, title=None):
  """Draws one shared legend below all panels, none without labels."""
  handles: Dict[str, Any] = {}
  for panel in panels:
    for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  if not handles:
    return
  longest = max(map(len, handles))
  plot.legend(
      list(handles.values()),
      list(handles),
      loc='outside lower center',
      # As many columns as fit the width, estimated in characters.
      ncols=min(len(handles), max(1, 100 // (longest + 8))),
      frameon=False,
      fontsize=9,
      title=title,
      title_fontsize=9,
  )


def thousands(value, unused_position=None) -> str:
  """Formats a tick label such as 12k or 3M."""
  if abs(value) >= 1e6:
    return f'{value / 1e6:.3g}M'
  return f'{value / 1e3:.3g}k' if abs(value) >= 1e3 else f'{value:g}'


def save(plot, path):
  """Writes a PNG file atomically; creates its directory if it is missing."""
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  with synced_file.write(path) as file:
    plot.savefig(file, dpi=150, format='png')
