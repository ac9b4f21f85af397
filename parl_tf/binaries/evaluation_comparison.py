"""Compares two policies that played the same starts."""

from typing import NamedTuple, Optional

import numpy as np

from parl_tf import proportion
from parl_tf.training import equal_starts
from parl_tf.training import evaluation_result


class Comparison(NamedTuple):
  """How a policy does beside another one.

  Attributes:
    num_won: Starts in which it succeeds and the other fails.
    num_lost: Starts in which it fails and the other succeeds.
    by_chance: How often two equal policies differ as much, in either direction
      (McNemar's exact test).
    return_difference: Mean difference of the returns, start by start.
    return_error: Its standard error; None for a single start.
  """

  num_won: int
  num_lost: int
  by_chance: float
  return_difference: float
  return_error: Optional[float]

  def describe(self) -> str:
    """Returns one line with the comparison."""
    chance = 'less than 0.1 %'
    if self.by_chance >= 0.0005:
      chance = f'{100.0 * self.by_chance:.1f} %'
    error = ''
    if self.return_error is not None:
      error = f' (standard error {self.return_error:.1f})'
    return (
        f'{self.num_won} starts won, {self.num_lost} lost: equal policies'
        f' differ as much in {chance} of such comparisons; return'
        f' {self.return_difference:+.1f}{error}'
    )


def check_starts(
    domain,
    result: evaluation_result.EvaluationResult,
    other: evaluation_result.EvaluationResult,
) -> None:
  """Warns if two evaluations did not play the same starts.

  Args:
    domain: `Domain`; a robot, which has no seed, is not checked.
    result: The one evaluation.
    other: The other one.
  """
  if domain.max_environments is None:
    starts = equal_starts.EqualStarts()
    starts.see(result.episodes)
    starts.see(other.episodes)


def compare(
    result: evaluation_result.EvaluationResult,
    other: evaluation_result.EvaluationResult,
) -> Comparison:
  """Returns how one evaluation does beside another one of the same starts.

  Args:
    result: Evaluation of the policy.
    other: Evaluation of the other policy with the same seed and task.

  Raises:
    ValueError: If the numbers of episodes differ.
  """
  won = proportion.paired_chance(other.successes, result.successes)
  lost = proportion.paired_chance(result.successes, other.successes)
  differences = result.returns - other.returns
  num_starts = len(differences)
  error = None
  if num_starts > 1:
    error = float(np.std(differences, ddof=1) / np.sqrt(num_starts))
  return Comparison(
      num_won=int(np.sum(result.successes & ~other.successes)),
      num_lost=int(np.sum(other.successes & ~result.successes)),
      by_chance=min(1.0, 2.0 * min(won, lost)),
      return_difference=float(np.mean(differences)),
      return_error=error,
  )
