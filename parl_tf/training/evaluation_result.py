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
    successes: `[num_episodes]` bool.
    success_steps: `[num_episodes]` environment steps up to the first success;
      NaN for episodes without one.
    returns: `[num_episodes]` undiscounted sums of the scaled and biased
      rewards.
  """

  episodes: Tuple[types.Episode, ...]
  score: float
  successes: np.ndarray
  success_steps: np.ndarray
  returns: np.ndarray

  @property
  def success_rate(self) -> float:
    """The share of successful episodes, 0 to 1."""
    return float(np.mean(self.successes))

  @property
  def outcomes(self) -> str:
    """A 1 or a 0 for each episode, success or failure."""
    return ''.join('01'[x] for x in self.successes.astype(int))

  @property
  def steps_to_success(self) -> Optional[float]:
    """Mean of `success_steps` of the episodes that have them, or None."""
    known = self.success_steps[np.isfinite(self.success_steps)]
    return float(np.mean(known)) if known.size else None

  @property
  def mean_return(self) -> float:
    """Mean of `returns`."""
    return float(np.mean(self.returns))

  @property
  def num_environment_steps(self) -> int:
    """Environment steps of all episodes together."""
    return sum(e.num_steps for e in self.episodes)

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
  steps = [
      np.argmax(e.success) + 1 if np.any(e.success) else np.nan
      for e in episodes
  ]
  returns = [
      np.sum(domain.reward_scale * e.reward + domain.reward_bias)
      for e in episodes
  ]
  return EvaluationResult(
      episodes=tuple(episodes),
      score=float(domain.score(episodes)),
      successes=successes,
      success_steps=np.array(steps, np.float64),
      returns=np.array(returns, np.float64),
  )
