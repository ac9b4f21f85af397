"""Confidence intervals and paired tests of observed success rates."""

import math
from typing import Any, Iterable, Tuple


def wilson_interval(
    rate: float, num_trials: int, z: float = 1.959964
) -> Tuple[float, float]:
  """Computes the score interval of a proportion (Wilson, 1927).

  Args:
    rate: Fraction of successes, in [0, 1].
    num_trials: Number of independent trials, such as episodes of one fixed
      policy. If trials of several runs are pooled, the interval describes their
      policies, not the method.
    z: Quantile of the standard normal; the default gives a 95 % interval.

  Returns:
    The lower and the upper limit.

  Raises:
    ValueError: If `rate` or `num_trials` is out of range.
  """
  if num_trials < 1:
    raise ValueError(f'`num_trials` must be positive, got {num_trials}.')
  if not 0.0 <= rate <= 1.0:
    raise ValueError(f'`rate` must be in [0, 1], got {rate}.')
  scale = 1.0 / (1.0 + z**2 / num_trials)
  center = scale * (rate + z**2 / (2.0 * num_trials))
  half_width = (scale * z) * math.sqrt(
      rate * (1.0 - rate) / num_trials + z**2 / (4.0 * num_trials**2)
  )
  return max(0.0, center - half_width), min(1.0, center + half_width)


def paired_chance(outcomes: Iterable[Any], than: Iterable[Any]) -> float:
  """Returns how often chance alone makes a policy at least this much worse.

  This is McNemar's exact test (1947), one-sided: of the starts in which one
  policy succeeds and the other fails, each is as likely to be won by either if
  the policies are equal. Starts with equal outcomes tell nothing.

  Args:
    outcomes: Successes of the policy, true or false, by start.
    than: Successes of the other policy in the same starts.

  Raises:
    ValueError: If the numbers of starts differ.
  """
  pairs = list(zip(outcomes, than, strict=True))
  num_lost = sum(not x and bool(y) for x, y in pairs)
  num_won = sum(bool(x) and not y for x, y in pairs)
  num_decided = num_lost + num_won
  at_least = range(num_lost, num_decided + 1)
  return sum(math.comb(num_decided, i) for i in at_least) / 2**num_decided
