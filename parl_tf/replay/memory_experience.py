"""Experience drawn from memory: repeatable and exactly resumable.

The rows of a training step are a function of (seed, train step, part, slice)
and of what the tables hold, however the steps are split into calls.
"""

from typing import Iterator, List, Optional, Tuple

import gin
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib

from parl_tf import types
from parl_tf.replay import checks
from parl_tf.replay import chunks
from parl_tf.replay import experience as experience_lib
from parl_tf.replay import step_table

# Philox makes four 64-bit words for each value of its counter.
_WORDS_PER_COUNT = 4


@gin.configurable(
    denylist=[
        'signature',
        'seed',
        'reward_scale',
        'reward_bias',
        'chunk_length',
        'gamma',
    ]
)
class MemoryExperience:
  """Both tables in memory, and iterators of the rows drawn from them."""

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
  ):
    """Creates empty tables.

    Args:
      signature: Specs of one stored step, from `stored_step.signature`; those
        of the first steps that are added where None.
      capacity: Transitions each table holds; the oldest go first.
      max_block_bytes: Bytes of rows drawn at once; an iterator of more steps
        than that draws them block by block.
      seed: Of the draws; not negative.
      reward_scale: The domain's factor on the raw reward.
      reward_bias: The domain's constant added to the scaled reward.
      chunk_length: H, the steps that a transition spans.
      gamma: Discount factor within a chunk.
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
    self._tables = {
        name: step_table.StepTable(name, capacity, chunk_length)
        for name in experience_lib.TABLE_NAMES
    }

  def add(
      self,
      table: str,
      steps: trajectory_lib.Trajectory,
      num_transitions: int,
  ) -> None:
    """Inserts stored steps, and clears the table's candidate actions.

    Args:
      table: `offline` or `online`.
      steps: Numpy arrays `[T + 1, ...]` of one episode, reward raw.
      num_transitions: How many of the first steps begin a transition.

    Raises:
      ValueError: If the table or the steps are not what they must be; nothing
        is then inserted.
    """
    target = self._table(table)
    self._step_spec = checks.check_steps(
        f'table `{table}`', steps, num_transitions, self._step_spec
    )
    target.add(steps, num_transitions)

  def close(self) -> None:
    """Does nothing: the tables go with this object."""

  def num_transitions(self, table: str) -> int:
    """Returns the number of transitions in `table`."""
    return self._table(table).num_transitions

  def observations(self, table: str) -> types.Nest:
    """Returns the observations `[num_steps, ...]` of `table`, oldest first."""
    return self._table(table).observations()

  def set_candidates(self, table: str, candidates: np.ndarray) -> None:
    """Joins candidate actions to the rows drawn from `table`.

    Args:
      table: `offline` or `online`.
      candidates: `[num_steps, N, H * A]`, in the order of `observations`. They
        stay until steps are added to the table.
    """
    self._table(table).set_candidates(candidates)

  def clear_candidates(self, table: str) -> None:
    """Takes the candidate actions of `table` away."""
    self._table(table).clear_candidates()

  def iterate(
      self,
      train_step: int,
      num_steps: int,
      request: experience_lib.ExperienceRequest,
  ) -> Iterator[types.Experience]:
    """Returns the experience of the training steps from `train_step` on.

    The element spec depends on the request alone, and on whether the tables it
    draws from have candidate actions.

    Args:
      train_step: The first training step.
      num_steps: How many.
      request: Rows of each.

    Returns:
      tf.data iterator of `num_steps` `types.Experience`, their leaves
      `[rows, 2, ...]`, `reward` scaled and biased. The tables must not change
      until it has ended.

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
    if self._chunk_length > 1:
      dataset = dataset.map(
          lambda windows: types.Experience(
              *(part and chunks.join(part, self._gamma) for part in windows)
          )
      )
    return iter(dataset.with_options(_dataset_options()))

  def _steps_per_block(self, parts: List[experience_lib.PartRequest]) -> int:
    """Returns how many steps are drawn at once."""
    num_rows = sum(part.num_slices * part.batch_size for part in parts)
    step_bytes = max(table.step_bytes for table in self._tables.values())
    row_bytes = (self._chunk_length + 1) * step_bytes
    return max(1, self._max_block_bytes // (num_rows * row_bytes))

  def _blocks(
      self,
      train_step: int,
      num_steps: int,
      steps_per_block: int,
      parts: List[experience_lib.PartRequest],
  ) -> tf.data.Dataset:
    """Returns the dataset of blocks that are drawn one after another."""
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
              'The tables changed before the iterator of their rows had ended.'
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
    """Draws consecutive steps, `[num_steps, rows, H + 1, ...]`."""
    drawn = {}
    for part in parts:
      is_online, indices = self._draw(train_step, num_steps, part)
      rows = self._rows(is_online, indices)
      drawn[part.name] = rows._replace(
          reward=rows.reward * self._reward_scale + self._reward_bias
      )
    return types.Experience(**drawn)

  def _draw(
      self, train_step: int, num_steps: int, part: experience_lib.PartRequest
  ) -> Tuple[np.ndarray, np.ndarray]:
    """Draws the table and the transition of each row.

    Returns:
      `[num_steps, rows]` bool, whether the row is of table `online`, and
      `[num_steps, rows]` int64, the transition within its table.
    """
    uniform = np.concatenate(
        [
            self._uniform(train_step, num_steps, part, index)
            for index in range(part.num_slices)
        ],
        axis=1,
    )
    num_offline, num_online = self._sizes()
    if part.offline_rows is None:
      # Transitions of `online` are numbered on from those of `offline`.
      indices = (uniform * (num_offline + num_online)).astype(np.int64)
      is_online = indices >= num_offline
      return is_online, indices - num_offline * is_online
    row_in_slice = np.arange(uniform.shape[1]) % part.batch_size
    is_online = np.broadcast_to(
        row_in_slice >= part.offline_rows, uniform.shape
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

    Philox is a function of key and counter. The key holds seed, part and slice;
    each step owns a stretch of the counter, so one call gives the steps that
    two calls would give.
    """
    entropy = (self._seed, types.Experience._fields.index(part.name), index)
    key = np.random.SeedSequence(entropy).generate_state(2, np.uint64)
    counts_per_step = -(-part.batch_size // _WORDS_PER_COUNT)
    generator = np.random.Philox(
        key=key, counter=train_step * counts_per_step
    )
    words = generator.random_raw(num_steps * counts_per_step * _WORDS_PER_COUNT)
    words = words.reshape(num_steps, -1)[:, :part.batch_size]
    # The upper 53 bits, which is what a float64 holds.
    return (words >> np.uint64(11)) * 2.0**-53

  def _rows(
      self, is_online: np.ndarray, indices: np.ndarray
  ) -> trajectory_lib.Trajectory:
    """Gathers rows `[num_steps, rows, H + 1, ...]` from both tables."""
    offline, online = self._tables.values()
    if not is_online.any():
      return offline.rows(indices)
    if is_online.all():
      return online.rows(indices)
    flat, is_online = indices.ravel(), is_online.ravel()
    # Where each row stands once those of `online` follow those of `offline`:
    # `np.take` with this is several times faster than assigning by a mask.
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
    """Checks that the tables of a part hold what it needs."""
    sizes = dict(zip(self._tables, self._sizes()))
    needed = experience_lib.needed_tables(part, sizes)
    with_candidates = [
        name for name in needed if self._tables[name].has_candidates
    ]
    if with_candidates and with_candidates != needed:
      raise ValueError(
          f'`{part.name}` draws from tables {needed}, of which only '
          f'{with_candidates} have candidate actions: set or clear them in all.'
      )

  def _sizes(self) -> Tuple[int, int]:
    """Returns the numbers of transitions of `offline` and `online`."""
    return tuple(table.num_transitions for table in self._tables.values())

  def _changes(self) -> Tuple[int, ...]:
    """Returns what differs once a table's contents have changed."""
    return tuple(table.num_changes for table in self._tables.values())

  def _table(self, name: str) -> step_table.StepTable:
    """Returns a table by its name."""
    if name not in self._tables:
      raise ValueError(
          f'`table` must be in {list(self._tables)}, got {name!r}.'
      )
    return self._tables[name]


def _dataset_options() -> tf.data.Options:
  """Returns options for datasets that are made often and hold little."""
  options = tf.data.Options()
  # The batches are made already: nothing here is worth tuning or rewriting.
  options.autotune.enabled = False
  options.experimental_optimization.apply_default_optimizations = False
  return options
