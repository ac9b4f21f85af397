"""Statistics of few seeds: estimates with intervals, and comparisons.

The unit of analysis is the seed, i.e. a whole run. Episodes of one run share
its weights, so more of them carry no information about other runs. Scores are
`[R, D]`: R seeds by D domains. Seeds are not paired across domains.
The statistics follow Agarwal et al. (2021), arXiv:2108.13264; `rliable` is
their implementation of the bootstrap.
"""

import contextlib
import math
from typing import Iterator, NamedTuple, Optional, Tuple, Union

import numpy as np

from parl_tf.reports import permutation

NUM_RESAMPLES = 5_000
MIN_SEEDS = 5
"""Fewest seeds with an interval. In a simulation, 95 % intervals of two, three
and five seeds contain the mean in 50, 75 and 89 % of cases."""
_LEVEL = 0.95
# Standard normal quantiles of 5 % tests and of a power of 80 %.
_Z_TWO_SIDED, _Z_ONE_SIDED, _Z_POWER = 1.96, 1.645, 0.84
_CUT = 0.25

Number = Union[float, np.ndarray]


class Estimate(NamedTuple):
  """A number, or an array of numbers, with a 95 % interval.

  Attributes:
    value: The estimate.
    low: Lower limit; NaN with fewer than `MIN_SEEDS`.
    high: Upper limit; NaN with fewer.
  """

  value: Number
  low: Number
  high: Number

  @property
  def has_interval(self) -> bool:
    """Whether there were enough seeds for an interval."""
    return bool(np.all(np.isfinite(self.low)))


class Comparison(NamedTuple):
  """Comparison of a first method with a second one.

  Attributes:
    difference: Difference of the interquartile means, first minus second.
    mean_difference: Difference of the means, to which `by_chance` applies.
    probability: Probability that a seed of the first scores above one of the
      second.
    by_chance: Probability of a difference of means of at least this size, in
      either direction, if the methods are equal; see `permutation`.
    num_seeds: Numbers of seeds of the first and of the second method.
    num_needed_seeds: Seeds per method needed to resolve the observed
      difference, given the observed variances; None if it cannot be computed.
  """

  difference: Estimate
  mean_difference: float
  probability: Estimate
  by_chance: float
  num_seeds: Tuple[int, int]
  num_needed_seeds: Optional[int]

  @property
  def is_resolved(self) -> bool:
    """Whether the permutation test excludes chance at the 5 % level."""
    return self.by_chance <= permutation.LEVEL


def interquartile_mean(scores: np.ndarray) -> Number:
  """Computes the mean of the middle half, over seeds and domains together.

  Drops a quarter of the `R D` numbers, rounded down, at each end. With fewer
  than four numbers, it is the mean.

  Args:
    scores: `[R, D, ...]`.

  Returns:
    `[...]`.

  Raises:
    ValueError: If the shape is invalid or a number is not finite.
  """
  _check(scores)
  return _trimmed_mean(scores)


def estimate(
    scores: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Estimate:
  """Estimates the interquartile mean, with a stratified bootstrap over seeds.

  Each resample draws R seeds with replacement in every domain. The limits are
  percentiles of the resampled means.

  Args:
    scores: `[R, D, ...]`.
    num_resamples: Number of bootstrap resamples.
    seed: Seed of the resampling.

  Returns:
    `[...]` estimates, without intervals if R is below `MIN_SEEDS`.

  Raises:
    ValueError: If the shape is invalid or a number is not finite.
  """
  value = interquartile_mean(scores)
  if len(scores) < MIN_SEEDS:
    nothing = np.full(np.shape(value), np.nan)[()]
    return Estimate(value, nothing, nothing)
  # rliable expects the statistic as a vector.
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
    num_resamples: Number of bootstrap resamples; the methods are resampled
      independently. Without intervals if either has fewer than `MIN_SEEDS`.
    seed: Seed of the resampling.

  Raises:
    ValueError: If the shapes do not match or a number is not finite.
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
  if min(len(first), len(second)) >= MIN_SEEDS:
    limits = _bootstrap([first, second], both, num_resamples, seed)
  return Comparison(
      difference=Estimate(*(float(x[0]) for x in (values, *limits))),
      mean_difference=float(first.mean() - second.mean()),
      probability=Estimate(*(float(x[1]) for x in (values, *limits))),
      by_chance=permutation.by_chance_of_two(first, second),
      num_seeds=(len(first), len(second)),
      num_needed_seeds=needed_seeds(first, second),
  )


def probability_of_improvement(
    first: np.ndarray, second: np.ndarray
) -> np.ndarray:
  """Computes P(X > Y) + P(X = Y) / 2, averaged over domains.

  This is the Mann-Whitney statistic divided by the number of pairs, as in
  `rliable`, whose function is too slow for thousands of resamples.

  Args:
    first: `[R1, D]` scores X.
    second: `[R2, D]` scores Y.

  Returns:
    Scalar in [0, 1].
  """
  difference = first[:, None] - second[None]  # [R1, R2, D]
  return np.mean((np.sign(difference) + 1.0) / 2.0)


def needed_seeds(
    first: np.ndarray, second: np.ndarray, *, is_two_sided: bool = True
) -> Optional[int]:
  """Computes how many seeds are needed to resolve the observed difference.

  Implements the normal approximation n = (1.96 + 0.84)^2 (s1^2 + s2^2) / d^2: a
  two-sided test at 5 % then detects a difference of means d in 80 % of studies.
  For a one-sided test, 1.645 replaces 1.96. The observed variances replace the
  true ones, of which few seeds give only a rough estimate.

  Args:
    first: `[R1, D]` scores; the mean of each row over domains is one sample.
    second: `[R2, D]` scores.
    is_two_sided: Whether the test is two-sided.

  Returns:
    Seeds per method, at least 4 (3 if one-sided), since the permutation test
    resolves nothing with fewer; None if either has one seed or d is 0.
  """
  first_means, second_means = first.mean(axis=1), second.mean(axis=1)
  difference = np.mean(first_means) - np.mean(second_means)
  if min(len(first), len(second)) < 2 or not difference:
    return None
  variance = np.var(first_means, ddof=1) + np.var(second_means, ddof=1)
  z_level, least = (_Z_TWO_SIDED, 4) if is_two_sided else (_Z_ONE_SIDED, 3)
  needed = (z_level + _Z_POWER) ** 2 * variance / difference**2
  return max(least, math.ceil(needed))


def _trimmed_mean(scores: np.ndarray) -> Number:
  # Much faster than `scipy.stats.trim_mean`, and called thousands of times.
  flat = np.sort(scores.reshape((-1, *scores.shape[2:])), axis=0)
  cut = int(_CUT * len(flat))
  return flat[cut : len(flat) - cut].mean(axis=0)


def _bootstrap(scores, function, num_resamples, seed):
  """Returns the interval limits of `function` over resamples of `scores`."""
  # Imported here: it takes a second, and not all users of this module need it.
  from rliable import library

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
  # rliable draws from NumPy's global generator, whatever state it is given.
  state = np.random.get_state()
  np.random.seed(seed)
  try:
    yield
  finally:
    np.random.set_state(state)


def _check(scores: np.ndarray) -> None:
  if scores.ndim < 2 or not scores.size:
    raise ValueError(
        'Scores must be [seeds, domains, ...] with no axis of size 0, got shape'
        f' {list(scores.shape)}.'
    )
  if not np.all(np.isfinite(scores)):
    raise ValueError(f'Scores must be finite, got {scores}.')
