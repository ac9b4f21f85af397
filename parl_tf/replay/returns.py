"""Discounted returns of the steps of an episode."""

from typing import Optional

import numpy as np


def monte_carlo_returns(
    rewards: np.ndarray,
    discounts: np.ndarray,
    gamma: float,
    never_succeeds_value: Optional[float] = None,
) -> np.ndarray:
  """Computes the discounted return-to-go of each step of one episode.

  Implements G_t = r_t + gamma * discount_t * G_{t+1}, where G is 0 past the
  last step. This is the calibration bound of Nakamoto et al. (2023),
  arXiv:2303.05479. In a sparse task with negative rewards until success, an
  episode that never succeeds is treated as infinite: each G_t is
  `never_succeeds_value`.

  Args:
    rewards: `[T]`, after reward scale and bias.
    discounts: `[T]`, 0 if the step ended the task. A 0 before the last step
      truncates the sum.
    gamma: Discount factor in [0, 1].
    never_succeeds_value: Value of every step if every reward is negative, for
      example -1 / (1 - gamma). None if the task has no such value.

  Returns:
    `[T]` float32.

  Raises:
    ValueError: If shapes differ or `gamma` is not in [0, 1].
  """
  # Use float64: a sum over a thousand float32 steps loses three digits.
  rewards = np.asarray(rewards, np.float64)
  discounts = np.asarray(discounts, np.float64)
  if rewards.ndim != 1 or rewards.shape != discounts.shape:
    raise ValueError(
        '`rewards` and `discounts` must have the same shape [T], got '
        f'{list(rewards.shape)} and {list(discounts.shape)}.'
    )
  if not 0.0 <= gamma <= 1.0:
    raise ValueError(f'`gamma` must be in [0, 1], got {gamma}.')
  if never_succeeds_value is not None and np.all(rewards < 0):
    return np.full(rewards.shape, never_succeeds_value, np.float32)
  returns = np.zeros_like(rewards)
  following = 0.0
  for step in reversed(range(len(rewards))):
    following = rewards[step] + gamma * discounts[step] * following
    returns[step] = following
  return returns.astype(np.float32)
