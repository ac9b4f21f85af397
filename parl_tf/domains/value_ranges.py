"""Ranges of the discounted return, derived from a task's rewards."""

from typing import Tuple


def until_success(
    reward_scale: float, reward_bias: float, gamma: float
) -> Tuple[float, float]:
  """Returns the range if the raw reward is 1 at success and 0 elsewhere.

  Success ends the episode. Every return then lies between that of immediate
  success, `reward_scale + reward_bias`, and that of never succeeding,
  `reward_bias / (1 - gamma)`.

  Args:
    reward_scale: Factor on the raw reward.
    reward_bias: Added to the scaled reward.
    gamma: Discount factor in [0, 1).

  Returns:
    The lowest and the highest return.
  """
  ends = (reward_bias / (1.0 - gamma), reward_scale + reward_bias)
  return min(ends), max(ends)


def of_rewards(
    lowest: float,
    highest: float,
    reward_scale: float,
    reward_bias: float,
    gamma: float,
) -> Tuple[float, float]:
  """Returns the range for bounded rewards, if an episode may end at any step.

  Args:
    lowest: Lowest raw reward of a step.
    highest: Highest raw reward of a step.
    reward_scale: Factor on the raw reward.
    reward_bias: Added to the scaled reward.
    gamma: Discount factor in [0, 1).

  Returns:
    A lower and an upper bound of the return. The worst episode never ends if
    its rewards are negative, and otherwise ends immediately. The best episode
    never ends if its rewards are positive, and otherwise ends immediately.
  """
  lowest = reward_scale * lowest + reward_bias
  highest = reward_scale * highest + reward_bias
  return (
      min(lowest, lowest / (1.0 - gamma)),
      max(highest, highest / (1.0 - gamma)),
  )
