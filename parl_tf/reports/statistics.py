"""Statistics of few seeds: estimates with intervals, and comparisons.

The unit is the seed, that is a whole run: episodes of one run share its
weights, so that more of them say nothing of the next run. Scores are `[R, D]`:
R seeds by D domains, the rows of different domains independent of each other.
Agarwal et al. (2021), arXiv:2108.13264, argue for these statistics; `rliable`
is their implementation of the bootstrap.
"""

import contextlib
import math
from typing import Iterator, NamedTuple, Optional, Tuple, Union

import numpy as np
from rliable import library

NUM_RESAMPLES = 5_000
_LEVEL = 0.95
# Standard normal quantiles: of a two-sided test at 5 %, and of a power of 80 %.
_Z_LEVEL, _Z_POWER = 1.96, 0.84
_CUT = 0.25

Number = Union[float, np.ndarray]


class Estimate(NamedTuple):
  """A number, or an array of numbers, with a 95 % interval.

  Attributes:
    value: The estimate.
    low: Lower limit, NaN where one seed gives none.
    high: Upper limit, likewise.
  """

  value: Number
  low: Number
  high: Number

  @property
  def has_interval(self) -> bool:
    """Whether there were enough seeds for an interval."""
    return bool(np.all(np.isfinite(self.low)))


class Comparison(NamedTuple):
  """Two methods, the first against the second.

  Attributes:
    difference: Of the interquartile means, first minus second.
    probability: Of a seed of the first scoring more than one of the second.
    num_seeds: Of the first, and of the second.
    num_needed_seeds: Of each, to resolve a difference as large as that seen if
      the scores vary as those seen; None where it cannot be told.
  """

  difference: Estimate
  probability: Estimate
  num_seeds: Tuple[int, int]
  num_needed_seeds: Optional[int]

  @property
  def is_resolved(self) -> bool:
    """Whether the interval of the difference excludes 0."""
    low, high = self.difference.low, self.difference.high
    return bool(low > 0.0 or high < 0.0)  # False where they are NaN.


def interquartile_mean(scores: np.ndarray) -> Number:
  """Computes the mean of the middle half, over seeds and domains together.

  A quarter of the `R D` numbers, rounded down, is cut from either end: of fewer
  than four it is the mean.

  Args:
    scores: `[R, D, ...]`.

  Returns:
    `[...]`.

  Raises:
    ValueError: If the shape is another one or a number is not finite.
  """
  _check(scores)
  return _trimmed_mean(scores)


def estimate(
    scores: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
  """Estimates the interquartile mean, with a stratified bootstrap over seeds.

  Each resample draws R seeds anew, with replacement, in every domain; limits
  are percentiles.

  Args:
    scores: `[R, D, ...]`.
    num_resamples: Resamples of the bootstrap.
    seed: Seed of the resampling.

  Returns:
    `[...]` estimates; without intervals where R is 1.

  Raises:
    ValueError: If the shape is another one or a number is not finite.
  """
  value = interquartile_mean(scores)
  if len(scores) < 2:
    nothing = np.full(np.shape(value), np.nan)[()]
    return Estimate(value, nothing, nothing)
  # The library wants a vector of what it is to find intervals of.
  shape = np.shape(value)
  low, high = _bootstrap(
      scores, lambda x: np.ravel(_trimmed_mean(x)), num_resamples, seed
  )
  return Estimate(value, low.reshape(shape)[()], high.reshape(shape)[()])


def compare(
    first: np.ndarray,
    second: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Comparison:
  """Compares two methods on the same domains.

  Args:
    first: `[R1, D]` scores.
    second: `[R2, D]` scores, of other runs.
    num_resamples: Resamples of the bootstrap, which draws both independently.
    seed: Seed of the resampling.

  Raises:
    ValueError: If the shapes do not fit or a number is not finite.
  """
  _check(first)
  _check(second)
  if first.shape[1:] != second.shape[1:] or first.ndim != 2:
    raise ValueError(
        'Both must be scores [seeds, domains] of the same domains, got shapes'
        f' {list(first.shape)} and {list(second.shape)}.'
    )

  def both(x, y):
    difference = _trimmed_mean(x) - _trimmed_mean(y)
    return np.array([difference, probability_of_improvement(x, y)])

  values = both(first, second)
  limits = np.full([2, 2], np.nan)
  if min(len(first), len(second)) > 1:
    limits = _bootstrap([first, second], both, num_resamples, seed)
  return Comparison(
      difference=Estimate(*(float(x[0]) for x in (values, *limits))),
      probability=Estimate(*(float(x[1]) for x in (values, *limits))),
      num_seeds=(len(first), len(second)),
      num_needed_seeds=needed_seeds(first, second),
  )


def probability_of_improvement(
    first: np.ndarray, second: np.ndarray
) -> np.ndarray:
  """Computes P(X > Y) + P(X = Y) / 2, averaged over domains.

  This is the Mann-Whitney statistic over the number of pairs, as in `rliable`,
  whose function is too slow for thousands of resamples.

  Args:
    first: `[R1, D]` scores X.
    second: `[R2, D]` scores Y.

  Returns:
    Scalar in [0, 1].
  """
  difference = first[:, None] - second[None]  # [R1, R2, D]
  return np.mean((np.sign(difference) + 1.0) / 2.0)


def needed_seeds(first: np.ndarray, second: np.ndarray) -> Optional[int]:
  """Computes how many seeds a method would need to resolve what was seen.

  Implements the normal approximation n = (1.96 + 0.84)^2 (s1^2 + s2^2) / d^2:
  a difference of means d is then found in 80 % of studies by a two-sided test
  at 5 %. The seen variances stand for the true ones, which few seeds know but
  roughly.

  Args:
    first: `[R1, D]` scores; each row's mean over domains is one draw.
    second: `[R2, D]` scores.

  Returns:
    Seeds of each method, at least 2; None if either has one seed or d is 0.
  """
  first_means, second_means = first.mean(axis=1), second.mean(axis=1)
  difference = np.mean(first_means) - np.mean(second_means)
  if min(len(first), len(second)) < 2 or not difference:
    return None
  variance = np.var(first_means, ddof=1) + np.var(second_means, ddof=1)
  needed = (_Z_LEVEL + _Z_POWER) ** 2 * variance / difference**2
  return max(2, math.ceil(needed))


def _trimmed_mean(scores: np.ndarray) -> Number:
  # `scipy.stats.trim_mean` takes many times as long, and is called thousands of
  # times.
  flat = np.sort(scores.reshape((-1, *scores.shape[2:])), axis=0)
  cut = int(_CUT * len(flat))
  return flat[cut : len(flat) - cut].mean(axis=0)


def _bootstrap(scores, function, num_resamples, seed):
  """Returns the lower and upper limits of `function` of resampled `scores`."""
  with _seeded(seed):
    _, limits = library.get_interval_estimates(
        {'': scores},
        function,
        reps=num_resamples,
        confidence_interval_size=_LEVEL,
    )
  return limits['']


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
  # rliable draws from numpy's global generator, whatever state it is given.
  state = np.random.get_state()
  np.random.seed(seed)
  try:
    yield
  finally:
    np.random.set_state(state)


def _check(scores: np.ndarray) -> None:
  if scores.ndim < 2 or not scores.size:
    raise ValueError(
        'Scores must be [seeds, domains, ...], none of them 0, got shape'
        f' {list(scores.shape)}.'
    )
  if not np.all(np.isfinite(scores)):
    raise ValueError(f'Scores must be finite, got {scores}.')
