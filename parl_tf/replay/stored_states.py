"""States of stored steps, which action caches have samples for."""

import dataclasses
import hashlib
from typing import Callable, Sequence, Tuple

import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import picture_store
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

  Pictures that are in a `PictureStore` are read from there.

  Args:
    episodes: The episodes.
    num_frames: Number of frames in an observation; see `frame_stack`.
  """
  observation = episodes[0].observation
  leaves = [
      _join(parts)
      for parts in zip(*(tf.nest.flatten(e.observation) for e in episodes))
  ]
  are_stacked = frame_stack.are_stacked(observation, 1)
  step_index = np.concatenate(
      [np.arange(e.num_steps + 1, dtype=np.int32) for e in episodes]
  )

  def rows(places):
    present = np.arange(len(step_index))[places]

    def read(leaf, index, is_stacked):
      return frame_stack.read_leaf(
          leaf,
          lambda age: index[present - np.minimum(age, step_index[present])],
          num_frames if is_stacked else 1,
      )

    return tf.nest.pack_sequence_as(
        observation,
        [
            read(*leaf, is_stacked)
            for leaf, is_stacked in zip(leaves, are_stacked)
        ],
    )

  return StoredStates(
      rows,
      np.concatenate([
          np.full(e.num_steps + 1, e.episode_id, np.int64) for e in episodes
      ]),
      step_index,
  )


def _join(parts: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
  """Returns an array with the entries of all parts, and their places there."""
  located = [x for x in map(picture_store.locate, parts) if x is not None]
  is_kept = len(located) == len(parts)
  if not is_kept or any(x[0] is not located[0][0] for x in located):
    joined = np.concatenate(parts)
    return joined, np.arange(len(joined))
  return located[0][0], np.concatenate(
      [first + np.arange(len(part)) for part, (_, first) in zip(parts, located)]
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
