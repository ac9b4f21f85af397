"""What a run leaves for people: a learning curve and `summary.json`."""

import csv
import json
import math
import os
from typing import Mapping, NamedTuple, Optional, Sequence

from matplotlib import figure
from matplotlib.backends import backend_agg
import numpy as np

from parl_tf import proportion
from parl_tf import synced_file

PHASES = ('behavior_cloning', 'offline', 'online')
_TITLES = {
    'behavior_cloning': 'Behaviour cloning',
    'offline': 'Offline RL',
    'online': 'Online fine-tuning',
}
# The phases whose progress is counted in environment steps.
_ONLINE_PHASES = ('online',)
# A short phase still gets this share of the axis.
_MIN_PHASE_SHARE = 0.18

# Okabe and Ito's palette (a darker purple, for it colours text): told apart by
# every kind of colour vision.
_BLUE, _ORANGE, _GREEN, _PURPLE = '#0072B2', '#D55E00', '#009E73', '#AA3377'
_GRAY = '#555555'
# Column, legend, colour, marker, dash pattern.
_RATES = (
    ('success_rate', 'with search', _BLUE, 'o', '-'),
    ('success_rate_without_search', 'without search', _ORANGE, 's', '--'),
)
_HEALTH = (
    ('values/mean', 'mean value', _GREEN, '-'),
    ('losses/critic', 'critic loss', _PURPLE, '--'),
)


class PhaseSummary(NamedTuple):
  """What one phase ended with.

  Attributes:
    success_rate: With search, 0 to 1, None where there was no critic to search.
    success_rate_without_search: Of the policy alone.
    score: The domain's score, 0 to 100.
    num_evaluation_episodes: Episodes behind each of the rates.
    train_steps: Gradient steps of this phase.
    env_steps: Environment steps of this phase.
    wall_seconds: Seconds of this phase.
  """

  success_rate: Optional[float]
  success_rate_without_search: Optional[float]
  score: Optional[float]
  num_evaluation_episodes: int
  train_steps: int
  env_steps: int
  wall_seconds: float


class RunSummary(NamedTuple):
  """What `summary.json` holds.

  Attributes:
    seed: The run's seed.
    domain: The domain's name.
    wall_seconds: Seconds of the whole run.
    controller_success_rate: Of the domain's controller, None without one.
    phases: By name, those of `PHASES` that were run.
    policies: Paths of the exported policies, by name.
  """

  seed: int
  domain: str
  wall_seconds: float
  controller_success_rate: Optional[float]
  phases: Mapping[str, PhaseSummary]
  policies: Mapping[str, str]


def write_summary(path: str, summary: RunSummary):
  """Writes `summary` as JSON, all or nothing.

  Args:
    path: Where to write; its directory is made if it is missing.
    summary: What to write.

  Raises:
    ValueError: If a phase is unknown or a number is not finite.
  """
  unknown = sorted(set(summary.phases) - set(PHASES))
  if unknown:
    raise ValueError(f'`phases` must be some of {list(PHASES)}, got {unknown}.')
  content = summary._asdict()
  content['phases'] = {
      name: phase._asdict() for name, phase in summary.phases.items()
  }
  content['policies'] = {
      name: str(policy) for name, policy in summary.policies.items()
  }
  text = json.dumps(content, indent=2, allow_nan=False, default=_plain_number)
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  with synced_file.write(path) as file:
    file.write((text + '\n').encode())


def plot_learning_curve(
    metrics_csv_path: str,
    output_png: str,
    *,
    controller_success_rate: Optional[float] = None,
    title: Optional[str] = None,
):
  """Draws the success rate over all phases of one run.

  Each phase has its own stretch of the axis, counted from its start: gradient
  steps in behaviour cloning and offline, environment steps online. Bands are 95
  % Wilson intervals, drawn where the column `num_evaluation_episodes` is there.
  Below, the critic's mean value and loss, where they were logged.

  Args:
    metrics_csv_path: A `MetricsLog`'s file.
    output_png: Where to write; its directory is made if it is missing.
    controller_success_rate: Drawn as a line if given, 0 to 1.
    title: Drawn above if given.

  Raises:
    ValueError: If the file has no rows.
  """
  rows = _read_rows(metrics_csv_path)
  axis = _PhaseAxis(rows)
  health = [h for h in _HEALTH if _points(rows, axis, h[0])[0].size]
  picture, panels = _make_panels(2 if health else 1)
  _draw_success(panels[0], rows, axis, controller_success_rate)
  if health:
    _draw_health(panels[1], rows, axis, health)
  for panel in panels:
    _style(panel)
    axis.draw_boundaries(panel)
  axis.draw_titles(panels[0])
  axis.draw_ticks(panels[-1])
  if title:
    picture.suptitle(title, fontsize=13, fontweight='bold')
  _save(picture, output_png)


def _make_panels(num_panels):
  # A figure of its own on a canvas of its own: no state of pyplot's.
  picture = figure.Figure(
      figsize=(9.0, 4.6 if num_panels == 1 else 6.4), layout='constrained'
  )
  backend_agg.FigureCanvasAgg(picture)
  panels = picture.subplots(
      num_panels,
      1,
      sharex=True,
      squeeze=False,
      height_ratios=[2.6, 1.0][:num_panels],
  )
  return picture, panels[:, 0]


class _Span(NamedTuple):
  """One phase's steps `first` to `last`, drawn between `left` and `right`."""

  phase: str
  first: float
  last: float
  left: float
  right: float

  @property
  def length(self) -> float:
    return self.last - self.first


class _PhaseAxis:
  """A common x axis on which the phases follow one another."""

  def __init__(self, rows):
    ends = {'train_step': 0.0, 'env_steps': 0.0}
    steps = []
    for phase in dict.fromkeys(row['phase'] for row in rows):
      own = [row for row in rows if row['phase'] == phase]
      first = ends[_counter(phase)]
      for name in ends:
        ends[name] = max(ends[name], *(float(row[name]) for row in own))
      steps.append((phase, first, ends[_counter(phase)]))
    # Longer phases are wider, though the steps differ in their units. A phase
    # without steps of its own, such as a last evaluation, takes no room.
    total = sum(last - first for _, first, last in steps) or 1.0
    widths = [
        max((last - first) / total, _MIN_PHASE_SHARE) if last > first else 0.0
        for _, first, last in steps
    ]
    edges = np.concatenate([[0.0], np.cumsum(widths)]) / (sum(widths) or 1.0)
    self._spans = [
        _Span(*step, left, right)
        for step, left, right in zip(steps, edges[:-1], edges[1:], strict=True)
    ]

  def position(self, row) -> float:
    """Where `row` stands, in [0, 1]."""
    span = next(s for s in self._spans if s.phase == row['phase'])
    if not span.length:
      return span.left
    share = (float(row[_counter(span.phase)]) - span.first) / span.length
    return span.left + share * (span.right - span.left)

  def draw_boundaries(self, panel):
    for span in self._drawn()[1:]:
      panel.axvline(span.left, color='black', linewidth=1.0, zorder=1)
    # Room for the markers at both ends.
    panel.set_xlim(-0.012, 1.012)

  def draw_titles(self, panel):
    for span in self._drawn():
      panel.text(
          (span.left + span.right) / 2,
          1.02,
          _TITLES.get(span.phase, span.phase.replace('_', ' ')),
          transform=panel.get_xaxis_transform(),
          ha='center',
          va='bottom',
          fontsize=11,
      )

  def draw_ticks(self, panel):
    positions, labels = [], []
    for span in self._drawn():
      width = span.right - span.left
      step = _tick_step(span.length, width)
      # No ticks where phases meet: they would belong to both.
      for tick in np.arange(step, span.length - 0.3 * step, step):
        positions.append(span.left + width * tick / span.length)
        labels.append(_thousands(tick))
      panel.annotate(
          f'{_thousands(span.length)} {_unit(span.phase)}',
          xy=((span.left + span.right) / 2, 0.0),
          xycoords=panel.get_xaxis_transform(),
          xytext=(0, -22),
          textcoords='offset points',
          ha='center',
          va='top',
          fontsize=10,
      )
    panel.set_xticks(positions, labels)

  def _drawn(self):
    return [span for span in self._spans if span.length]


def _draw_success(panel, rows, axis, controller_success_rate):
  if controller_success_rate is not None:
    panel.axhline(
        controller_success_rate,
        color=_GRAY,
        linestyle=':',
        linewidth=1.8,
        label=f'controller ({controller_success_rate:.2f})',
    )
  for column, label, color, marker, dashes in _RATES:
    x, rate, chosen = _points(rows, axis, column)
    if not x.size:
      continue
    panel.plot(
        x,
        rate,
        color=color,
        marker=marker,
        markersize=5,
        markeredgecolor='white',
        markeredgewidth=0.6,
        linestyle=dashes,
        linewidth=2.0,
        label=f'{label} (last {rate[-1]:.2f})',
        zorder=3,
    )
    limits = _wilson_limits(rate, chosen)
    panel.fill_between(x, *limits, color=color, alpha=0.17, linewidth=0)
  panel.set_ylim(-0.03, 1.03)
  panel.set_ylabel('success rate')
  counts = sorted({int(n) for n in map(_num_episodes, rows) if n == n})
  legend = f'{"/".join(map(str, counts))} episodes, 95 % interval'
  if panel.get_legend_handles_labels()[1]:
    panel.legend(
        title=legend if counts else None,
        loc='best',
        framealpha=0.9,
        fontsize=9,
        title_fontsize=9,
    )


def _draw_health(panel, rows, axis, health):
  panels = [panel] if len(health) == 1 else [panel, panel.twinx()]
  for this, (column, label, color, dashes) in zip(panels, health, strict=True):
    x, value, _ = _points(rows, axis, column)
    this.plot(
        x,
        value,
        color=color,
        linestyle=dashes,
        marker='.',
        markersize=4,
        linewidth=1.6,
    )
    this.set_ylabel(label, color=color)
    this.tick_params(axis='y', colors=color)
    if this is not panel:
      this.spines[['top', 'left']].set_visible(False)


def _style(panel):
  panel.spines[['top', 'right']].set_visible(False)
  panel.grid(axis='y', color='#dddddd', linewidth=0.7)
  panel.set_axisbelow(True)


def _read_rows(path: str) -> Sequence[Mapping[str, str]]:
  with open(path, encoding='utf-8', newline='') as file:
    rows = list(csv.DictReader(file))
  if not rows:
    raise ValueError(f'{path} must hold at least one row, got none.')
  return rows


def _points(rows, axis, column):
  """The x positions, numbers and rows where `column` has a finite number."""
  chosen = [row for row in rows if math.isfinite(_number(row, column))]
  x = np.array([axis.position(row) for row in chosen])
  return x, np.array([_number(row, column) for row in chosen]), chosen


def _wilson_limits(rates, rows):
  limits = [
      (rate, rate)
      if math.isnan(_num_episodes(row))
      else proportion.wilson_interval(rate, int(_num_episodes(row)))
      for rate, row in zip(rates, rows, strict=True)
  ]
  return np.array(limits).T


def _num_episodes(row) -> float:
  return _number(row, 'num_evaluation_episodes')


def _number(row, column) -> float:
  return float(row.get(column) or 'nan')


def _counter(phase: str) -> str:
  return 'env_steps' if phase in _ONLINE_PHASES else 'train_step'


def _unit(phase: str) -> str:
  return 'environment steps' if phase in _ONLINE_PHASES else 'gradient steps'


def _tick_step(length: float, share: float) -> float:
  """A round step that gives about one tick per tenth of the axis."""
  step = length / max(share * 10.0, 1.0)
  magnitude = 10.0 ** math.floor(math.log10(step))
  return next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= step)


def _thousands(value: float) -> str:
  if value >= 1e6:
    return f'{value / 1e6:.3g}M'
  return f'{value / 1e3:.3g}k' if value >= 1e3 else f'{value:g}'


def _save(picture, output_png):
  os.makedirs(os.path.dirname(output_png) or '.', exist_ok=True)
  with synced_file.write(output_png) as file:
    picture.savefig(file, dpi=150, format='png')


def _plain_number(value):
  if isinstance(value, (np.integer, np.floating)):
    return value.item()
  raise TypeError(f'Cannot write {value!r} of type {type(value)} as JSON.')
