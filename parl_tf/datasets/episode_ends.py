"""Looks for episode ends that contradict the time limit of the task."""

from typing import List, Mapping

import numpy as np

from parl_tf.datasets import rows as rows_lib

_MIN_TERMINALS = 2  # A single episode may have failed just then.


class EpisodeEnds:
  """Collects lengths and ends of episodes, in a single pass."""

  def __init__(
      self,
      layout: rows_lib.Layout,
      columns: Mapping[str, rows_lib.Column],
  ):
    """Initializes without episodes.

    Args:
      layout: How the dataset is read. Without `max_episode_steps` there are no
        hints.
      columns: Headers of its columns.
    """
    self._layout = layout
    self._columns = columns
    self._num_rows = self._num_episodes = 0
    self._longest = self._longest_episode = self._longest_row = 0
    # Ends at the time limit and elsewhere; terminal ones without success only.
    self._num_timeouts = self._num_timeouts_at_limit = 0
    self._num_terminals_at_limit = self._num_terminals_elsewhere = 0
    # State of the current, unfinished episode.
    self._length, self._is_solved = 0, False

  def add(self, rows: rows_lib.Rows) -> None:
    """Adds the next rows."""
    if self._layout.max_episode_steps is None:
      return
    terminals = rows['terminals'] != 0
    successes = rows_lib.find_successes(rows, self._layout)
    start = 0
    for end in rows_lib.find_ends(rows):
      self._take(successes[start:end])
      # Later successes have not ended the episode, as the first one did not.
      is_first_success = successes[end] and not self._is_solved
      self._take(successes[end : end + 1])
      self._end_episode(terminals[end], is_first_success)
      start = end + 1
    self._take(successes[start:])

  def hints(self) -> List[str]:
    """Returns what seems wrong with the ends, after all rows; or []."""
    limit = self._layout.max_episode_steps
    if limit is None:
      return []
    self._see_length()  # Of the rows after the last end.
    found = []
    if self._lacks_timeouts(limit):
      found.append(
          f'episode {self._longest_episode} has {self._longest} steps from row'
          f' {self._longest_row} on, but the time limit of the task is'
          f' {limit} steps (`max_episode_steps`), and {self._absence()}.'
          ' Unless these episodes had a longer limit, either time-outs are'
          ' missing, so that episodes that ran out of time are joined to the'
          ' next ones, or the rows are out of order.'
      )
    if self._has_terminal_timeouts(limit):
      label = self._columns['terminals'].label
      found.append(
          f'{self._num_terminals_at_limit} episodes end with `{label}` and'
          f' without success at the time limit of the task, {limit} steps'
          ' (`max_episode_steps`), so that their last states have no future'
          ' value. If only the time limit ended them, mark these rows as'
          f" time-outs (in D4RL's layout, `timeouts`) and clear `{label}`."
      )
    return found

  def _lacks_timeouts(self, limit: int) -> bool:
    column = self._columns.get('timeouts')
    return (
        not self._num_timeouts
        # Other formats store their episodes apart.
        and (column is None or column.label == 'timeouts')
        # If every end is a success, each is in `terminals`.
        and not self._layout.every_episode_succeeds
        and self._longest > limit
    )

  def _absence(self) -> str:
    if 'timeouts' not in self._columns:
      return 'there are no `timeouts`'
    return '`timeouts` is never set'

  def _has_terminal_timeouts(self, limit: int) -> bool:
    return (
        limit > 1  # Each step of such a task may be terminal.
        and not self._layout.is_binary  # Only successes are terminal.
        and self._num_terminals_at_limit >= _MIN_TERMINALS
        and self._num_terminals_at_limit > self._num_terminals_elsewhere
        and self._num_terminals_at_limit > self._num_timeouts_at_limit
    )

  def _take(self, successes: np.ndarray) -> None:
    self._num_rows += len(successes)
    self._length += len(successes)
    self._is_solved |= bool(np.any(successes))

  def _end_episode(self, is_terminal: bool, is_success: bool) -> None:
    is_at_limit = self._length == self._layout.max_episode_steps
    if not is_terminal:
      self._num_timeouts += 1
      self._num_timeouts_at_limit += is_at_limit
    elif not is_success:
      self._num_terminals_at_limit += is_at_limit
      self._num_terminals_elsewhere += not is_at_limit
    self._see_length()
    self._num_episodes += 1
    self._length, self._is_solved = 0, False

  def _see_length(self) -> None:
    if self._length > self._longest:
      self._longest = self._length
      self._longest_episode = self._num_episodes
      self._longest_row = self._num_rows - self._length
