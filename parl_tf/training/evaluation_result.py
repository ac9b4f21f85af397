"""What an evaluation measures: success, score, speed and return of episodes."""

from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from parl_tf import proportion
from parl_tf import types


class EvaluationResult(NamedTuple):
  """Results of an evaluation.

  Attributes:
    episodes: The episodes as played, in the order of their seeds.
    score: The domain's score of all episodes, 0 to 100.
    success_rate: The share of successful episodes, 0 to 1.
    successes: `[num_episodes]` bool.
    num_environment_steps: Environment steps of all episodes together.
    steps_to_success: Mean number of environment steps up to the first success,
      over the successful episodes; None if there is none.
    mean_return: Mean undiscounted sum of the scaled and biased rewards.
  """

  episodes: Tuple[types.Episode, ...]
  score: float
  success_rate: float
  successes: np.ndarray
  num_environment_steps: int
  steps_to_success: Optional[float]
  mean_return: float

  @property
  def success_interval(self) -> Tuple[float, float]:
    """95 % Wilson interval of the success rate."""
    return proportion.wilson_interval(self.success_rate, len(self.episodes))

  def metrics(self, ending: str = '') -> Dict[str, float]:
    """Returns the metrics by name; those that are undefined are missing.

    Args:
      ending: Appended to the names.
    """
    metrics = {
        'success_rate': self.success_rate,
        'score': self.score,
        'steps_to_success': self.steps_to_success,
        'mean_return': self.mean_return,
    }
    return {
        name + ending: value
        for name, value in metrics.items()
        if value is not None
    }


def of_episodes(
    domain, episodes: Sequence[types.Episode]
) -> EvaluationResult:
  """Returns the statistics of episodes of any origin.

  Args:
    domain: Their `Domain`.
    episodes: The episodes.
  """
  successes = np.array([domain.is_success(e) for e in episodes], bool)
  # A domain may define success otherwise than by the flags of the steps.
  steps = [np.argmax(e.success) + 1 for e in episodes if np.any(e.success)]
  returns = [
      np.sum(domain.reward_scale * e.reward + domain.reward_bias)
      for e in episodes
  ]
  return EvaluationResult(
      episodes=tuple(episodes),
      score=float(domain.score(episodes)),
      success_rate=float(np.mean(successes)),
      successes=successes,
      num_environment_steps=sum(e.num_steps for e in episodes),
      steps_to_success=float(np.mean(steps)) if steps else None,
      mean_return=float(np.mean(returns)),
  )
