"""Success of a gymnasium task: an entry of `info`, or the reward."""

from typing import Any, Mapping, Optional, Sequence, Set, Union

from absl import logging
import numpy as np

KEYS = ('success', 'is_success')
"""Entries of `info` that tasks commonly use."""


class SuccessSignal:
  """Decides whether a step solved the task, and warns if none ever can.

  The environments of a task share one signal, so that it warns only once.
  """

  def __init__(
      self,
      key: Union[str, Sequence[str], None] = KEYS,
      reward: float = 0.0,
      is_expected: bool = True,
  ):
    """Initializes the signal.

    Args:
      key: Entry of `info` that is true on success, or several, of which the
        first present one counts; a missing entry means no success. None to use
        the reward.
      reward: If `key` is None, rewards above this value are successes.
      is_expected: Whether to warn if no episode can succeed.
    """
    self._keys = (key,) if isinstance(key, str) else key
    self._reward = reward
    self._is_confirmed = self._keys is None or not is_expected
    self._num_steps = 0
    self._info_keys: Set[str] = set()
    self._lowest, self._highest = np.inf, -np.inf

  def is_success(self, reward: float, info: Mapping[str, Any]) -> bool:
    """Returns whether a step solved the task.

    Args:
      reward: Raw reward of the step; NaN after a reset.
      info: The step's or the reset's `info`.
    """
    if self._keys is None:
      return reward > self._reward
    for key in self._keys:
      if key in info:
        self._is_confirmed = True
        return bool(info[key])
    if not self._is_confirmed:
      self._num_steps += 1
      self._info_keys.update(map(str, info))
      self._lowest = np.fmin(self._lowest, reward)
      self._highest = np.fmax(self._highest, reward)
    return False

  def end_episode(self) -> None:
    """Warns after the first episode if `info` never had the entry."""
    if self._is_confirmed or self._keys is None:
      return
    self._is_confirmed = True
    names = sorted(self._info_keys)
    logging.warning(
        'No episode can succeed: `info` had no entry %s in %d steps, %s.'
        ' Bind `success_key` to the entry that is true on success, or to None'
        ' and `success_reward` to a number that only the rewards of successes'
        ' exceed; rewards were %g to %g. If the task is judged by its return,'
        ' bind `Gymnasium.score_returns`. Ignore this if the task adds the'
        ' entry only on success.',
        ' or '.join(map(repr, self._keys)),
        self._num_steps,
        f'only {names}' if names else 'and no other',
        self._lowest,
        self._highest,
    )


def warn_if_impossible(
    success_reward: float, highest_reward: Optional[float]
) -> None:
  """Warns if no reward can exceed `success_reward`.

  Args:
    success_reward: Rewards above this value are successes.
    highest_reward: Highest raw reward of a step; None if unknown.
  """
  if highest_reward is not None and highest_reward <= success_reward:
    logging.warning(
        'No episode can succeed: a reward above `success_reward` = %g is a'
        ' success, but the highest reward of `reward_range` is %g. Bind'
        ' `success_reward` to a lower number, or `success_key`.',
        success_reward,
        highest_reward,
    )
