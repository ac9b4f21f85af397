"""States of stored steps, which action caches have samples for."""

import dataclasses
import hashlib
from typing import Callable, Sequence

import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import types

_STATES_PER_READ = 1024


@dataclasses.dataclass(frozen=True)
class StoredStates:
  """States of stored steps, read when they are needed.

  Stacks of frames take several times the memory of the steps.

  Attributes:
    rows: Returns the observations, a nest of `[rows, ...]`, of a slice of the S
      states. Those of a table are valid until it changes.
    episode_id: `[S]` int64.
    step_index: `[S]` int32; the observation after the last step of an episode
      has an index, too.
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


def episode_states(
    episodes: Sequence[types.Episode], num_frames: int = 1
) -> StoredStates:
  """Returns the states of episodes, those after their last steps included.

  Args:
    episodes: The episodes.
    num_frames: Number of frames in an observation; see `frame_stack`.
  """
  single = tf.nest.map_structure(
      lambda *leaves: np.concatenate(leaves),
      *[episode.observation for episode in episodes],
  )
  step_index = np.concatenate(
      [np.arange(e.num_steps + 1, dtype=np.int32) for e in episodes]
  )

  def rows(places):
    present = np.arange(len(step_index))[places]
    return frame_stack.read(
        single,
        lambda age: present - np.minimum(age, step_index[present]),
        num_frames,
    )

  return StoredStates(
      rows,
      np.concatenate([
          np.full(e.num_steps + 1, e.episode_id, np.int64) for e in episodes
      ]),
      step_index,
  )


def _digests(states: StoredStates) -> np.ndarray:
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
