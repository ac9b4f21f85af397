"""Discounted returns of the steps of an episode."""

from typing import Iterable, Optional, Tuple

import numpy as np


def monte_carlo_returns(
    rewards: np.ndarray,
    discounts: np.ndarray,
    gamma: float,
    never_succeeds_value: Optional[float] = None,
    extrapolate: bool = False,
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
    extrapolate: Whether an episode that a time limit ended goes on as it went:
      G past the last step is that of endless steps with the episode's mean
      reward. Without it, the last steps of such an episode have returns close
      to 0, which bound no value from below if rewards are negative.

  Returns:
    `[T]` float32.

  Raises:
    ValueError: If shapes differ, `gamma` is not in [0, 1], or it is 1 and
      `extrapolate` is True.
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
  if extrapolate:
    if gamma == 1.0:
      raise ValueError('`gamma` must be below 1 with `extrapolate`, got 1.')
    following = np.mean(rewards) / (1.0 - gamma)
  for step in reversed(range(len(rewards))):
    following = rewards[step] + gamma * discounts[step] * following
    returns[step] = following
  return returns.astype(np.float32)


def mean_value(
    episodes: Iterable[Tuple[np.ndarray, np.ndarray]], gamma: float
) -> float:
  """Computes the mean over all steps of their discounted return-to-go.

  Past the last step of an episode that a time limit ended, the return is the
  mean itself: v = mean(A_t + B_t v), where A_t is the return within the episode
  and B_t the discount from step t past its last step.

  Args:
    episodes: Rewards `[T]`, after scale and bias, and discounts `[T]`, 0 if the
      step ended the task.
    gamma: Discount factor in [0, 1].

  Raises:
    ValueError: If there is no step, or nothing ends or discounts the returns.
  """
  within, past = [], []
  for rewards, discounts in episodes:
    rewards = np.asarray(rewards, np.float64)
    following, factor = 0.0, 1.0
    for step in reversed(range(len(rewards))):
      discount = gamma * float(discounts[step])
      following = rewards[step] + discount * following
      factor *= discount
      within.append(following)
      past.append(factor)
  if not within or np.mean(past) == 1.0:
    raise ValueError(
        'The mean value is unknown without steps, and if `gamma` is 1 and no '
        f'step ended the task; got {len(within)} steps and gamma {gamma}.'
    )
  return float(np.mean(within) / (1.0 - np.mean(past)))
