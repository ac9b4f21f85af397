"""A single x axis for the consecutive phases of a run.

Each phase has its own section of the axis, counted from the start of the phase:
training steps in behavior cloning and offline RL, environment steps online.
"""

import math
from typing import NamedTuple

import numpy as np

from parl_tf.reports import drawing
from parl_tf.reports import run_files

_TITLES = {
    'behavior_cloning': 'Behavior cloning',
    'offline': 'Offline RL',
    'online': 'Online fine-tuning',
}
# The phases whose progress is counted in environment steps.
_ONLINE_PHASES = ('online',)
# A short phase still gets this share of the axis.
_MIN_PHASE_SHARE = 0.18


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


class PhaseAxis:
  """Maps the rows of `metrics.csv` to [0, 1]."""

  def __init__(self, metrics: run_files.Metrics):
    """Initializes the axis.

    Args:
      metrics: Metrics of a run, with at least one row.
    """
    ends = {'train_step': float(metrics.first_train_step), 'env_steps': 0.0}
    steps = []
    for phase in dict.fromkeys(metrics.phases.tolist()):
      first = ends[_counter(phase)]
      for name in ends:
        own = metrics.columns[name][metrics.phases == phase]
        ends[name] = max(ends[name], float(own.max()))
      steps.append((phase, first, ends[_counter(phase)]))
    # Longer phases are wider, although their steps differ in units. A phase
    # without steps, such as a last evaluation, has no width.
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

  def positions(self, metrics: run_files.Metrics) -> np.ndarray:
    """Returns `[rows]` positions in [0, 1]."""
    positions = np.zeros([len(metrics.phases)])
    for span in self._spans:
      is_own = metrics.phases == span.phase
      positions[is_own] = span.left
      if span.length:
        steps = metrics.columns[_counter(span.phase)][is_own]
        share = (steps - span.first) / span.length
        positions[is_own] += share * (span.right - span.left)
    return positions

  def draw_warm_up(self, panel, metrics: run_files.Metrics) -> None:
    """Shades the online episodes that were collected without training."""
    is_online = np.isin(metrics.phases, _ONLINE_PHASES)
    steps = metrics.columns['train_step']
    before = np.max(
        steps[~is_online], initial=float(metrics.first_train_step)
    )
    is_warm_up = is_online & (steps <= before)
    count = int(np.sum(is_warm_up))
    if not count:
      return
    [span] = (x for x in self._spans if x.phase in _ONLINE_PHASES)
    panel.axvspan(
        span.left,
        float(np.max(self.positions(metrics)[is_warm_up])),
        color=drawing.LIGHT_GRAY,
        linewidth=0,
        zorder=0,
        label=(
            f'warm-up: {count} episode' + 's' * (count > 1)
            + ' without training'
        ),
    )

  def draw_boundaries(self, panel) -> None:
    """Draws a line between phases and sets the panel's limits."""
    for span in self._drawn()[1:]:
      panel.axvline(span.left, color='black', linewidth=1.0, zorder=1)
    # Room for the markers at both ends.
    panel.set_xlim(-0.012, 1.012)

  def draw_titles(self, panel) -> None:
    """Names each phase above the panel."""
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

  def draw_ticks(self, panel) -> None:
    """Draws ticks, counted from each phase's start, and the phase's length."""
    positions, labels = [], []
    for span in self._drawn():
      width = span.right - span.left
      step = _tick_step(span.length, width)
      # No ticks where phases meet: they would belong to both.
      for tick in np.arange(step, span.length - 0.3 * step, step):
        positions.append(span.left + width * tick / span.length)
        labels.append(drawing.thousands(tick))
      panel.annotate(
          f'{drawing.thousands(span.length)} {_unit(span.phase)}',
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


def _counter(phase: str) -> str:
  return 'env_steps' if phase in _ONLINE_PHASES else 'train_step'


def _unit(phase: str) -> str:
  return 'environment steps' if phase in _ONLINE_PHASES else 'training steps'


def _tick_step(length: float, share: float) -> float:
  """Returns a round step that gives about one tick per tenth of the axis."""
  step = length / max(share * 10.0, 1.0)
  magnitude = 10.0 ** math.floor(math.log10(step))
  return next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= step)
