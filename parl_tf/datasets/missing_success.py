"""Success flags that a dataset lacks: others in their place, or what to do."""

from typing import List, Optional

from absl import logging
import numpy as np

from parl_tf.datasets import rows as rows_lib

_MAX_DISTINCT = 8  # More values than this are dense rewards.
_MAX_SHARE = 0.5  # Of rows with dense rewards, that count as successes.


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
  """Collects rewards, to tell whether some threshold marks successes."""

  def __init__(self):
    """Initializes without rewards."""
    self._distinct = np.zeros([0])
    self._is_dense = False
    self._range = np.inf, -np.inf
    self._highest: List[float] = []  # Of each episode.
    self._current = -np.inf
    self._num_rows = self._num_successes = 0

  def add(self, rewards: np.ndarray, successes: np.ndarray) -> None:
    """Adds the next rows of the current episode.

    Args:
      rewards: `[rows]`.
      successes: `[rows]`, whether a row counts as a success.
    """
    if not len(rewards):
      return
    self._num_rows += len(rewards)
    self._num_successes += int(np.sum(successes))
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

  def hint(self, flags: Optional[str], layout: rows_lib.Layout) -> str:
    """Explains why nothing, or nearly everything, counts as a success.

    Args:
      flags: Name of the stored success flags; None if there are none.
      layout: How successes are found without flags.

    Returns:
      The reason, and which binding would change it; '' if neither is so.
    """
    if not self._num_successes:
      if np.isinf(layout.success_reward):
        return ''  # No success is expected.
      return self._hint_of_none(flags, layout.success_reward)
    share = self._num_successes / self._num_rows
    if (
        flags is None
        and self._is_dense
        and share > _MAX_SHARE
        and not layout.every_episode_succeeds
    ):
      return (
          f'{share:.0%} of the rows count as successes: there are no success'
          f' flags, and rewards above `dataset.success_reward` ='
          f' {layout.success_reward:g} count. Bind it to a number that only the'
          ' rewards of successes exceed; if the task has none, to one above all'
          f' rewards, which are at most {self._range[1]:g} here.'
      )
    return ''

  def _hint_of_none(self, flags: Optional[str], success_reward: float) -> str:
    """Explains why no episode succeeds; see `hint`."""
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
