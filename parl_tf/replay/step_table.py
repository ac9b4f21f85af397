"""An in-memory table of stored steps that removes the oldest first."""

from typing import Any, List, Optional, Sequence

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib

from parl_tf import frame_stack
from parl_tf import picture_store
from parl_tf import types
from parl_tf.replay import paged_array
from parl_tf.replay import stored_states

# Steps to move at a time when storage grows. Their memory is then given back.
_STEPS_PER_MOVE = 512


class StepTable:
  """Ring buffer of stored steps and the transitions that begin at some of them.

  Steps are numbered from 0 in the order of insertion. Step s is in slot s
  modulo the number of slots. Transition i begins at step
  `_starts[i modulo capacity]`. The steps that were added with it end at step
  `_ends[i modulo capacity]`. A step is removed only with the transitions that
  need it, so every stored transition has all of its steps and earlier frames.

  Of images that are in a `PictureStore`, the table stores only their places.

  Attributes:
    name: Name of the table.
    capacity: Maximum number of transitions.
    chunk_length: H, the number of actions in a chunk.
    num_frames: Number of frames in an observation of a row. A step has only
      one.
    num_changes: Number of changes to the contents.
  """

  def __init__(
      self,
      name: str,
      capacity: int,
      chunk_length: int = 1,
      num_frames: int = 1,
      offsets: Optional[Sequence[int]] = None,
  ):
    """Creates an empty table whose storage grows as it fills.

    Args:
      name: Name of the table.
      capacity: Maximum number of transitions.
      chunk_length: H, the number of actions in a chunk.
      num_frames: Number of frames in an observation of a row; see
        `frame_stack`.
      offsets: Steps of a row, counted from its first; None takes the H + 1
        steps of a chunk. See `experience.row_offsets`.
    """
    frame_stack.check(num_frames)
    self.name = name
    self.capacity = capacity
    self.chunk_length = chunk_length
    self.num_frames = num_frames
    self.num_changes = 0
    if offsets is None:
      offsets = range(chunk_length + 1)
    self._offsets = np.asarray(offsets)
    # `Trajectory` [slots, ...]; None before the first step.
    self._storage: Any = None
    # Of each leaf of the observation, the array with its images, or None if the
    # storage has them.
    self._images: List[Optional[np.ndarray]] = []
    self._are_stacked: List[bool] = []  # Of each leaf of the observation.
    self._num_slots = 0
    self._first_step = self._end_step = 0
    self._starts = np.empty(capacity, np.int64)
    self._ends = np.empty(capacity, np.int64)
    self._first_transition = self._end_transition = 0
    self._candidates: Optional[np.ndarray] = None
    self._candidate_rows: Optional[np.ndarray] = None

  @property
  def num_transitions(self) -> int:
    """Number of transitions that can be sampled."""
    return self._end_transition - self._first_transition

  @property
  def num_steps(self) -> int:
    """Number of stored steps."""
    return self._end_step - self._first_step

  @property
  def has_candidates(self) -> bool:
    """Whether the steps have candidate actions."""
    return self._candidates is not None

  @property
  def row_bytes(self) -> int:
    """Bytes of a row; 0 before the first step is added."""
    if self._storage is None:
      return 0
    leaves = [
        stored if images is None else images
        for stored, images in zip(
            tf.nest.flatten(self._storage.observation), self._images
        )
    ]
    stacked = [x for x, is_it in zip(leaves, self._are_stacked) if is_it]
    leaves += (self.num_frames - 1) * stacked
    if self._candidates is not None:
      leaves.append(self._candidates)
    others = tf.nest.flatten(self._storage._replace(observation=()))
    return 2 * _bytes_of(leaves) + len(self._offsets) * _bytes_of(others)

  def add(
      self, steps: trajectory_lib.Trajectory, num_transitions: int
  ) -> None:
    """Appends the transitions that begin at the first steps.

    Clears the candidate actions.

    Args:
      steps: Checked numpy arrays `[num_steps, ...]`.
      num_transitions: Number of leading steps that begin a transition. Steps
        that belong to no transition are not stored.
    """
    skipped = max(0, num_transitions - self.capacity)
    # Earlier frames of the first transition.
    num_earlier = min(skipped, self.num_frames - 1)
    kept = slice(skipped - num_earlier, num_transitions + 1)
    num_transitions -= skipped
    if not num_transitions:
      return
    self.num_changes += 1
    self._candidates = None
    self._evict(self.num_transitions + num_transitions - self.capacity)
    num_steps = num_earlier + num_transitions + 1
    steps = self._with_places(steps)
    self._reserve(self.num_steps + num_steps, steps)
    slots = np.arange(self._end_step, self._end_step + num_steps)
    for stored, new in zip(
        tf.nest.flatten(self._storage), tf.nest.flatten(steps)
    ):
      stored[slots % self._num_slots] = new[kept]
    places = np.arange(
        self._end_transition, self._end_transition + num_transitions
    )
    self._starts[places % self.capacity] = slots[num_earlier:-1]
    self._ends[places % self.capacity] = slots[-1]
    self._end_transition += num_transitions
    self._end_step += num_steps

  def states(self) -> stored_states.StoredStates:
    """Returns the states of all steps, oldest first, until the next change."""
    if self._storage is None:
      raise ValueError(f'table `{self.name}` is empty.')
    steps = np.arange(self.num_steps)
    slots = self._slots(steps)
    info = self._storage.policy_info
    return stored_states.StoredStates(
        lambda places: self._observations(steps[places], slots[places]),
        np.take(info['episode_id'], slots),
        np.take(info['step_index'], slots),
    )

  def set_candidates(
      self, candidates: np.ndarray, rows: Optional[np.ndarray] = None
  ) -> None:
    """Attaches candidate actions to the steps.

    Args:
      candidates: `[num_states, N, H * A]` float16 or float32, finite. The array
        is not copied; it may be memory-mapped.
      rows: `[num_steps]` integers, the row of `candidates` of each step, in the
        order of `states`; None if these are the rows.

    Raises:
      ValueError: If a shape or a dtype is invalid.
    """
    action_size = None
    if self._storage is not None:
      action_size = self.chunk_length * self._storage.action.shape[1]
    if (
        candidates.ndim != 3
        or candidates.dtype not in (np.float16, np.float32)
        or candidates.shape[2] != action_size
    ):
      raise ValueError(
          f'table `{self.name}`: `candidates` must be float16 or float32 of '
          f'shape [num_states, N, {action_size}], got {candidates.dtype} of '
          f'shape {list(candidates.shape)}.'
      )
    if rows is None:
      rows = np.arange(len(candidates))
    if rows.shape != (self.num_steps,):
      raise ValueError(
          f'table `{self.name}` has {self.num_steps} steps, but candidates of '
          f'{list(rows.shape)} steps are given.'
      )
    self.num_changes += 1
    self._candidates, self._candidate_rows = candidates, rows

  def clear_candidates(self) -> None:
    """Removes the candidate actions."""
    if self._candidates is not None:
      self.num_changes += 1
      self._candidates = None

  def rows(self, indices: np.ndarray) -> trajectory_lib.Trajectory:
    """Returns the transitions at `indices`.

    Args:
      indices: `[...]` int64 in [0, num_transitions); 0 is the oldest.

    Returns:
      Trajectory `[..., n + 1, ...]`, the steps at the offsets of the table.
      Past the end of an episode, it repeats the last step. The observations are
      `[..., 2, ...]`, those of the first and the last step. If the table has
      candidate actions, `policy_info` has `candidate_actions`
      `[..., 2, N, H * A]` of the same steps.
    """
    places = _wrapped(
        self._first_transition % self.capacity + indices, self.capacity
    )
    # Offsets from the oldest step.
    starts = np.take(self._starts, places) - self._first_step
    steps = starts[..., np.newaxis] + self._offsets
    if self._offsets[-1] > 1:
      ends = np.take(self._ends, places) - self._first_step
      steps = np.minimum(steps, ends[..., np.newaxis])
    slots = self._slots(steps)
    rows = tf.nest.map_structure(
        lambda leaf: np.take(leaf, slots, axis=0),
        self._storage._replace(observation=()),
    )
    ends = np.array([0, -1])
    rows = rows._replace(
        observation=self._observations(steps[..., ends], slots[..., ends])
    )
    if self._candidates is None or self._candidate_rows is None:
      return rows
    places = np.take(self._candidate_rows, steps[..., ends])
    # `np.take` would first copy all candidates if they are a part of more.
    candidates = np.asarray(self._candidates[places])
    candidates = candidates.astype(np.float32, copy=False)
    return rows._replace(
        policy_info=dict(rows.policy_info, candidate_actions=candidates)
    )

  def _slots(self, steps: np.ndarray) -> np.ndarray:
    """Returns the slots of steps, given as offsets from the oldest step."""
    return _wrapped(self._first_step % self._num_slots + steps, self._num_slots)

  def _observations(self, steps: np.ndarray, slots: np.ndarray) -> types.Nest:
    """Returns the observations of steps with stacked frames."""
    step_index = self._storage.policy_info['step_index']

    def places(age):
      if not age:
        return slots
      earlier = steps - np.minimum(age, np.take(step_index, slots))
      # The first steps of a table may lack frames that no row needs.
      return self._slots(np.maximum(earlier, 0))

    def read(leaf, images, is_stacked):
      num_frames = self.num_frames if is_stacked else 1
      if images is None:
        return frame_stack.read_leaf(leaf, places, num_frames)
      return frame_stack.read_leaf(
          images, lambda age: np.take(leaf, places(age)), num_frames
      )

    observation = self._storage.observation
    leaves = map(
        read, tf.nest.flatten(observation), self._images, self._are_stacked
    )
    return tf.nest.pack_sequence_as(observation, list(leaves))

  def _with_places(
      self, steps: trajectory_lib.Trajectory
  ) -> trajectory_lib.Trajectory:
    """Returns steps with the places of their images in `_images`.

    Copies the table's images into its storage if these are elsewhere.
    """
    leaves = tf.nest.flatten(steps.observation)
    found = [picture_store.locate(x) for x in leaves]
    if self._storage is None:
      self._images = [None if x is None else x[0] for x in found]
      self._are_stacked = frame_stack.are_stacked(steps.observation, 1)
    for i, (images, located) in enumerate(zip(self._images, found)):
      if images is None:
        continue
      if located is None or located[0] is not images:
        self._copy_images(i, images)
      else:
        first = located[1]
        leaves[i] = np.arange(first, first + len(leaves[i]))
    return steps._replace(
        observation=tf.nest.pack_sequence_as(steps.observation, leaves)
    )

  def _copy_images(self, index: int, images: np.ndarray) -> None:
    """Replaces the places of a leaf of the observation with its images."""
    observation = self._storage.observation
    leaves = tf.nest.flatten(observation)
    self._images[index] = None
    used = np.arange(self._first_step, self._end_step) % self._num_slots
    copy = paged_array.allocate(
        (self._num_slots, *images.shape[1:]), images.dtype
    )
    copy[used] = np.take(images, leaves[index][used], axis=0)
    leaves[index] = copy
    self._storage = self._storage._replace(
        observation=tf.nest.pack_sequence_as(observation, leaves)
    )

  def _evict(self, num_transitions: int) -> None:
    """Removes the oldest transitions, and steps that no other needs."""
    if num_transitions <= 0:
      return
    self._first_transition += num_transitions
    if self.num_transitions:
      start = int(self._starts[self._first_transition % self.capacity])
      step_index = self._storage.policy_info['step_index']
      age = min(self.num_frames - 1, int(step_index[start % self._num_slots]))
      self._first_step = max(self._first_step, start - age)
    else:
      self._first_step = self._end_step

  def _reserve(
      self, num_steps: int, example: trajectory_lib.Trajectory
  ) -> None:
    """Grows the storage to `num_steps` steps with the specs of `example`."""
    if num_steps <= self._num_slots:
      return
    # Double the storage up to the capacity. The last step of each episode takes
    # a slot beyond it. Some slack avoids a move at every episode.
    num_slots = max(
        min(2 * self._num_slots, self.capacity), num_steps + num_steps // 16
    )
    old = tf.nest.flatten(self._storage)
    new = [
        paged_array.allocate((num_slots, *leaf.shape[1:]), leaf.dtype)
        for leaf in tf.nest.flatten(example)
    ]
    for start in range(self._first_step, self._end_step, _STEPS_PER_MOVE):
      moved = np.arange(start, min(start + _STEPS_PER_MOVE, self._end_step))
      places = moved % self._num_slots
      for source, target in zip(old, new):
        target[moved % num_slots] = source[places]
        if places[0] <= places[-1]:  # Else the piece goes past the last slot.
          paged_array.release(source, places[0], places[-1] + 1)
    self._storage = tf.nest.pack_sequence_as(example, new)
    self._num_slots = num_slots


def _bytes_of(leaves: Sequence[np.ndarray]) -> int:
  """Returns the bytes of one element of each leaf `[slots, ...]`."""
  return sum(x.itemsize * int(np.prod(x.shape[1:])) for x in leaves)


def _wrapped(places: np.ndarray, size: int) -> np.ndarray:
  """Returns `places` in [0, 2 * size) modulo `size` without a division."""
  return np.where(places < size, places, places - size)
