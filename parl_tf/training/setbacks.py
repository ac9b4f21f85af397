"""Recognizes evaluations that are clearly worse than others."""

from typing import Any, Mapping

from absl import logging

from parl_tf import proportion

OUTCOMES = ('outcomes', 'outcomes_without_search')
"""Names of the outcomes of an evaluation, with search and alone."""

_BY_CHANCE = 0.025


def is_worse(
    outcomes: str,
    than: str,
    by_chance: float = _BY_CHANCE,
    num_compared: int = 1,
) -> bool:
  """Returns whether a policy fails more often than chance explains.

  Both policies met the same starts, so that they are compared start by start;
  see `proportion.paired_chance`.

  Args:
    outcomes: A 1 or a 0 for each episode, success or failure.
    than: Those of the other policy. If one has more episodes, the first ones
      are compared, which have the same starts.
    by_chance: Largest probability of such a difference between equal policies.
    num_compared: Number of evaluations of which `than` is the best. The more
      there are, the better the best is by chance (Bonferroni).
  """
  num_starts = min(len(outcomes), len(than))
  successes, other = (
      [x == '1' for x in text[:num_starts]] for text in (outcomes, than)
  )
  chance = max(1, num_compared) * proportion.paired_chance(successes, other)
  return chance <= by_chance


def better_outcomes(metrics: Mapping[str, Any]) -> str:
  """Returns the outcomes of the policy that succeeds more often.

  Args:
    metrics: `OUTCOMES` of an evaluation. Those that are missing or None, such
      as those with search if there is no critic, do not count.
  """
  known = [x for x in (metrics.get(name) for name in OUTCOMES) if x]
  return max(known, key=lambda x: x.count('1') / len(x), default='')


def warn_of_search(metrics: Mapping[str, Any], agent) -> None:
  """Warns if the policy succeeds less often with search than alone.

  Args:
    metrics: `RunState.latest`.
    agent: The agent evaluated. Without a search, as in most baselines, what is
      evaluated "with search" is the policy's mode.
  """
  searches = getattr(agent, 'searches', None)
  if searches is None or searches.evaluation.optimizer is None:
    return
  searched, alone = (metrics.get(name) for name in OUTCOMES)
  if not searched or not alone or not is_worse(searched, alone):
    return
  logging.warning(
      'The policy succeeds in %.0f %% of %d episodes with search, but in'
      ' %.0f %% alone: the critic misleads the search, and online fine-tuning'
      ' would distill its errors into the policy. Train the critic longer'
      ' (`Offline.num_steps`) or on a shorter horizon (`Critic.gamma`); see'
      ' docs/troubleshooting.md.',
      100.0 * metrics['success_rate'],
      len(searched),
      100.0 * metrics['success_rate_without_search'],
  )
