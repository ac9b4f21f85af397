"""Experience sampled from tables in memory: repeatable and exactly resumable.

The rows of a training step depend only on (seed, train step, part, slice) and
on the contents of the tables. They do not depend on how the steps are split
into calls.
"""

from typing import Dict, Iterator, List, Optional, Tuple

import gin
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib

from parl_tf import types
from parl_tf.replay import checks
from parl_tf.replay import chunks
from parl_tf.replay import experience as experience_lib
from parl_tf.replay import step_table
from parl_tf.replay import stored_states

# Philox generates four 64-bit words per counter value.
_WORDS_PER_COUNT = 4


@gin.configurable(
    denylist=[
        'signature',
        'seed',
        'reward_scale',
        'reward_bias',
        'chunk_length',
        'gamma',
        'num_frames',
    ]
)
class MemoryExperience:
  """Both tables in memory and iterators over rows sampled from them."""

  def __init__(
      self,
      signature: Optional[trajectory_lib.Trajectory] = None,
      *,
      capacity: int = 1_000_000,
      max_block_bytes: int = 256 * 2**20,
      seed: int,
      reward_scale: float,
      reward_bias: float,
      chunk_length: int = 1,
      gamma: float = 1.0,
      num_frames: int = 1,
  ):
    """Creates empty tables.

    Args:
      signature: Specs of one stored step, from `stored_step.signature`. If
        None, the first steps that are added set the specs.
      capacity: Maximum number of transitions per table; the oldest are removed
        first.
      max_block_bytes: Maximum bytes of rows sampled at once. An iterator over
        more rows samples them block by block.
      seed: Seed of the sampling; not negative.
      reward_scale: The domain's factor on the raw reward.
      reward_bias: The domain's constant added to the scaled reward.
      chunk_length: H, the number of actions in a chunk.
      gamma: Discount factor within a row of several steps.
      num_frames: Number of frames in an observation of a row; see
        `frame_stack`.
    """
    if capacity < 1:
      raise ValueError(f'`capacity` must be positive, got {capacity}.')
    if max_block_bytes < 1:
      raise ValueError(
          f'`max_block_bytes` must be positive, got {max_block_bytes}.'
      )
    if seed < 0:
      raise ValueError(f'`seed` must not be negative, got {seed}.')
    self._max_block_bytes = max_block_bytes
    self._seed = seed
    self._reward_scale = np.float32(reward_scale)
    self._reward_bias = np.float32(reward_bias)
    self._step_spec: Optional[checks.StepSpec] = None
    if signature is not None:
      self._step_spec = checks.spec_of_signature(signature)
    self._chunk_length = chunk_length
    self._gamma = gamma
    offsets = experience_lib.row_offsets(chunk_length)
    self._has_windows = len(offsets['online']) > 2
    self._tables = {
        name: step_table.StepTable(
            name, capacity, chunk_length, num_frames, offsets[name]
        )
        for name in experience_lib.TABLE_NAMES
    }

  def add(
      self,
      table: str,
      steps: trajectory_lib.Trajectory,
      num_transitions: int,
  ) -> None:
    """Inserts stored steps and clears the table's candidate actions.

    Args:
      table: `offline` or `online`.
      steps: Numpy arrays `[T + 1, ...]` of one episode, with raw rewards.
      num_transitions: Number of leading steps that begin a transition.

    Raises:
      ValueError: If the table is unknown or the steps are invalid. Nothing is
        inserted in that case.
    """
    target = self._table(table)
    self._step_spec = checks.check_steps(
        f'table `{table}`', steps, num_transitions, self._step_spec
    )
    target.add(steps, num_transitions)

  def check_fits(self, num_transitions: int) -> None:
    """Raises `ValueError` if a dataset exceeds the capacity of a table."""
    capacity = self._table('offline').capacity
    if num_transitions > capacity:
      raise ValueError(
          '`MemoryExperience.capacity` must be at least the'
          f' {num_transitions} transitions of the dataset, got {capacity}.'
          ' Memory is taken only as it fills.'
      )

  def close(self) -> None:
    """Does nothing: the tables are freed with this object."""

  def num_transitions(self, table: str) -> int:
    """Returns the number of transitions in `table`."""
    return self._table(table).num_transitions

  def states(self, table: str) -> stored_states.StoredStates:
    """Returns the states of all steps of `table`; see `StepTable.states`."""
    return self._table(table).states()

  def set_candidates(
      self,
      table: str,
      candidates: np.ndarray,
      rows: Optional[np.ndarray] = None,
  ) -> None:
    """Attaches candidate actions to the rows sampled from `table`.

    Args:
      table: `offline` or `online`.
      candidates: `[num_states, N, H * A]`, finite.
      rows: Row of `candidates` of each step, in the order of `states`; None if
        these are the rows. They are kept until steps are added to the table.
    """
    self._table(table).set_candidates(candidates, rows)

  def clear_candidates(self, table: str) -> None:
    """Removes the candidate actions of `table`."""
    self._table(table).clear_candidates()

  def iterate(
      self,
      train_step: int,
      num_steps: int,
      request: experience_lib.ExperienceRequest,
  ) -> Iterator[types.Experience]:
    """Returns the experience for training steps from `train_step` on.

    The element spec depends only on the request and on whether the tables it
    samples from have candidate actions.

    Args:
      train_step: The first training step.
      num_steps: Number of training steps.
      request: Rows per training step.

    Returns:
      tf.data iterator over `num_steps` elements of `types.Experience`. The
      leaves are `[rows, 2, ...]`, and `reward` is scaled and biased. The tables
      must not change until the iterator is exhausted.

    Raises:
      ValueError: If the request is out of range, or a table it needs is empty.
    """
    if num_steps < 1 or train_step < 0:
      raise ValueError(
          '`num_steps` must be positive and `train_step` not negative, got '
          f'{num_steps} and {train_step}.'
      )
    train_step = int(train_step)
    parts = [
        part for part in experience_lib.requested_parts(request) if part
    ]
    for part in parts:
      self._check_tables(part)
    steps_per_block = self._steps_per_block(parts)
    if num_steps <= steps_per_block:
      dataset = tf.data.Dataset.from_tensor_slices(
          self._block(train_step, num_steps, parts)
      )
    else:
      dataset = self._blocks(train_step, num_steps, steps_per_block, parts)
    return iter(dataset.with_options(_dataset_options()))

  def _steps_per_block(self, parts: List[experience_lib.PartRequest]) -> int:
    """Returns the number of steps to sample at once."""
    num_rows = sum(part.num_slices * part.batch_size for part in parts)
    row_bytes = max(table.row_bytes for table in self._tables.values())
    return max(1, self._max_block_bytes // (num_rows * row_bytes))

  def _blocks(
      self,
      train_step: int,
      num_steps: int,
      steps_per_block: int,
      parts: List[experience_lib.PartRequest],
  ) -> tf.data.Dataset:
    """Returns a dataset that samples the steps one block at a time."""
    spec = tf.nest.map_structure(
        lambda leaf: tf.TensorSpec((None,) + leaf.shape[1:], leaf.dtype),
        self._block(train_step, 1, parts),
    )
    end = train_step + num_steps
    unchanged = self._changes()

    def draw():
      for start in range(train_step, end, steps_per_block):
        if self._changes() != unchanged:
          raise RuntimeError(
              'The tables changed before the iterator was exhausted.'
          )
        yield self._block(start, min(steps_per_block, end - start), parts)

    return tf.data.Dataset.from_generator(
        draw, output_signature=spec
    ).unbatch()

  def _block(
      self,
      train_step: int,
      num_steps: int,
      parts: List[experience_lib.PartRequest],
  ) -> types.Experience:
    """Samples consecutive steps, with leaves `[num_steps, rows, 2, ...]`."""
    drawn = {}
    for part in parts:
      is_online, indices = self._draw(train_step, num_steps, part)
      rows = self._rows(is_online, indices)
      rows = rows._replace(
          reward=rows.reward * self._reward_scale + self._reward_bias
      )
      drawn[part.name] = self._join(rows) if self._has_windows else rows
    return types.Experience(**drawn)

  def _join(
      self, windows: trajectory_lib.Trajectory
  ) -> trajectory_lib.Trajectory:
    """Converts windows `[num_steps, rows, n + 1, ...]` into transitions.

    Those of all steps at once: step by step it would take several times as long
    as sampling them.
    """
    axes = windows.reward.shape[:2]
    with tf.device('/CPU:0'):
      rows = chunks.join(
          tf.nest.map_structure(
              # A part may have no elements, so that -1 would be unknown.
              lambda leaf: leaf.reshape(axes[0] * axes[1], *leaf.shape[2:]),
              windows,
          ),
          self._gamma,
          self._chunk_length,
      )
      return tf.nest.map_structure(
          lambda leaf: tf.reshape(leaf, [*axes, *leaf.shape[1:]]), rows
      )

  def _draw(
      self, train_step: int, num_steps: int, part: experience_lib.PartRequest
  ) -> Tuple[np.ndarray, np.ndarray]:
    """Samples the table and the transition of each row.

    Returns:
      `[num_steps, rows]` bool, whether the row comes from table `online`, and
      `[num_steps, rows]` int64, the index of the transition in its table.
    """
    uniform = np.concatenate(
        [
            self._uniform(train_step, num_steps, part, index)
            for index in range(part.num_slices)
        ],
        axis=1,
    )
    sizes = self._sizes()
    num_offline, num_online = sizes['offline'], sizes['online']
    if part.exact_offline_rows is None:
      counted = experience_lib.counted_online(part, sizes)
      # The positions of `online` transitions follow the `offline` ones.
      positions = uniform * (num_offline + counted)
      is_online = positions >= num_offline
      scale = num_online / counted if counted else 0.0
      online = (positions - num_offline) * scale
      indices = np.where(is_online, online, positions).astype(np.int64)
      # Rounding may exceed the last one.
      return is_online, np.minimum(
          indices, np.where(is_online, num_online, num_offline) - 1
      )
    row_in_slice = np.arange(uniform.shape[1]) % part.batch_size
    is_online = np.broadcast_to(
        row_in_slice >= part.exact_offline_rows, uniform.shape
    )
    size = np.where(is_online, num_online, num_offline)
    return is_online, (uniform * size).astype(np.int64)

  def _uniform(
      self,
      train_step: int,
      num_steps: int,
      part: experience_lib.PartRequest,
      index: int,
  ) -> np.ndarray:
    """Returns `[num_steps, batch_size]` float64 in [0, 1) for one slice.

    Philox is a function of a key and a counter. The key is derived from the
    seed, part, slice and size. Each step owns a range of the counter, so one
    call returns the same steps as two calls, and no number is used twice.
    """
    field = types.Experience._fields.index(part.name)
    entropy = (self._seed, field, index, part.batch_size)
    key = np.random.SeedSequence(entropy).generate_state(2, np.uint64)
    counts_per_step = -(-part.batch_size // _WORDS_PER_COUNT)
    generator = np.random.Philox(
        key=key, counter=train_step * counts_per_step
    )
    words = generator.random_raw(num_steps * counts_per_step * _WORDS_PER_COUNT)
    words = words.reshape(num_steps, -1)[:, :part.batch_size]
    # Use the upper 53 bits: a float64 has 53 bits of precision.
    return (words >> np.uint64(11)) * 2.0**-53

  def _rows(
      self, is_online: np.ndarray, indices: np.ndarray
  ) -> trajectory_lib.Trajectory:
    """Gathers rows `[num_steps, rows, ...]` from both tables."""
    offline, online = self._tables.values()
    if not is_online.any():
      return offline.rows(indices)
    if is_online.all():
      return online.rows(indices)
    flat, is_online = indices.ravel(), is_online.ravel()
    # Position of each row after `online` rows are appended to `offline` rows.
    # `np.take` with these is several times faster than assignment by a mask.
    order = np.where(
        is_online,
        np.count_nonzero(~is_online) + np.cumsum(is_online) - 1,
        np.cumsum(~is_online) - 1,
    ).reshape(indices.shape)
    return tf.nest.map_structure(
        lambda *leaves: np.take(np.concatenate(leaves), order, axis=0),
        offline.rows(flat[~is_online]),
        online.rows(flat[is_online]),
    )

  def _check_tables(self, part: experience_lib.PartRequest) -> None:
    """Checks that the tables of a part have the transitions it needs."""
    needed = experience_lib.needed_tables(part, self._sizes())
    with_candidates = [
        name for name in needed if self._tables[name].has_candidates
    ]
    if with_candidates and with_candidates != needed:
      raise ValueError(
          f'`{part.name}` samples from tables {needed}, but only '
          f'{with_candidates} have candidate actions: set or clear them in all.'
      )

  def _sizes(self) -> Dict[str, int]:
    """Returns the numbers of transitions of `offline` and `online`."""
    return {
        name: table.num_transitions for name, table in self._tables.items()
    }

  def _changes(self) -> Tuple[int, ...]:
    """Returns the number of changes of each table."""
    return tuple(table.num_changes for table in self._tables.values())

  def _table(self, name: str) -> step_table.StepTable:
    """Returns a table by its name."""
    if name not in self._tables:
      raise ValueError(
          f'`table` must be in {list(self._tables)}, got {name!r}.'
      )
    return self._tables[name]


def _dataset_options() -> tf.data.Options:
  """Returns options for small datasets that are created often."""
  options = tf.data.Options()
  # The batches already exist, so tuning and graph rewrites do not pay off.
  options.autotune.enabled = False
  options.experimental_optimization.apply_default_optimizations = False
  return options
