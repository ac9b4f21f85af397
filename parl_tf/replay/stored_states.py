"""States of stored steps, which action caches have samples for."""

import dataclasses
import hashlib
from typing import Callable, NamedTuple, Sequence, Union

import numpy as np
import tensorflow as tf

from parl_tf import types

_STATES_PER_READ = 1024


class States(NamedTuple):
  """States of stored steps.

  Attributes:
    observation: Nest of `[S, ...]`.
    episode_id: `[S]` int64.
    step_index: `[S]` int32; the observation after the last step of an episode
      has an index, too.
  """

  observation: types.Nest
  episode_id: np.ndarray
  step_index: np.ndarray

  @property
  def digests(self) -> np.ndarray:
    """Digests of the observations, `[S]` uint64."""
    return _digests(self)

  def rows(self, places: slice) -> types.Nest:
    """Returns the observations of some states."""
    return tf.nest.map_structure(lambda x: x[places], self.observation)


@dataclasses.dataclass(frozen=True)
class StoredStates:
  """States of a table, read when they are needed.

  Stacks of frames take several times the memory of the table.

  Attributes:
    rows: Returns the observations of a slice of the states, while the table
      does not change.
    episode_id: See `States`.
    step_index: See `States`.
  """

  rows: Callable[[slice], types.Nest]
  episode_id: np.ndarray
  step_index: np.ndarray

  @property
  def observation(self) -> types.Nest:
    """The observations of all states."""
    return self.rows(slice(None))

  def part(self, first: int, end: int) -> 'StoredStates':
    """Returns the states from `first` up to `end`."""

    def rows(places):
      start, stop, _ = places.indices(end - first)
      return self.rows(slice(first + start, first + stop))

    return StoredStates(
        rows, self.episode_id[first:end], self.step_index[first:end]
    )

  @property
  def digests(self) -> np.ndarray:
    """Digests of the observations, `[S]` uint64."""
    return _digests(self)


AnyStates = Union[States, StoredStates]


def episode_states(episodes: Sequence[types.Episode]) -> States:
  """Returns the states of episodes, those after their last steps included."""
  return States(
      tf.nest.map_structure(
          lambda *leaves: np.concatenate(leaves),
          *[episode.observation for episode in episodes],
      ),
      np.concatenate([
          np.full(e.num_steps + 1, e.episode_id, np.int64) for e in episodes
      ]),
      np.concatenate([
          np.arange(e.num_steps + 1, dtype=np.int32) for e in episodes
      ]),
  )


def _digests(states: AnyStates) -> np.ndarray:
  """Returns the digest of each observation, reading a few at a time."""
  digests = np.empty(len(states.episode_id), np.uint64)
  for start in range(0, len(digests), _STATES_PER_READ):
    rows = states.rows(slice(start, start + _STATES_PER_READ))
    leaves = tf.nest.flatten(tf.nest.map_structure(np.ascontiguousarray, rows))
    for row in range(len(leaves[0])):
      sha = hashlib.blake2b(digest_size=8)
      for leaf in leaves:
        sha.update(leaf[row].tobytes())
      digests[start + row] = int.from_bytes(sha.digest(), 'little')
  return digests
