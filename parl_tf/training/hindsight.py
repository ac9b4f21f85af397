"""Copies of episodes that pursue the goals they reached.

Hindsight experience replay (Andrychowicz et al., 2017, arXiv:1707.01495): an
episode that misses its goal is a success under another one. Here whole episodes
are copied, so that returns, chunks and cached samples need nothing special.
"""

from typing import List, Optional, Sequence

from absl import logging
import gin
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import goals as goals_lib

_IDS_PER_COPY = 2**40
_NUM_CHECKED = 100
_MAX_SHARE_WRONG = 0.01  # Rounding may move a step across a limit.


@gin.configurable(denylist=['domain'])
class Hindsight:
  """Copies the episodes of each table with goals that they reached."""

  def __init__(
      self,
      domain,
      *,
      offline_goals: int = 0,
      online_goals: int = 0,
      max_steps: Optional[int] = None,
  ):
    """Initializes the copies.

    Args:
      domain: `Domain` of the task.
      offline_goals: Maximum number of copies of an episode of the dataset, each
        with another goal. Cloning, too, learns from them.
      online_goals: Maximum number of copies of an online episode.
      max_steps: Maximum number of steps from the start of a copy to its goal;
        None copies from the start of the episode. A limit leaves out the rows
        far from their goals, most of a long episode's.

    Raises:
      ValueError: If a number is negative, `max_steps` is not positive, or the
        task has no goals to replace.
    """
    if max_steps is not None and max_steps < 1:
      raise ValueError(
          '`Hindsight.max_steps` must be None or positive, got'
          f' {max_steps}.'
      )
    self._max_steps = max_steps
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
          f' {domain.name}, which has no goals to replace: no `compute_reward`'
          ' of a gymnasium task, and no `Domain.goals`.'
      )

  def check(self, episodes: Sequence[types.Episode]) -> None:
    """Checks that some episodes, judged by their own goals, have their rewards.

    Args:
      episodes: The episodes of the dataset.

    Raises:
      ValueError: If they have other rewards, successes do not end an episode as
        in the data, or no copy would reach its goal.
    """
    if self._goals is None:
      return
    checked = episodes[:_NUM_CHECKED]
    _check_judgment(checked, self._goals)
    number = max(self._num_copies.values())
    found = [
        copies(episode, self._goals, number, self._max_steps)
        for episode in checked
    ]
    made = [copy for one in found for copy in one]
    num_successful = sum(bool(np.any(copy.success)) for copy in made)
    logging.info(
        'Hindsight: of the first %d episodes of the data, %d have copies; %d of'
        ' %d copies reach their goal.',
        len(checked),
        sum(map(bool, found)),
        num_successful,
        len(made),
    )
    if made and not num_successful:
      raise ValueError(
          'A copy with the goal that its episode reached must be a success, but'
          f' none of {len(made)} is. Of a gymnasium task, check'
          ' `Gymnasium.reward_range`: a success has its highest reward.'
      )

  def copies(self, table: str, episode: types.Episode) -> List[types.Episode]:
    """Returns the copies of an episode of table `offline` or `online`."""
    if self._goals is None:
      return []
    return copies(
        episode, self._goals, self._num_copies[table], self._max_steps
    )

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
    episode: types.Episode,
    goals: goals_lib.Goals,
    num_copies: int,
    max_steps: Optional[int] = None,
) -> List[types.Episode]:
  """Returns copies of an episode, each with a goal that it reached.

  The goals are those of different steps, uniformly drawn among the steps whose
  goal the copy's first observation does not already satisfy. An episode that
  changes nothing has no copies. The draws depend on `episode_id` alone, so that
  one cache of action samples serves runs of all seeds.

  Args:
    episode: T steps.
    goals: How observations and rewards depend on the goal.
    num_copies: Maximum number of copies.
    max_steps: Maximum number of steps from the start of a copy to its goal.
  """
  if not num_copies:
    return []
  achieved = goals.achieved(episode.observation)
  num_steps = episode.num_transitions
  first = np.maximum(np.arange(num_steps + 1) - (max_steps or num_steps), 0)
  places = [
      place
      for place in range(1, num_steps + 1)
      if not goals.judge(
          achieved[first[place]][np.newaxis], achieved[place]
      ).success[0]
  ]
  random = np.random.default_rng([episode.episode_id, 0x4E12])
  drawn = random.permutation(places)[:num_copies]
  return [
      _copy(
          _from(episode, first[place]),
          goals,
          achieved[place],
          (number + 1) * _IDS_PER_COPY,
      )
      for number, place in enumerate(drawn)
  ]


def _from(episode: types.Episode, first: int) -> types.Episode:
  """Returns the episode from observation `first` on."""
  if not first:
    return episode
  return episode._replace(
      observation=tree.map_structure(
          lambda x: x[first:], episode.observation
      ),
      action=episode.action[first:],
      reward=episode.reward[first:],
      discount=episode.discount[first:],
      success=episode.success[first:],
  )


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


def _check_judgment(
    episodes: Sequence[types.Episode], goals: goals_lib.Goals
) -> None:
  """Raises if goals judge episodes otherwise than their task did."""
  num_steps, wrong_rewards, wrong_ends = 0, [], []
  for episode in episodes:
    size = episode.num_transitions
    if episode.discount[-1] == 0 and all(
        np.array_equal(x[-1], x[-2])
        for x in tree.flatten(episode.observation)
    ):
      size -= 1  # The file may lack the observation after the last step.
    if not size:
      continue
    goal = goals.desired(episode.observation)[0]
    judgment = goals.judge(
        goals.achieved(episode.observation)[1 : size + 1], goal
    )
    num_steps += size
    same = np.isclose(judgment.reward, episode.reward[:size], atol=1e-4)
    wrong_rewards += [
        f'step {step} of episode {episode.episode_id}, which has'
        f' {episode.reward[step]:g} in the data and {judgment.reward[step]:g}'
        ' here'
        for step in np.flatnonzero(~same)
    ]
    ended = (episode.discount[:size] == 0) & episode.success[:size]
    if np.any(ended & ~judgment.is_terminal) or np.any(
        judgment.is_terminal[:-1]
    ):
      wrong_ends.append(str(episode.episode_id))
  if len(wrong_rewards) > _MAX_SHARE_WRONG * num_steps:
    raise ValueError(
        f'`Hindsight` gives {len(wrong_rewards)} of {num_steps} steps of the'
        ' data another reward than they have, judged by their own goals. The'
        f' first is {wrong_rewards[0]}. `compute_reward` must give what `step`'
        ' does, from the goal after the step.'
    )
  if len(wrong_ends) > _MAX_SHARE_WRONG * len(episodes):
    raise ValueError(
        f'`Hindsight` ends {len(wrong_ends)} of {len(episodes)} episodes of the'
        ' data elsewhere than the task did, judged by their own goals. The'
        f' first is episode {wrong_ends[0]}. `compute_terminated` must say'
        ' whether the goal ends an episode.'
    )
