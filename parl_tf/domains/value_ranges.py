"""Ranges of the discounted return that follow from a task's rewards."""

from typing import Tuple


def until_success(
    reward_scale: float, reward_bias: float, gamma: float
) -> Tuple[float, float]:
  """Returns the range where success, and nothing else, has a raw reward of 1.

  Every other step has 0, and success ends the task. The return is then a mean
  of that of success at once, `reward_scale + reward_bias`, and that of no
  success ever, `reward_bias / (1 - gamma)`.

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
    lowest: float, highest: float, gamma: float
) -> Tuple[float, float]:
  """Returns the range of tasks with bounded rewards that may end at any step.

  Args:
    lowest: Lowest reward of a step, scaled and biased.
    highest: Highest reward of a step, scaled and biased.
    gamma: Discount factor in [0, 1).

  Returns:
    A lower and an upper bound of the return: the worst task goes on for ever
    where its rewards are negative and else ends at once; the best one is the
    other way round.
  """
  return (
      min(lowest, lowest / (1.0 - gamma)),
      max(highest, highest / (1.0 - gamma)),
  )
