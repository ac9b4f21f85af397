"""Checks that evaluations of a task begin with the same starts.

`report/starts.png`, `parl-evaluate --against` and comparisons of policies rely
on it. A task that ignores its seed breaks it silently.
"""

from typing import List, Optional, Sequence

from absl import logging
import numpy as np
import tree

from parl_tf import types

_TOLERANCE = 1e-5


class EqualStarts:
  """Compares the starts of all evaluations with those of the first."""

  def __init__(self):
    """Initializes the object without starts."""
    self._first: Optional[List[List[np.ndarray]]] = None
    self._has_warned = False

  def see(self, episodes: Sequence[types.Episode]) -> None:
    """Looks at the episodes of an evaluation; warns once if starts differ.

    Images are not compared, because their drawing may vary.

    Args:
      episodes: As many as in earlier calls, in the same order.
    """
    starts = [_start(episode) for episode in episodes]
    if self._first is None:
      self._first = starts
    if self._has_warned:
      return
    for index, (start, first) in enumerate(
        zip(starts, self._first, strict=True)
    ):
      if not all(map(_are_close, start, first)):
        self._has_warned = True
        logging.warning(
            'Evaluation episode %d starts elsewhere than in the first'
            ' evaluation, although its environment had the same seed. Make the'
            ' reset of the task a function of its seed: evaluations are'
            ' otherwise not comparable start by start.',
            index,
        )
        return


def _start(episode: types.Episode) -> List[np.ndarray]:
  return [
      np.array(x[0])
      for x in tree.flatten(episode.observation)
      if x.dtype != np.uint8
  ]


def _are_close(a: np.ndarray, b: np.ndarray) -> bool:
  return np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE)
