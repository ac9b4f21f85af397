"""Permutation tests over seeds.

The tests assume nothing about the distribution of scores, and hold for any
number of seeds. If two methods are equal, every assignment of their runs to
them was equally likely. The probability of a difference by chance is the share
of assignments whose difference is at least as large as the observed one. With
three seeds each there are 20, so no two-sided test is below 10 %.

Up to 200,000 assignments, such as those of ten seeds each, the test is exact.
Beyond, it counts 100,000 random ones and the observed one.
"""

import itertools
import math

import numpy as np

LEVEL = 0.05
"""A difference is resolved if its probability by chance is at most this."""

_MAX_ASSIGNMENTS = 200_000
_NUM_DRAWN = 100_000


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
  """
  means = np.concatenate([first.mean(axis=1), second.mean(axis=1)])
  num_first, num_runs = len(first), len(means)
  if math.comb(num_runs, num_first) <= _MAX_ASSIGNMENTS:
    every = itertools.combinations(range(num_runs), num_first)
    chosen = np.array(list(every))
  else:
    order = np.tile(np.arange(num_runs), [_NUM_DRAWN + 1, 1])
    np.random.default_rng(0).permuted(order[1:], axis=1, out=order[1:])
    chosen = order[:, :num_first]
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
  """
  means = differences.mean(axis=1)
  if 2 ** len(means) <= _MAX_ASSIGNMENTS:
    every = itertools.product([1.0, -1.0], repeat=len(means))
    signs = np.array(list(every))
  else:
    random = np.random.default_rng(0)
    signs = random.choice([1.0, -1.0], [_NUM_DRAWN + 1, len(means)])
    signs[0] = 1.0
  return _share(signs @ means, means.sum(), is_two_sided)


def _share(
    numbers: np.ndarray, observed: float, is_two_sided: bool
) -> float:
  """Returns the share of numbers that are at least the observed one."""
  if is_two_sided:
    numbers, observed = np.abs(numbers), abs(observed)
  # Equal assignments may differ by rounding.
  return float(np.mean(numbers >= observed - 1e-9 * max(1.0, abs(observed))))
