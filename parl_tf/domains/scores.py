"""Scores of tasks that are judged by their return."""

from typing import Sequence

import numpy as np

from parl_tf import types
from parl_tf.domains import domain


def normalized_return(
    episodes: Sequence[types.Episode], worst: float, best: float
) -> float:
  """Returns the mean raw return in percent of the way from worst to best.

  It is D4RL's normalized score if the worst is the return of a random policy
  and the best that of an expert.

  Raises:
    ValueError: If there are no episodes.
  """
  mean = domain.mean_over(episodes, lambda episode: np.sum(episode.reward))
  return 100.0 * (mean - worst) / (best - worst)
