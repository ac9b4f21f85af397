"""Draws one policy improvement of PA-RL: `algorithm.svg`, `algorithm_dark.svg`.

  python docs/algorithm_picture.py

The state is fixed and actions have two dimensions. The critic is a sum of two
hills, the policy a mixture of two Gaussians. The library's own
`ActionOptimizer` ranks and ascends actions; the new policy is a mixture around
them.
"""

import pathlib
from typing import NamedTuple, Sequence

from absl import app
from absl import flags
import matplotlib
from matplotlib import colors
from matplotlib import figure
from matplotlib import lines
from matplotlib import patches
from matplotlib.backends import backend_agg
import numpy as np
import tensorflow as tf

from parl_tf.reports import drawing
from parl_tf.search import action_optimizer

_OUTPUT = flags.DEFINE_string(
    'output', str(pathlib.Path(__file__).parent), 'Folder of the plots.'
)
_FORMAT = flags.DEFINE_enum('format', 'svg', ['svg', 'png'], 'Of the plots.')

_NUM_SAMPLES = 32
_NUM_CANDIDATES = 8
_NUM_STEPS = 10
_STEP_SIZE = 0.015
_SEED = 5

# The critic: a hill of Q at each peak.
_PEAKS = np.array([[0.56, 0.14], [-0.4, 0.6]], np.float32)
_WIDTHS = np.array([0.38, 0.33], np.float32)
_HEIGHTS = np.array([1.0, 0.95], np.float32)

# The policy before: the centers of its modes, their standard deviation.
_MODES = np.array([[-0.48, -0.06], [0.12, -0.46]])
_MODE_STD = 0.2
_IMPROVED_STD = 0.15
_DENSITY_LEVEL = 0.2  # Of the outline, as a share of the highest density.
_NUM_SHADES = 11

_STEPS = (
    ('Sample', 'N actions from the policy'),
    ('Rank', 'keep the K best under Q'),
    ('Climb', 'T steps along $\\nabla_a Q(s, a)$'),
    ('Distil', 'by the policy\'s own loss'),
)
_LOOP = 'act, collect, train the critic on all data, repeat'


class Theme(NamedTuple):
  """The colors that depend on the page's background."""

  suffix: str
  text: str
  faint: str
  critic: Sequence[str]
  policy: str
  edge: str


_THEMES = (
    Theme(
        '',
        '#1f2328',
        '#6e7781',
        ('#fdf6e7', drawing.ORANGE),
        drawing.BLUE,
        'white',
    ),
    Theme(
        '_dark',
        '#e6edf3',
        '#8d96a0',
        ('#1d1a12', '#9a6b00'),
        drawing.SKY_BLUE,
        '#0d1117',
    ),
)


def value_fn(actions: tf.Tensor) -> tf.Tensor:
  """Returns the critic's values `[B, N]` of actions `[B, N, 2]`."""
  offset = actions[..., tf.newaxis, :] - _PEAKS
  distance = tf.reduce_sum(tf.square(offset), axis=-1)
  hills = _HEIGHTS * tf.exp(-0.5 * distance / tf.square(_WIDTHS))
  return tf.reduce_sum(hills, axis=-1)


def rank(actions: np.ndarray) -> np.ndarray:
  """Returns the K best of the actions `[N, 2]`."""
  optimizer = action_optimizer.ActionOptimizer(
      num_candidates=_NUM_CANDIDATES, num_gradient_steps=0
  )
  candidates = optimizer.optimize(tf.constant(actions[np.newaxis]), value_fn)
  return candidates.actions[0].numpy()


def climb(actions: np.ndarray) -> np.ndarray:
  """Returns the way of each action `[K, 2]` up the critic, `[T + 1, K, 2]`."""
  ways = []
  for num_steps in range(_NUM_STEPS + 1):
    optimizer = action_optimizer.ActionOptimizer(
        num_candidates=1, num_gradient_steps=num_steps, step_size=_STEP_SIZE
    )
    # Each action is the only candidate of a separate state.
    candidates = optimizer.optimize(
        tf.constant(actions[:, np.newaxis]), value_fn
    )
    ways.append(candidates.actions[:, 0].numpy())
  return np.array(ways)


def draw(theme: Theme) -> figure.Figure:
  """Returns the plot."""
  random = np.random.default_rng(_SEED)
  modes = np.repeat(_MODES, _NUM_SAMPLES // len(_MODES), axis=0)
  samples = random.normal(modes, _MODE_STD).astype(np.float32)
  kept = rank(samples)
  ways = climb(kept)

  plot = figure.Figure(figsize=(10.0, 3.5))
  backend_agg.FigureCanvasAgg(plot)
  panels = plot.subplots(1, 4)
  plot.subplots_adjust(
      left=0.012, right=0.988, top=0.815, bottom=0.145, wspace=0.12
  )
  for number, (panel, step) in enumerate(zip(panels, _STEPS), 1):
    _draw_panel(panel, theme, number, *step)
  _draw_loop(plot, panels, theme)

  first, second, third, fourth = panels
  _draw_policy(first, theme, _MODES, _MODE_STD)
  _draw_points(first, theme, samples, theme.policy)
  _label(first, 0.54, 0.8, 'critic $Q(s, a)$', theme.text)
  _label(first, -0.57, -0.84, 'policy $\\pi(a | s)$', theme.policy)
  _draw_points(second, theme, samples, theme.policy, alpha=0.25)
  _draw_points(second, theme, kept, theme.policy)
  _draw_points(third, theme, kept, theme.policy, alpha=0.25)
  for way in np.swapaxes(ways, 0, 1):
    third.plot(*way.T, color=drawing.VERMILION, linewidth=1.6, zorder=3)
  _draw_points(third, theme, ways[-1], drawing.VERMILION)
  _draw_policy(fourth, theme, _MODES, _MODE_STD, dashes='--', alpha=0.5)
  _draw_policy(fourth, theme, ways[-1], _IMPROVED_STD)
  _draw_points(fourth, theme, ways[-1], drawing.VERMILION)
  return plot


def _draw_panel(panel, theme, number, title, caption):
  """Draws the critic, the frame and the words of a step."""
  axis = np.linspace(-1, 1, 41, dtype=np.float32)
  grid = np.stack(np.meshgrid(axis, axis), axis=-1)
  values = value_fn(tf.constant(grid)).numpy()
  shades = colors.LinearSegmentedColormap.from_list('critic', theme.critic)
  panel.set_facecolor(shades(0.0))
  for share in np.linspace(0.0, 1.0, _NUM_SHADES)[1:-1]:
    # Each shade lies on those below it, which leaves no seams between them.
    level = share * np.max(values)
    panel.contourf(axis, axis, values, [level, np.inf], colors=[shades(share)])
  panel.set(xlim=(-1, 1), ylim=(-1, 1), aspect='equal', xticks=[], yticks=[])
  panel.spines[:].set_visible(False)
  panel.text(
      0.0, 1.155, f'{number}  {title}', transform=panel.transAxes,
      fontsize=14, fontweight='bold', color=theme.text, va='center',
  )
  panel.text(
      0.0, 1.05, caption, transform=panel.transAxes,
      fontsize=11.5, color=theme.faint, va='center',
  )


def _draw_points(panel, theme, points, color, alpha=1.0):
  panel.scatter(
      *points.T, s=34, color=color, alpha=alpha, edgecolor=theme.edge,
      linewidth=0.7, zorder=4,
  )


def _draw_policy(panel, theme, centers, std, dashes='-', alpha=1.0):
  """Outlines a mixture of Gaussians at `centers` `[M, 2]`."""
  axis = np.linspace(-1, 1, 61)
  grid = np.stack(np.meshgrid(axis, axis), axis=-1)
  squares = np.sum((grid[..., np.newaxis, :] - centers) ** 2, axis=-1)
  density = np.sum(np.exp(-0.5 * squares / std**2), axis=-1)
  level = _DENSITY_LEVEL * np.max(density)
  if dashes == '-':
    panel.contourf(
        axis, axis, density, [level, np.inf], colors=theme.policy, alpha=0.12,
        zorder=1,
    )
  panel.contour(
      axis, axis, density, [level], colors=theme.policy, linewidths=2.0,
      linestyles=dashes, alpha=alpha, zorder=2,
  )


def _label(panel, x, y, text, color):
  panel.text(
      x, y, text, fontsize=11, color=color, ha='center', va='center', zorder=5
  )


def _draw_loop(plot, panels, theme):
  """Draws the arrow from the last step back to the first."""
  first, last = (panels[i].get_position() for i in (0, 3))
  x0, x1 = (first.x0 + first.x1) / 2, (last.x0 + last.x1) / 2
  top, bottom, middle = 0.12, 0.055, (x0 + x1) / 2
  line = dict(color=theme.faint, linewidth=1.4, solid_joinstyle='round')
  gap = 0.205  # Half the width of the words.
  for way in (
      [(x1, top), (x1, bottom), (middle + gap, bottom)],
      [(middle - gap, bottom), (x0, bottom), (x0, top - 0.02)],
  ):
    plot.add_artist(lines.Line2D(*zip(*way), **line))
  plot.add_artist(
      patches.FancyArrowPatch(
          (x0, bottom), (x0, top + 0.01), transform=plot.transFigure,
          arrowstyle='-|>', mutation_scale=14, color=theme.faint,
          linewidth=1.4, shrinkA=0, shrinkB=0,
      )
  )
  plot.text(
      middle, bottom, _LOOP, fontsize=11.5, color=theme.faint, ha='center',
      va='center',
  )


def main(argv: Sequence[str]) -> None:
  """Writes a plot for light and one for dark pages."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  # The same file whenever it is drawn.
  matplotlib.rcParams['svg.hashsalt'] = 'parl_tf'
  for theme in _THEMES:
    name = f'algorithm{theme.suffix}.{_FORMAT.value}'
    draw(theme).savefig(
        pathlib.Path(_OUTPUT.value, name), facecolor='none',
        metadata={'Date': None} if _FORMAT.value == 'svg' else None,
        dpi=110,
    )


if __name__ == '__main__':
  app.run(main)
