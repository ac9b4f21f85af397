"""Recognizes evaluations that are clearly worse than others."""

import math
from typing import Mapping

from absl import logging


def is_worse(
    rate: float,
    than: float,
    num_episodes: int,
    num_standard_errors: float = 2.0,
) -> bool:
  """Returns whether a success rate is lower by some standard errors.

  Those of the difference of independent episodes, in which each rate has one
  more success and one more failure: a rate of 0 or 1 has an error, too.

  Args:
    rate: Success rate, 0 to 1.
    than: The success rate to compare it with.
    num_episodes: Number of episodes of each.
    num_standard_errors: How many the difference must exceed.
  """
  variance = 0.0
  for x in (rate, than):
    smooth = (x * num_episodes + 1.0) / (num_episodes + 2.0)
    variance += smooth * (1.0 - smooth) / num_episodes
  return than - rate > num_standard_errors * math.sqrt(variance)


def warn_of_search(metrics: Mapping[str, float], agent) -> None:
  """Warns if the policy succeeds less often with search than alone.

  Args:
    metrics: Result of `Session.evaluate`.
    agent: The agent evaluated. Without a search, as in most baselines, what is
      evaluated "with search" is the policy's mode.
  """
  searches = getattr(agent, 'searches', None)
  if searches is None or searches.evaluation.optimizer is None:
    return
  rate = metrics.get('success_rate')
  alone = metrics.get('success_rate_without_search')
  num_episodes = int(metrics['num_evaluation_episodes'])
  if rate is None or alone is None:
    return
  if not is_worse(rate, alone, num_episodes):
    return
  logging.warning(
      'The policy succeeds in %.0f %% of %d episodes with search, but in'
      ' %.0f %% alone: the critic misleads the search, and online fine-tuning'
      ' would distill its errors into the policy. Train the critic longer'
      ' (`Offline.num_steps`) or on a shorter horizon (`Critic.gamma`); see'
      ' docs/your_task.md, "The critic".',
      100.0 * rate,
      num_episodes,
      100.0 * alone,
  )
