"""Notices a task that ends episodes as failures at its time limit."""

from absl import logging

from parl_tf import types
from parl_tf.domains import domain as domain_lib


class TimeLimits:
  """Warns once if no time-out leaves the discount at 1."""

  def __init__(self, domain: domain_lib.Domain):
    """Initializes the object for the episodes of a domain."""
    self._limit = domain.max_episode_steps
    self._num_ended = 0
    self._is_decided = self._limit == 1  # Every episode has that length.

  def see(self, episode: types.Episode) -> None:
    """Looks at a whole episode."""
    if self._is_decided or episode.num_steps != self._limit:
      return
    if episode.discount[-1] != 0:
      self._is_decided = True
      return
    if episode.success[-1]:
      return
    self._num_ended += 1
    if self._num_ended == 2:  # One may have failed just then.
      self._is_decided = True
      logging.warning(
          'Two episodes ended with discount 0 and without success in step %d,'
          ' at the time limit (`max_episode_steps`). A time limit must leave'
          ' the discount at 1: return `dm_env.truncation(reward, observation)`,'
          ' in gymnasium `truncated` instead of `terminated`.',
          self._limit,
      )
