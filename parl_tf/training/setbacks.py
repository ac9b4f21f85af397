"""Recognizes evaluations that are worse than others by more than chance."""

import math
from typing import Mapping

from absl import logging

_NUM_STANDARD_ERRORS = 2.0


def is_worse(rate: float, than: float, num_episodes: int) -> bool:
  """Returns whether a success rate is lower by more than chance explains.

  That is by more than two standard errors of the difference, in which each rate
  has one more success and one more failure: a rate of 0 or 1 has an error, too.

  Args:
    rate: Success rate, 0 to 1.
    than: The success rate to compare it with.
    num_episodes: Number of episodes of each.
  """
  variance = 0.0
  for x in (rate, than):
    smooth = (x * num_episodes + 1.0) / (num_episodes + 2.0)
    variance += smooth * (1.0 - smooth) / num_episodes
  return than - rate > _NUM_STANDARD_ERRORS * math.sqrt(variance)


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
