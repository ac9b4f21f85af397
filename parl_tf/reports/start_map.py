"""Draws the successes of a run by start and evaluation."""

from typing import List, Sequence

import numpy as np

from parl_tf.reports import drawing
from parl_tf.reports import evaluations as evaluations_lib

_TITLES = {'search': 'with search', 'alone': 'without search'}
_COLORS = {'search': drawing.BLUE, 'alone': drawing.VERMILION}
_PHASES = {'behavior_cloning': 'cloning', 'offline': 'offline'}
_MAX_TICKS = 16


def draw(
    path: str,
    evaluations: Sequence[evaluations_lib.Evaluation],
    *,
    title: str = '',
) -> bool:
  """Draws a column for each evaluation, and a row for each start.

  A cell is colored if the episode succeeded. Starts are sorted by their number
  of successes, and have the same order in both panels.

  Args:
    path: PNG file to write. Its directory is created if it is missing.
    evaluations: Those of a run. Only the starts that all of them have are
      drawn.
    title: Title of the figure, if given.

  Returns:
    Whether anything was drawn: nothing for a single evaluation, or without any
    success.
  """
  panels = [
      (policy, own)
      for policy in evaluations_lib.POLICIES
      if (own := [x for x in evaluations if x.policy == policy])
  ]
  has_several = len({x.metrics_row for x in evaluations}) > 1
  if not has_several or not any(x.successes.any() for x in evaluations):
    return False
  num_starts = min(len(x.successes) for x in evaluations)
  order = np.argsort(
      -sum(x.successes[:num_starts].astype(int) for x in evaluations),
      kind='stable',
  )
  plot = drawing.make_plot(4.6 * len(panels), 4.8, title)
  axes = plot.subplots(1, len(panels), sharey=True, squeeze=False)[0]
  for axis, (policy, own) in zip(axes, panels, strict=True):
    successes = np.stack([x.successes[:num_starts][order] for x in own], axis=1)
    _draw_panel(axis, own, successes, _COLORS[policy])
    axis.set_title(
        f'{_TITLES[policy]}: {successes[:, -1].sum()} of {num_starts} at the'
        ' end',
        fontsize=10,
    )
  axes[0].set_ylabel('start, hardest at the bottom')
  drawing.save(plot, path)
  return True


def _draw_panel(axis, evaluations, successes, color):
  from matplotlib import colors

  axis.imshow(
      successes,
      cmap=colors.ListedColormap([drawing.LIGHT_GRAY, color]),
      vmin=0,
      vmax=1,
      aspect='auto',
      interpolation='nearest',
  )
  num_starts, num_evaluations = successes.shape
  # White lines between cells, while these are wide enough.
  for set_ticks, number in (
      (axis.set_xticks, num_evaluations), (axis.set_yticks, num_starts)
  ):
    if number <= 100:
      set_ticks(np.arange(number + 1) - 0.5, minor=True)
  axis.grid(which='minor', color='white', linewidth=0.6)
  axis.tick_params(which='minor', length=0)
  axis.spines[:].set_visible(False)
  step = -(-num_evaluations // _MAX_TICKS)
  shown = range(0, num_evaluations, step)
  axis.set_xticks(list(shown), [_labels(evaluations)[i] for i in shown])
  axis.tick_params(axis='x', rotation=45)
  axis.set_yticks([0, num_starts - 1], ['1', str(num_starts)])
  axis.set_xlabel('evaluation: phase, or online episodes with warm-up')


def _labels(
    evaluations: Sequence[evaluations_lib.Evaluation],
) -> List[str]:
  return [
      _PHASES.get(x.phase, str(x.num_online_episodes)) for x in evaluations
  ]
