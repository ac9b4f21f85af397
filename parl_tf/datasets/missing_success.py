"""Success flags that a dataset lacks: others in their place, or the reason."""

from typing import List, Optional

from absl import logging
import numpy as np

from parl_tf.datasets import rows as rows_lib

_MAX_DISTINCT = 8  # More values than this are dense rewards.


def own_success(path: str, field: str, own: str) -> str:
  """Returns the success flags of a dataset that parl_tf wrote; warns.

  Args:
    path: Path of the dataset.
    field: `success_field`, which names a column of the data it comes from.
    own: Name of its own flags.
  """
  logging.warning('%s: has no `%s`; reading `%s`, which parl_tf wrote.',
                  path, field, own)
  return own


class Rewards:
  """Collects rewards, to find the threshold that would mark successes."""

  def __init__(self):
    """Initializes without rewards."""
    self._distinct = np.zeros([0])
    self._is_dense = False
    self._range = np.inf, -np.inf
    self._highest: List[float] = []  # Of each episode.
    self._current = -np.inf

  def add(self, rewards: np.ndarray) -> None:
    """Adds the next rewards `[rows]` of the current episode."""
    if not len(rewards):
      return
    low, high = float(np.min(rewards)), float(np.max(rewards))
    self._range = min(self._range[0], low), max(self._range[1], high)
    self._current = max(self._current, high)
    if not self._is_dense:
      self._distinct = np.union1d(self._distinct, rewards)
      self._is_dense = len(self._distinct) > _MAX_DISTINCT

  def end_episode(self) -> None:
    """Ends the current episode."""
    self._highest.append(self._current)
    self._current = -np.inf

  def hint(self, flags: Optional[str], success_reward: float) -> str:
    """Explains why no episode succeeds, and which binding would change it.

    Args:
      flags: Name of the stored success flags; None if there are none.
      success_reward: Without flags, the reward that a success exceeds.
    """
    if flags == rows_lib.TASK_SUCCESSES:
      return 'no episode succeeds: the data never solve this task.'
    if flags is not None:
      return (
          f'no episode succeeds: `{flags}` is 0 in every row. If there are'
          ' successes, bind `dataset.success_field` to the column that marks'
          " them, or, if the data was recorded here, the task's `success_key`"
          ' before you record it again.'
      )
    low, high = (x + 0.0 for x in self._range)  # No negative zero.
    reason = (
        'no episode succeeds: there are no success flags, and no reward exceeds'
        f' `dataset.success_reward` = {success_reward:g};'
    )
    if self._is_dense:
      return (
          f'{reason} rewards are {low:g} to {high:g}. Bind'
          ' `dataset.success_reward` to a number that only the rewards of'
          ' successes exceed, or `dataset.success_field` to a column that marks'
          ' them.'
      )
    if low == high:
      return (
          f'{reason} every reward is {low:g}. Bind `dataset.success_field` to a'
          ' column that marks successes'
          f'{rows_lib.DEMONSTRATIONS_HINT}.'
      )
    second, first = self._distinct[-2:]
    threshold = (first + second) / 2
    count = int(np.sum(np.array(self._highest) > threshold))
    values = ', '.join(f'{value:g}' for value in self._distinct)
    return (
        f'{reason} rewards are {values}. With `dataset.success_reward ='
        f' {threshold:g}`, {count} of {len(self._highest)} episodes succeed.'
    )
