"""One table of stored steps in memory, which forgets the oldest first."""

from typing import Optional

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib

from parl_tf import types

# Steps moved at a time when storage grows, which bounds the copies it makes.
_STEPS_PER_MOVE = 4096


class StepTable:
  """Ring of stored steps, and the transitions that begin at some of them.

  Steps are numbered from 0 in the order in which they were ever added; step
  s is in slot s modulo the number of slots. Transition i begins at step
  `_starts[i modulo capacity]`, and the steps that were added with it end at
  step `_ends[i modulo capacity]`. Whole steps are forgotten, so a transition
  is there with all of its steps or not at all.

  Attributes:
    name: Name of the table.
    capacity: Transitions it holds.
    num_changes: How often its contents changed.
  """

  def __init__(self, name: str, capacity: int, chunk_length: int = 1):
    """Creates an empty table; its storage grows as it fills.

    Args:
      name: Name of the table.
      capacity: Transitions it holds.
      chunk_length: H, the steps that a row spans.
    """
    self.name = name
    self.capacity = capacity
    self.chunk_length = chunk_length
    self.num_changes = 0
    self._storage: Optional[trajectory_lib.Trajectory] = None  # [slots, ...]
    self._num_slots = 0
    self._first_step = self._end_step = 0
    self._starts = np.empty(capacity, np.int64)
    self._ends = np.empty(capacity, np.int64)
    self._first_transition = self._end_transition = 0
    self._candidates: Optional[np.ndarray] = None

  @property
  def num_transitions(self) -> int:
    """Transitions that can be drawn."""
    return self._end_transition - self._first_transition

  @property
  def num_steps(self) -> int:
    """Stored steps."""
    return self._end_step - self._first_step

  @property
  def has_candidates(self) -> bool:
    """Whether the steps have candidate actions."""
    return self._candidates is not None

  @property
  def step_bytes(self) -> int:
    """Bytes of one step as it is read, 0 before the first."""
    if self._storage is None:
      return 0
    leaves = tf.nest.flatten(self._storage)
    if self._candidates is not None:
      leaves.append(self._candidates)
    return sum(leaf.itemsize * int(np.prod(leaf.shape[1:])) for leaf in leaves)

  def add(
      self, steps: trajectory_lib.Trajectory, num_transitions: int
  ) -> None:
    """Appends the transitions that begin at the first steps.

    Clears the candidate actions.

    Args:
      steps: Checked numpy arrays `[num_steps, ...]`.
      num_transitions: How many of the first steps begin a transition. Steps
        that belong to none are not stored.
    """
    skipped = max(0, num_transitions - self.capacity)
    kept = slice(skipped, num_transitions + 1)
    num_transitions -= skipped
    if not num_transitions:
      return
    self.num_changes += 1
    self._candidates = None
    self._evict(self.num_transitions + num_transitions - self.capacity)
    num_steps = num_transitions + 1
    self._reserve(self.num_steps + num_steps, steps)
    slots = np.arange(self._end_step, self._end_step + num_steps)
    for stored, new in zip(
        tf.nest.flatten(self._storage), tf.nest.flatten(steps)
    ):
      stored[slots % self._num_slots] = new[kept]
    places = np.arange(
        self._end_transition, self._end_transition + num_transitions
    )
    self._starts[places % self.capacity] = slots[:-1]
    self._ends[places % self.capacity] = slots[-1]
    self._end_transition += num_transitions
    self._end_step += num_steps

  def observations(self) -> types.Nest:
    """Returns a copy of the observations `[num_steps, ...]`, oldest first."""
    if self._storage is None:
      raise ValueError(f'table `{self.name}` is empty.')
    slots = np.arange(self._first_step, self._end_step) % self._num_slots
    return tf.nest.map_structure(
        lambda leaf: np.take(leaf, slots, axis=0), self._storage.observation
    )

  def set_candidates(self, candidates: np.ndarray) -> None:
    """Puts candidate actions beside the steps.

    Args:
      candidates: `[num_steps, N, H * A]` float32, in the order of
        `observations`. Kept as it is, without a copy.

    Raises:
      ValueError: If shape, dtype or values are not what they must be.
    """
    action_size = ()
    if self._storage is not None:
      action_size = self.chunk_length * self._storage.action.shape[1]
    if (
        candidates.ndim != 3
        or candidates.dtype != np.float32
        or len(candidates) != self.num_steps
        or candidates.shape[2] != action_size
    ):
      raise ValueError(
          f'table `{self.name}`: `candidates` must be float32 of shape '
          f'[{self.num_steps}, N, {action_size}], got {candidates.dtype} of '
          f'shape {list(candidates.shape)}.'
      )
    if not np.isfinite(candidates).all():
      raise ValueError(f'table `{self.name}`: `candidates` must be finite.')
    self.num_changes += 1
    self._candidates = candidates

  def clear_candidates(self) -> None:
    """Takes the candidate actions away."""
    if self._candidates is not None:
      self.num_changes += 1
      self._candidates = None

  def rows(self, indices: np.ndarray) -> trajectory_lib.Trajectory:
    """Returns transitions.

    Args:
      indices: `[...]` int64 in [0, num_transitions), 0 the oldest.

    Returns:
      Trajectory `[..., H + 1, ...]`, which repeats the last step of an episode
      past its end, its `policy_info` with `candidate_actions` of the first and
      the last of the steps, `[..., 2, N, H * A]`, where there are some.
    """
    places = _wrapped(
        self._first_transition % self.capacity + indices, self.capacity
    )
    # Counted from the oldest step.
    starts = np.take(self._starts, places) - self._first_step
    steps = starts[..., np.newaxis] + np.arange(self.chunk_length + 1)
    if self.chunk_length > 1:
      ends = np.take(self._ends, places) - self._first_step
      steps = np.minimum(steps, ends[..., np.newaxis])
    slots = _wrapped(
        self._first_step % self._num_slots + steps, self._num_slots
    )
    rows = tf.nest.map_structure(
        lambda leaf: np.take(leaf, slots, axis=0), self._storage
    )
    if self._candidates is None:
      return rows
    candidates = np.take(self._candidates, steps[..., [0, -1]], axis=0)
    return rows._replace(
        policy_info=dict(rows.policy_info, candidate_actions=candidates)
    )

  def _evict(self, num_transitions: int) -> None:
    """Forgets the oldest transitions and the steps before the next one."""
    if num_transitions <= 0:
      return
    self._first_transition += num_transitions
    if self.num_transitions:
      self._first_step = int(
          self._starts[self._first_transition % self.capacity]
      )
    else:
      self._first_step = self._end_step

  def _reserve(
      self, num_steps: int, example: trajectory_lib.Trajectory
  ) -> None:
    """Makes room for `num_steps` steps like those of `example`."""
    if num_steps <= self._num_slots:
      return
    # Doubles up to the capacity. Beyond it, steps that end an episode take
    # their share, so there is some slack instead of a move at every episode.
    num_slots = max(
        min(2 * self._num_slots, self.capacity), num_steps + num_steps // 16
    )
    old = tf.nest.flatten(self._storage)
    new = [
        np.empty((num_slots,) + leaf.shape[1:], leaf.dtype)
        for leaf in tf.nest.flatten(example)
    ]
    for start in range(self._first_step, self._end_step, _STEPS_PER_MOVE):
      moved = np.arange(start, min(start + _STEPS_PER_MOVE, self._end_step))
      for source, target in zip(old, new):
        target[moved % num_slots] = source[moved % self._num_slots]
    self._storage = tf.nest.pack_sequence_as(example, new)
    self._num_slots = num_slots


def _wrapped(places: np.ndarray, size: int) -> np.ndarray:
  """Returns `places` in [0, 2 size) modulo `size`, without a division."""
  return np.where(places < size, places, places - size)
