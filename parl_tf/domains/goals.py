"""How the observations and rewards of a task depend on its goal."""

import abc
from typing import NamedTuple

import numpy as np

from parl_tf import types


class Judgment(NamedTuple):
  """What n steps are worth under a goal.

  Attributes:
    reward: `[n]` float32, raw.
    success: `[n]` bool, whether the step reaches the goal.
    is_terminal: `[n]` bool, whether the step ends the task.
  """

  reward: np.ndarray
  success: np.ndarray
  is_terminal: np.ndarray


class Goals(abc.ABC):
  """Tells what an episode would have been with another goal.

  A goal is an array `[G]`. It must have no influence on the motion, only on
  observations and rewards.
  """

  @abc.abstractmethod
  def achieved(self, observation: types.Nest) -> np.ndarray:
    """Returns the goals `[n, G]` that observations `[n, ...]` have reached."""

  @abc.abstractmethod
  def desired(self, observation: types.Nest) -> np.ndarray:
    """Returns the goals `[n, G]` that observations `[n, ...]` ask for."""

  @abc.abstractmethod
  def replaced(self, observation: types.Nest, goal: np.ndarray) -> types.Nest:
    """Returns observations `[n, ...]` with `goal` `[G]` as the desired one."""

  @abc.abstractmethod
  def judge(self, achieved: np.ndarray, goal: np.ndarray) -> Judgment:
    """Judges steps that lead to `achieved` `[n, G]` by `goal` `[G]`.

    Raises:
      ValueError: If the task cannot judge them.
    """
