"""The histogram of a critic's values, over the returns of the task."""

from typing import Optional

import gin

from parl_tf import types
from parl_tf import value_distribution


@gin.configurable('HLGauss', denylist=['value_range'])
def make_histogram(
    value_range: Optional[types.ValueRange],
    *,
    min_value: Optional[float] = None,
    max_value: Optional[float] = None,
    num_bins: int = 128,
    sigma_ratio: float = 0.75,
    released_sigma: bool = False,
) -> value_distribution.HLGauss:
  """Makes a histogram over the task's returns; `HLGauss` in gin.

  Args:
    value_range: Lowest and highest return of the task, or None if unknown.
    min_value: Lowest edge, in units of return; None takes the lowest return.
    max_value: Highest edge; None takes the highest return.
    num_bins: Number of bins; 128 in PA-RL (Mark et al., 2024,
      arXiv:2412.06685).
    sigma_ratio: Standard deviation in bin widths.
    released_sigma: See `value_distribution.HLGauss`.

  Raises:
    ValueError: If an edge is missing while `value_range` is None, or a number
      is out of range.
  """
  if value_range is None:
    if min_value is None or max_value is None:
      raise ValueError(
          '`HLGauss.min_value` and `HLGauss.max_value` must be given if the '
          f'domain has no value range, got {min_value} and {max_value}. For a '
          'gymnasium task bind `Gymnasium.reward_range` instead; for squared '
          'errors, `Critic.distribution_ctor = None`.'
      )
    value_range = (min_value, max_value)
  lowest, highest = value_range
  return value_distribution.HLGauss(
      lowest if min_value is None else min_value,
      highest if max_value is None else max_value,
      num_bins,
      sigma_ratio,
      released_sigma,
  )
