"""Copies of episodes that pursue the goals they reached.

Hindsight experience replay (Andrychowicz et al., 2017, arXiv:1707.01495): an
episode that misses its goal is a success under another one. Here whole episodes
are copied, so that returns, chunks and cached samples need nothing special.
"""

from typing import List, Sequence

import gin
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import goals as goals_lib

_IDS_PER_COPY = 2**40


@gin.configurable(denylist=['domain'])
class Hindsight:
  """Copies the episodes of each table with goals that they reached."""

  def __init__(self, domain, *, offline_goals: int = 0, online_goals: int = 0):
    """Initializes the copies.

    Args:
      domain: `Domain` of the task.
      offline_goals: Maximum number of copies of an episode of the dataset, each
        with another goal. Cloning, too, learns from them.
      online_goals: Maximum number of copies of an online episode.

    Raises:
      ValueError: If a number is negative, or the task has no goals to replace.
    """
    self._num_copies = {'offline': offline_goals, 'online': online_goals}
    for table, number in self._num_copies.items():
      if number < 0:
        raise ValueError(
            f'`Hindsight.{table}_goals` must not be negative, got {number}.'
        )
    self._goals = domain.goals() if any(self._num_copies.values()) else None
    if self._goals is None and any(self._num_copies.values()):
      raise ValueError(
          '`Hindsight.offline_goals` and `Hindsight.online_goals` must be 0 for'
          f' {domain.name}, which has no goals to replace (`Domain.goals`).'
      )

  def copies(self, table: str, episode: types.Episode) -> List[types.Episode]:
    """Returns the copies of an episode of table `offline` or `online`."""
    if self._goals is None:
      return []
    return copies(episode, self._goals, self._num_copies[table])

  def with_copies(
      self, table: str, episodes: Sequence[types.Episode]
  ) -> List[types.Episode]:
    """Returns the episodes of a table, each followed by its copies."""
    return [x for e in episodes for x in (e, *self.copies(table, e))]

  def num_transitions(
      self, table: str, episodes: Sequence[types.Episode]
  ) -> int:
    """Returns the number of transitions of a table, with those of copies."""
    return sum(
        x.num_transitions for e in episodes for x in (e, *self.copies(table, e))
    )


def copies(
    episode: types.Episode, goals: goals_lib.Goals, num_copies: int
) -> List[types.Episode]:
  """Returns copies of an episode, each with a goal that it reached.

  The goals are those of different steps, uniformly drawn among the steps after
  the first observation that it does not already satisfy. An episode that
  changes nothing has no copies. The draws depend on `episode_id` alone, so that
  one cache of action samples serves runs of all seeds.

  Args:
    episode: T steps.
    goals: How observations and rewards depend on the goal.
    num_copies: Maximum number of copies.
  """
  achieved = goals.achieved(episode.observation)
  start = achieved[:1]
  places = [
      place
      for place in range(1, episode.num_transitions + 1)
      if not goals.judge(start, achieved[place]).success[0]
  ]
  random = np.random.default_rng([episode.episode_id, 0x4E12])
  drawn = random.permutation(places)[:num_copies]
  return [
      _copy(episode, goals, achieved[place], (number + 1) * _IDS_PER_COPY)
      for number, place in enumerate(drawn)
  ]


def _copy(
    episode: types.Episode,
    goals: goals_lib.Goals,
    goal: np.ndarray,
    first_id: int,
) -> types.Episode:
  """Returns an episode with another goal, which may end it earlier."""
  achieved = goals.achieved(episode.observation)
  judgment = goals.judge(achieved[1:], goal)
  num_steps, is_terminal = episode.num_steps, False
  if np.any(judgment.is_terminal):
    num_steps, is_terminal = int(np.argmax(judgment.is_terminal)) + 1, True
  discount = np.ones([num_steps], np.float32)
  discount[-1] = not is_terminal
  # The old goal may have ended the episode, which a file may do without saying
  # what the last step leads to.
  is_open = num_steps == episode.num_steps and not is_terminal
  is_unknown = not episode.has_last_transition or episode.discount[-1] == 0
  return types.Episode(
      observation=goals.replaced(
          tree.map_structure(
              lambda x: x[: num_steps + 1], episode.observation
          ),
          goal,
      ),
      action=episode.action[:num_steps],
      reward=judgment.reward[:num_steps],
      discount=discount,
      success=judgment.success[:num_steps],
      episode_id=first_id + episode.episode_id,
      policy_version=episode.policy_version,
      has_last_transition=not (is_open and is_unknown),
  )
