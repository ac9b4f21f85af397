"""What a run's policy sees and how its search values actions, for a video."""

from typing import List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.reports import drawing
from parl_tf.search import state_actions

_FRAME_CHANNELS = 3
_PIXELS = 100  # Per inch.
_FONT = dict(fontsize=9)


class Decision(NamedTuple):
  """One decision of the first episode.

  Attributes:
    images: The images that the policy saw, `[height, width, 3]` uint8 each; the
      newest frame of a stack comes last.
    value: The critic's value of the chosen action.
    sample_values: `[N]` values of the policy's samples.
    candidate_values: `[K]` values of the candidates after the search.
  """

  images: Sequence[np.ndarray]
  value: float
  sample_values: np.ndarray
  candidate_values: np.ndarray


class WatchedSearch:
  """Acts like an agent in evaluation, and records the first row's decisions.

  Attributes:
    num_frames: Number of frames in each observation that it gets.
    decisions: The `Decision`s since the panel was made.
    chunk_length: H, the number of environment steps per decision.
  """

  def __init__(self, agent):
    """Initializes the act.

    Args:
      agent: `PARLAgent` whose evaluation searches.

    Raises:
      ValueError: If the agent has no critic, its evaluation no search, or
        another process serves its policy.
    """
    searches = getattr(agent, 'searches', None)
    search = None if searches is None else searches.evaluation
    if search is None or agent.critic is None or search.optimizer is None:
      raise ValueError(
          'Only a run with a critic and `Search.optimizer` is evaluated by '
          '--root_dir; evaluate its exported policy by --policy.'
      )
    if agent.generative_policy.is_served:
      raise ValueError(
          'The policy of the run is served by another process: give its '
          'address, --policy ws://...'
      )
    self._agent = agent
    self._search = search
    self._compiled = tf.function(self._values, autograph=False)
    self.num_frames = agent.num_frames
    self.chunk_length = agent.chunk_length
    self.decisions: List[Decision] = []
    self._is_watched = False

  def __call__(self, observation: types.Nest, seed: np.ndarray) -> np.ndarray:
    """Returns chunks `[B, H, A]` for a nest of `[B, ...]` and a seed `[2]`."""
    observation = tf.nest.map_structure(tf.constant, observation)
    seed = tf.constant(seed)
    action = self._agent.evaluation_policy.act(observation, seed)
    if self._is_watched:
      self._record(observation, seed, action)
    shape = [-1, self.chunk_length, *self._agent.action_spec.shape]
    return action.numpy().reshape(shape)

  def make_panel(self, size: int) -> 'Panel':
    """Returns a panel of `size` x `size` pixels that draws the decisions."""
    self._is_watched = True
    return Panel(self, size)

  def _record(self, observation, seed, action):
    values = self._compiled(observation, seed, action)
    value, samples, candidates = (x[0].numpy() for x in values)
    first = tf.nest.map_structure(lambda x: x[0].numpy(), observation)
    self.decisions.append(
        Decision(
            _images(first, self.num_frames), float(value), samples, candidates
        )
    )

  def _values(self, observation, seed, action):
    """Values the same samples and candidates as the policy, by its seed."""
    critic = self._agent.critic
    actions = state_actions.StateActions(
        self._search, self._agent.generative_policy, critic, observation, seed
    )
    value_fn = critic.bind(observation)
    return (
        value_fn(action[:, tf.newaxis])[:, 0],
        value_fn(actions.base()),
        value_fn(actions.candidates().actions),
    )


class Panel:
  """Draws the decisions so far beside a frame of a video."""

  def __init__(self, act: WatchedSearch, size: int):
    """Makes the figure.

    Args:
      act: The act whose decisions are drawn.
      size: Height and width in pixels.
    """
    self._act = act
    self._plot = drawing.make_plot(size / _PIXELS, size / _PIXELS)
    self._plot.set_dpi(_PIXELS)
    self._drawn = np.zeros([0, 0, _FRAME_CHANNELS], np.uint8)
    self._num_drawn = -1

  def draw(self) -> np.ndarray:
    """Returns a picture `[size, size, 3]` uint8."""
    if self._num_drawn < len(self._act.decisions):
      self._num_drawn = len(self._act.decisions)
      self._draw()
    return self._drawn

  def _draw(self):
    decisions = self._act.decisions
    images = decisions[-1].images if decisions else ()
    self._plot.clear()
    grid = self._plot.add_gridspec(2 if images else 1, max(len(images), 1))
    for i, image in enumerate(images):
      panel = self._plot.add_subplot(grid[0, i])
      panel.imshow(image)
      panel.set_axis_off()
      if not i:
        panel.set_title('The policy sees', loc='left', **_FONT)
    panel = self._plot.add_subplot(grid[-1, :])
    drawing.style_panel(panel, 'y')
    steps = self._act.chunk_length * np.arange(len(decisions))
    for color, label, values in (
        (drawing.GRAY, 'samples', [x.sample_values for x in decisions]),
        (drawing.BLUE, 'found', [x.candidate_values for x in decisions]),
    ):
      low, high = ([f(x) for x in values] for f in (np.min, np.max))
      panel.fill_between(steps, low, high, color=color, alpha=0.3, label=label)
    panel.plot(
        steps,
        [x.value for x in decisions],
        color=drawing.VERMILION,
        label='taken',
        marker='o',
        **drawing.MARKS,
    )
    panel.set_title('Value of the actions', loc='left', **_FONT)
    panel.set_xlabel('environment step', **_FONT)
    panel.legend(loc='best', fontsize=8, frameon=False)
    self._plot.canvas.draw()
    pixels = np.asarray(self._plot.canvas.buffer_rgba())
    self._drawn = pixels[..., :_FRAME_CHANNELS].copy()


def _images(observation: types.Nest, num_frames: int) -> List[np.ndarray]:
  """Returns all frames of the images of one observation, in order."""
  found = []
  for leaf in tf.nest.flatten(observation):
    if leaf.ndim == 3 and leaf.dtype == np.uint8:
      for frame in np.split(leaf, num_frames, axis=-1):
        if frame.shape[-1] < _FRAME_CHANNELS:  # Gray.
          frame = frame[..., :1].repeat(_FRAME_CHANNELS, axis=-1)
        found.append(frame[..., :_FRAME_CHANNELS])
  return found
