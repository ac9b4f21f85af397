"""Exact permutation tests over seeds.

The tests assume nothing about the distribution of scores, and hold for any
number of seeds. If two methods are equal, every assignment of their runs to
them was equally likely. The probability of a difference by chance is the share
of assignments whose difference is at least as large as the observed one. With
three seeds each there are 20, so no two-sided test is below 10 %.
"""

import itertools
import math

import numpy as np

LEVEL = 0.05
"""A difference is resolved if its probability by chance is at most this."""

_MAX_ASSIGNMENTS = 200_000


def by_chance_of_two(
    first: np.ndarray, second: np.ndarray, *, is_two_sided: bool = True
) -> float:
  """Returns how often chance gives such a difference between two methods.

  The difference is that of the means, first minus second. A run that covers
  several domains is assigned as a whole.

  Args:
    first: `[R1, D]` scores: R1 seeds by D domains.
    second: `[R2, D]` scores of other runs.
    is_two_sided: Whether differences of the other sign count, too.

  Raises:
    ValueError: If there are too many seeds for an exact test.
  """
  means = np.concatenate([first.mean(axis=1), second.mean(axis=1)])
  num_first, num_runs = len(first), len(means)
  num_assignments = math.comb(num_runs, num_first)
  _check(num_assignments)
  chosen = np.array(list(itertools.combinations(range(num_runs), num_first)))
  sums = means[chosen].sum(axis=1)
  differences = sums / num_first - (means.sum() - sums) / len(second)
  return _share(differences, differences[0], is_two_sided)


def by_chance_of_one(
    differences: np.ndarray, *, is_two_sided: bool = True
) -> float:
  """Returns how often chance gives differences with such a mean.

  If there is no effect, each difference is as likely to have the other sign.

  Args:
    differences: `[R, D]`: R seeds by D domains.
    is_two_sided: Whether means of the other sign count, too.

  Raises:
    ValueError: If there are too many seeds for an exact test.
  """
  means = differences.mean(axis=1)
  _check(2 ** len(means))
  signs = np.array(list(itertools.product([1.0, -1.0], repeat=len(means))))
  return _share(signs @ means, means.sum(), is_two_sided)


def _check(num_assignments: int) -> None:
  if num_assignments > _MAX_ASSIGNMENTS:
    raise ValueError(
        f'An exact test is limited to {_MAX_ASSIGNMENTS:,} assignments of runs,'
        f' got {num_assignments:,}: use fewer seeds.'
    )


def _share(
    numbers: np.ndarray, observed: float, is_two_sided: bool
) -> float:
  """Returns the share of numbers that are at least the observed one."""
  if is_two_sided:
    numbers, observed = np.abs(numbers), abs(observed)
  # Equal assignments may differ by rounding.
  return float(np.mean(numbers >= observed - 1e-9 * max(1.0, abs(observed))))
