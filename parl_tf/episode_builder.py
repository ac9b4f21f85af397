"""Builds an episode step by step while it is collected."""

import numpy as np
import tree

from parl_tf import types


class EpisodeBuilder:
  """Collects the observations and steps of one episode.

  Copies all arrays, because an environment may reuse its own.
  """

  def __init__(self):
    self._observations = []
    self._steps = []

  @property
  def num_steps(self) -> int:
    """The number of steps added so far."""
    return len(self._steps)

  def add_observation(self, observation: types.Nest) -> None:
    """Adds the observation before the first step or after the latest one."""
    self._observations.append(tree.map_structure(np.array, observation))

  def add_step(
      self, action: np.ndarray, reward: float, discount: float, success: bool
  ) -> None:
    """Adds a step.

    Args:
      action: `[A]` float32 in [-1, 1].
      reward: Raw reward.
      discount: 0 if the step ends the task, otherwise 1.
      success: Whether the task is solved after the step.
    """
    self._steps.append((np.array(action), reward, discount, success))

  def build(
      self, episode_id: int = 0, policy_version: int = -1
  ) -> types.Episode:
    """Returns the episode.

    Args:
      episode_id: Identity of the episode within its source.
      policy_version: Training step of the acting weights; -1 for a dataset.

    Raises:
      ValueError: If there are no steps, or the number of observations is not
        the number of steps plus 1.
    """
    if not self._steps:
      raise ValueError('An episode must have at least one step, got none.')
    if len(self._observations) != len(self._steps) + 1:
      raise ValueError(
          f'An episode of {len(self._steps)} steps must have'
          f' {len(self._steps) + 1} observations, got'
          f' {len(self._observations)}.'
      )
    action, reward, discount, success = zip(*self._steps, strict=True)
    return types.Episode(
        observation=tree.map_structure(
            lambda *rows: np.stack(rows), *self._observations
        ),
        action=np.stack(action),
        reward=np.asarray(reward, np.float32),
        discount=np.asarray(discount, np.float32),
        success=np.asarray(success, np.bool_),
        episode_id=episode_id,
        policy_version=policy_version,
    )
