"""Ends an evaluation episode where the environment returns no finite number.

A simulation may diverge. That fails the episode, not the run.
"""

from typing import Any, Optional

from absl import logging
import dm_env
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import domain as domain_lib
from parl_tf.training import environment_check


class FiniteSteps:
  """The time steps of one episode."""

  def __init__(self, number: int, environment: domain_lib.Environment):
    """Initializes the object.

    Args:
      number: Number of the evaluation episode.
      environment: Its environment.
    """
    self._number = number
    self._environment = environment
    self._observation: Any = None
    self._lowest_reward: Optional[np.float32] = None
    self._has_failed = False

  def see(self, time_step: dm_env.TimeStep) -> dm_env.TimeStep:
    """Returns a time step; a time-out in its place if it is not finite.

    The time-out has the last finite observation, and the lowest reward so far,
    0 if there is none. It abandons the episode, so that a robot stops.

    Raises:
      ValueError: If the observation after a reset is not finite, or not that of
        the environment's spec.
    """
    if self._observation is None:
      environment_check.check_observation(
          time_step.observation, self._environment.observation_spec()
      )
    wrong = _first_that_is_not_finite(time_step)
    if wrong is None:
      # A copy, because some environments overwrite their observations.
      self._observation = tree.map_structure(np.copy, time_step.observation)
      if time_step.reward is not None:
        if self._lowest_reward is None:
          self._lowest_reward = time_step.reward
        self._lowest_reward = min(self._lowest_reward, time_step.reward)
      return time_step
    if self._observation is None:
      raise ValueError(
          f'Evaluation episode {self._number}: the {wrong} after a reset of the'
          ' environment must be finite, not NaN or infinite.'
      )
    logging.warning(
        'Evaluation episode %d ends as a failure, because the %s of the'
        ' environment is not finite.',
        self._number,
        wrong,
    )
    self._has_failed = True
    self._environment.abandon()
    reward = self._lowest_reward
    return dm_env.truncation(
        np.float32(0) if reward is None else reward,
        self._observation,
        np.float32(1),
    )

  def judged(self, episode: types.Episode) -> types.Episode:
    """Returns the episode, without success if it has failed."""
    if not self._has_failed:
      return episode
    return episode._replace(success=np.zeros_like(episode.success))


def _first_that_is_not_finite(time_step: dm_env.TimeStep) -> Optional[str]:
  if time_step.reward is not None and not np.isfinite(time_step.reward):
    return 'reward'
  for path, leaf in tree.flatten_with_path(time_step.observation):
    leaf = np.asarray(leaf)
    if leaf.dtype.kind == 'f' and not np.all(np.isfinite(leaf)):
      return ' '.join(['observation', *map(repr, path)])
  return None
