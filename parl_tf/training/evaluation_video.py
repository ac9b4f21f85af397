"""Pictures of the first episode of an evaluation, as a video."""

import io
from typing import Any, List

import numpy as np

from parl_tf.domains import rendering

FRAMES_PER_SECOND = 10
_MAX_FRAMES = 300


class FirstEpisode:
  """Evaluation observer that keeps the pictures of the first episode.

  Attributes:
    frames: Pictures `[height, width, 3]` uint8. Of an episode of more than 300
      steps, later pictures are left out.
  """

  def __init__(self):
    self.frames: List[np.ndarray] = []
    self._is_over = False

  def __call__(self, environments, running, step):
    if begins(running, step):
      self.frames.clear()
      self._is_over = False
    # Also keeps the final state of the episode.
    if not self._is_over and len(self.frames) < _MAX_FRAMES:
      self.frames.append(render(environments[0]))
    self._is_over = not running[0]

  def as_gif(self) -> bytes:
    """Returns the pictures as an animated GIF."""
    # Imported here: only videos need it.
    import imageio

    file = io.BytesIO()
    duration = 1e3 / FRAMES_PER_SECOND  # Milliseconds.
    writer: Any = imageio.get_writer(file, format='GIF', duration=duration)
    with writer:
      for frame in self.frames:
        writer.append_data(frame)
    return file.getvalue()


def begins(running: np.ndarray, step: int) -> bool:
  """Returns whether the first episode begins, or is repeated after a loss.

  Args:
    running: As an evaluation's observer receives it.
    step: As an evaluation's observer receives it.
  """
  return step == 0 and bool(running[0])


def check(domain) -> None:
  """Raises a ValueError if the domain's environments cannot be drawn.

  Those of a robot are refused unseen: the check would have to move it.
  """
  if domain.max_environments is not None:
    raise ValueError(
        'A video is not possible of a task that limits the number of its '
        f'environments (`max_environments` is {domain.max_environments}), as '
        'robots do.'
    )
  environment = domain.make_environment(seed=0, evaluation=True)
  environment.reset()
  try:
    render(environment)
  finally:
    environment.close()


def render(environment) -> np.ndarray:
  """Returns a picture `[height, width, 3]` uint8 of an environment.

  Raises:
    ValueError: If the environment draws nothing, or has no renderer here.
  """
  with rendering.explained('A video is not possible'):
    try:
      return environment.render()
    except NotImplementedError as error:
      raise ValueError(f'A video is not possible: {error}') from error
