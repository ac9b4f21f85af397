"""Draws the learning curve of one run."""

import itertools
from typing import Mapping, Optional

import numpy as np

from parl_tf import proportion
from parl_tf.reports import drawing
from parl_tf.reports import phase_axis
from parl_tf.reports import run_files

# Column, legend label, color, marker and dash pattern.
_RATES = (
    # First, because it is wider: the other one stays visible on it.
    ('success_rate', 'with search', drawing.BLUE, 'o', '-'),
    (
        'success_rate_without_search',
        'without search',
        drawing.VERMILION,
        's',
        '--',
    ),
)
# Drawn instead of the rate of the same policy where nothing succeeds.
_RETURNS = {
    'success_rate': 'mean_return',
    'success_rate_without_search': 'mean_return_without_search',
}
_DASHES = (':', '-.')  # Of the reference lines.
_HEALTH = (
    ('values/mean', 'mean value', drawing.GREEN, '-'),
    ('losses/critic', 'critic loss', drawing.PURPLE, '--'),
)
# What there is to see of behavior cloning, which is evaluated at its end only.
_CLONING = ('held_out_loss', 'held-out loss', drawing.VERMILION, '-')

_EPISODE_SUCCESS = 'collect/success'
_WINDOW = 20  # rows, each of an episode or of a turn of DPPO


def draw(
    path: str,
    metrics: run_files.Metrics,
    *,
    references: Optional[Mapping[str, Optional[float]]] = None,
    title: Optional[str] = None,
) -> None:
  """Draws the success rate over all phases of one run.

  Bands are 95 % Wilson intervals, drawn if the column
  `num_evaluation_episodes` has values. A second panel shows the held-out loss
  of cloning, and the critic's mean value and loss, if they were logged. The
  warm-up, online episodes without training, is shaded. Without evaluations, the
  success of the online episodes is drawn. If nothing succeeds, neither an
  evaluation nor an online episode nor a reference, the mean returns are drawn.

  Args:
    path: PNG file to write. Its directory is created if it is missing.
    metrics: Metrics of the run.
    references: Success rates, 0 to 1, to draw as lines, by name, for instance
      those of the controller and of the data. None is not drawn.
    title: Title of the figure, if given.

  Raises:
    ValueError: If `metrics` has no rows.
  """
  if not metrics.phases.size:
    raise ValueError(f'`metrics` must have at least one row to draw {path}.')
  axis = phase_axis.PhaseAxis(metrics)
  positions = axis.positions(metrics)
  health = [
      h for h in (*_HEALTH, _CLONING) if np.isfinite(metrics.column(h[0])).any()
  ]
  plot = drawing.make_plot(9.0, 6.4 if health else 4.6, title)
  panels = plot.subplots(
      2 if health else 1,
      1,
      sharex=True,
      squeeze=False,
      height_ratios=[2.6, 1.0] if health else [2.6],
  )[:, 0]
  draw_outcomes(panels[0], metrics, positions, references or {})
  axis.draw_warm_up(panels[0], metrics)
  num_episodes = metrics.column('num_evaluation_episodes')
  counts = np.unique(num_episodes[np.isfinite(num_episodes)]).astype(int)
  has_returns = _has_returns_only(metrics, references or {})
  shown = 'no success in any' if has_returns else '95 % interval'
  title = f'{"/".join(map(str, counts))} episodes, {shown}'
  drawing.draw_legend(plot, panels[:1], title if counts.size else None)
  if health:
    _draw_health(panels[1], metrics, positions, health)
  for panel in panels:
    drawing.style_panel(panel, 'y')
    axis.draw_boundaries(panel)
  axis.draw_titles(panels[0])
  axis.draw_ticks(panels[-1])
  drawing.save(plot, path)


def draw_outcomes(
    panel,
    metrics: run_files.Metrics,
    positions: np.ndarray,
    references: Mapping[str, Optional[float]],
) -> None:
  """Draws the upper panel: success rates, or returns if nothing succeeds.

  Args:
    panel: Matplotlib axes.
    metrics: Metrics of the run.
    positions: `[rows]` horizontal positions.
    references: As in `draw`.
  """
  if _has_returns_only(metrics, references):
    _draw_returns(panel, metrics, positions)
  else:
    _draw_success(panel, metrics, positions, references)


def _draw_success(panel, metrics, positions, references):
  dash_patterns = itertools.cycle(_DASHES)
  for (name, success_rate), dashes in zip(references.items(), dash_patterns):
    if success_rate is not None:
      panel.axhline(
          success_rate,
          color=drawing.GRAY,
          linestyle=dashes,
          linewidth=1.8,
          label=f'{name} ({success_rate:.2f})',
      )
  _draw_online_episodes(panel, metrics, positions)
  num_episodes = metrics.column('num_evaluation_episodes')
  for i, (column, *_) in enumerate(_RATES):
    is_there = np.isfinite(metrics.column(column))
    if not is_there.any():
      continue
    x, rate = positions[is_there], metrics.column(column)[is_there]
    color = _draw_line(panel, i, x, rate, f'last {rate[-1]:.2f}')
    low, high = _wilson_limits(rate, num_episodes[is_there])
    panel.fill_between(x, low, high, color=color, **drawing.BAND)
  panel.set_ylim(-0.03, 1.03)
  panel.set_ylabel('success rate')


def _draw_returns(panel, metrics, positions):
  for i, (column, *_) in enumerate(_RATES):
    value = metrics.column(_RETURNS[column])
    is_there = np.isfinite(value)
    if is_there.any():
      x, value = positions[is_there], value[is_there]
      _draw_line(panel, i, x, value, f'last {value[-1]:.1f}')
  panel.set_ylabel('mean return')


def _draw_line(panel, i, x, y, note) -> str:
  """Draws the evaluations of policy `i` of `_RATES`; returns the color."""
  _, label, color, marker, dashes = _RATES[i]
  panel.plot(
      x,
      y,
      color=color,
      marker=marker,
      **drawing.MARKS,
      linestyle=dashes,
      linewidth=drawing.width(i, len(_RATES)),
      label=f'{label} ({note})',
      zorder=3,
  )
  return color


def _has_returns_only(metrics, references) -> bool:
  """Returns whether there are returns, but nothing succeeded."""
  rates = (*_RETURNS, _EPISODE_SUCCESS)
  has_success = any(np.any(metrics.column(name) > 0.0) for name in rates)
  has_return = any(
      np.isfinite(metrics.column(name)).any() for name in _RETURNS.values()
  )
  return has_return and not has_success and not any(references.values())


def _draw_online_episodes(panel, metrics, positions):
  """Draws the mean success of online episodes if nothing was evaluated."""
  success = metrics.column(_EPISODE_SUCCESS)
  is_there = np.isfinite(success)
  is_online = metrics.phases == 'online'
  is_evaluated = any(
      np.isfinite(metrics.column(column)[is_online]).any()
      for column, *_ in _RATES
  )
  if is_evaluated or not is_there.any():
    return
  success = success[is_there]
  rate = [
      np.mean(success[max(0, i - _WINDOW) : i])
      for i in range(1, len(success) + 1)
  ]
  panel.plot(
      positions[is_there],
      rate,
      color=drawing.BLUE,
      linewidth=1.8,
      label=f'online episodes, moving mean (last {rate[-1]:.2f})',
  )


def _draw_health(panel, metrics, positions, health):
  panels = [panel, *(panel.twinx() for _ in health[1:])]
  for this, (column, label, color, dashes) in zip(panels, health, strict=True):
    value = metrics.column(column)
    is_there = np.isfinite(value)
    this.plot(
        positions[is_there],
        value[is_there],
        color=color,
        linestyle=dashes,
        marker='.',
        markersize=4,
        linewidth=1.6,
    )
    if this is not panel and column == _CLONING[0]:
      _draw_limits(this, positions[is_there], value[is_there], label, color)
      continue
    this.set_ylabel(label, color=color)
    this.tick_params(axis='y', colors=color)
    if this is not panel:
      this.spines[['top', 'left']].set_visible(False)


def _draw_limits(panel, x, value, label, color):
  """Replaces an axis by the first and the last number, above the curve."""
  panel.spines[:].set_visible(False)
  panel.set_yticks([])
  low, high = panel.get_ylim()
  panel.set_ylim(low, high + 0.5 * (high - low))
  panel.text(
      float(x[-1]) - 0.01,
      0.98,
      f'{label}\n{value[0]:.2f} to {value[-1]:.2f}',
      transform=panel.get_xaxis_transform(),
      color=color,
      ha='right',
      va='top',
      fontsize=9,
  )


def _wilson_limits(rates, num_episodes):
  """Returns limits `[2, rows]`; the rate itself where there is no count."""
  limits = [
      proportion.wilson_interval(rate, int(count))
      if np.isfinite(count)
      else (rate, rate)
      for rate, count in zip(rates, num_episodes, strict=True)
  ]
  return np.array(limits).T
