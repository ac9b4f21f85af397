"""Experience sampled from a replay server: not repeatable.

Reverb's selectors take no seed. The fractions are as exact as in
`memory_experience`, and the rows have the same distribution.
"""

from typing import Dict, Iterator, Optional

import gin
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib

from parl_tf import types
from parl_tf.replay import chunks
from parl_tf.replay import episode_writer
from parl_tf.replay import experience as experience_lib
from parl_tf.replay import tables
from parl_tf.replay.reverb_import import reverb


@gin.configurable(
    denylist=[
        'signature',
        'address',
        'seed',
        'reward_scale',
        'reward_bias',
        'chunk_length',
        'gamma',
        'num_frames',
    ]
)
class ReverbExperience:
  """The tables of a replay server and iterators over rows sampled from them."""

  def __init__(
      self,
      signature: trajectory_lib.Trajectory,
      *,
      address: Optional[str] = None,
      seed: int = 0,
      reward_scale: float,
      reward_bias: float,
      chunk_length: int = 1,
      gamma: float = 1.0,
      num_frames: int = 1,
      num_workers: int = 1,
      num_batches_in_flight: int = 2,
  ):
    """Creates a source; sends no request to the server.

    Args:
      signature: Specs of one stored step; must match the server's.
      address: `host:port` of the server. If None, starts a server in this
        process; `close` stops it.
      seed: Not used: Reverb's selectors take no seed.
      reward_scale: The domain's factor on the raw reward.
      reward_bias: The domain's constant added to the scaled reward.
      chunk_length: H, the number of actions in a chunk; must match the
        server's.
      gamma: Discount factor within a row of several steps.
      num_frames: Must be 1: items have no earlier frames.
      num_workers: Sampling threads per table and part.
      num_batches_in_flight: Batches that each thread samples ahead.
    """
    if num_frames != 1:
      raise ValueError(
          '`build_agent.num_frames` must be 1 with the tables of a replay '
          f'server, which have no earlier frames, got {num_frames}.'
      )
    for name, value in (
        ('num_workers', num_workers),
        ('num_batches_in_flight', num_batches_in_flight),
    ):
      if value < 1:
        raise ValueError(f'`{name}` must be positive, got {value}.')
    self._offsets = experience_lib.row_offsets(chunk_length)
    num_steps = int(self._offsets['online'][-1])
    self._server = None
    self._sink: episode_writer.Sink
    if address is None:
      self._server = tables.ReplayServer(signature, num_steps=num_steps)
      self._sink = self._server
      address = self._server.address
    else:
      self._sink = tables.ReplayWriter(address, signature, num_steps)
    self._address = address
    self._item_spec = tables.item_signature(signature, num_steps)
    self._chunk_length = chunk_length
    self._gamma = gamma
    self._reward_scale = reward_scale
    self._reward_bias = reward_bias
    self._num_workers = num_workers
    self._num_batches_in_flight = num_batches_in_flight
    self._client = reverb.Client(address)
    self._online_shares = {
        name: tf.Variable(0.0, trainable=False, dtype=tf.float32)
        for name in types.Experience._fields
    }
    self._iterators: Dict[
        experience_lib.ExperienceRequest, Iterator[types.Experience]
    ] = {}

  def add(
      self,
      table: str,
      steps: trajectory_lib.Trajectory,
      num_transitions: int,
  ) -> None:
    """Inserts stored steps; see `ReplayWriter.add`."""
    self._sink.add(table, steps, num_transitions)

  def check_fits(self, num_transitions: int) -> None:
    """Raises `ValueError` if a dataset exceeds the tables of an own server."""
    if self._server is not None and num_transitions > self._server.max_size:
      raise ValueError(
          '`ReplayServer.max_size` must be at least the'
          f' {num_transitions} transitions of the dataset, got'
          f' {self._server.max_size}.'
      )

  def close(self) -> None:
    """Stops the server if this process started it."""
    if self._server is not None:
      self._server.stop()
      self._server = None

  def num_transitions(self, table: str) -> int:
    """Returns the number of transitions in `table`.

    Args:
      table: `offline` or `online`.

    Raises:
      ConnectionError: If the server does not answer in time.
    """
    if table not in experience_lib.TABLE_NAMES:
      raise ValueError(
          f'`table` must be in {list(experience_lib.TABLE_NAMES)}, got '
          f'{table!r}.'
      )
    return self._sizes()[table]

  def _sizes(self) -> Dict[str, int]:
    # A server of this process answers late if the process was suspended.
    if self._server is not None:
      return tables.table_sizes(self._client, timeout=None)
    return tables.table_sizes(self._client)

  def iterate(
      self,
      train_step: int,
      num_steps: int,
      request: experience_lib.ExperienceRequest,
  ) -> Iterator[types.Experience]:
    """Returns the iterator of a request, the same one in every call.

    Rows without an exact share of each table are sampled by the table sizes at
    the latest call, except for the two elements prefetched before it.

    Args:
      train_step: Not used: the rows are not repeatable.
      num_steps: Not used: the iterator is infinite, and the caller takes as
        many elements as it needs.
      request: Rows per training step.

    Returns:
      Infinite tf.data iterator over `types.Experience`. The leaves are
      `[rows, 2, ...]`, and `reward` is scaled and biased.

    Raises:
      ValueError: If the request is out of range, or a table it needs is empty.
      ConnectionError: If the server does not answer in time.
    """
    del train_step, num_steps
    parts = experience_lib.requested_parts(request)
    # Check the sizes first: sampling from an empty table or a dead server
    # blocks forever.
    sizes = self._sizes()
    for part in filter(None, parts):
      experience_lib.needed_tables(part, sizes)
      counted = experience_lib.counted_online(part, sizes)
      total = sizes['offline'] + counted
      self._online_shares[part.name].assign(counted / total if total else 0.0)
    if request not in self._iterators:
      datasets = [self._part(part) if part else () for part in parts]
      self._iterators[request] = iter(
          tf.data.Dataset.zip(types.Experience(*datasets))
          # Sample the next element during the current training step.
          .prefetch(1)
          .with_options(_dataset_options())
      )
    return self._iterators[request]

  def _part(self, part: experience_lib.PartRequest) -> tf.data.Dataset:
    """Returns the dataset of one part, with elements `[rows, 2, ...]`."""
    num_rows = part.num_slices * part.batch_size
    if part.exact_offline_rows is None:
      dataset = self._union(part.name, num_rows).batch(
          num_rows, drop_remainder=True
      )
    else:
      dataset = self._mixture(part, part.exact_offline_rows)
    return dataset.map(self._transitions)

  def _mixture(
      self, part: experience_lib.PartRequest, offline_rows: int
  ) -> tf.data.Dataset:
    """Returns slices with an exact number of rows from each table."""
    rows = (offline_rows, part.batch_size - offline_rows)
    batches = tuple(
        self._items(name, part.num_slices * count).batch(
            part.num_slices * count, drop_remainder=True
        )
        for name, count in zip(experience_lib.TABLE_NAMES, rows)
        if count
    )
    if len(batches) == 1:
      return batches[0]

    num_rows = part.num_slices * part.batch_size

    def interleave(*leaves):
      row_shape = leaves[0].shape.as_list()[1:]
      slices = [
          tf.reshape(leaf, [part.num_slices, count] + row_shape)
          for leaf, count in zip(leaves, rows)
      ]
      merged = tf.concat(slices, axis=1)  # [slices, batch, 2, ...]
      return tf.reshape(merged, [num_rows] + row_shape)

    return tf.data.Dataset.zip(batches).map(
        lambda *samples: tf.nest.map_structure(interleave, *samples)
    )

  def _union(self, name: str, num_rows: int) -> tf.data.Dataset:
    """Returns items from both tables with the shares of part `name`."""
    tables_of_rows = tf.data.Dataset.counter().map(
        lambda _: tf.cast(
            tf.random.uniform([num_rows]) < self._online_shares[name], tf.int64
        )
    )
    # Choose the table per row, so that sampling never waits for an empty table.
    return tf.data.Dataset.choose_from_datasets(
        [self._items(name, num_rows) for name in experience_lib.TABLE_NAMES],
        tables_of_rows.unbatch(),
    )

  def _items(self, table: str, num_rows: int) -> tf.data.Dataset:
    """Returns the samples of a table for batches of `num_rows`."""
    items = reverb.TrajectoryDataset(
        server_address=self._address,
        table=table,
        dtypes=tf.nest.map_structure(lambda spec: spec.dtype, self._item_spec),
        shapes=tf.nest.map_structure(lambda spec: spec.shape, self._item_spec),
        max_in_flight_samples_per_worker=(
            self._num_batches_in_flight * num_rows
        ),
        num_workers_per_iterator=self._num_workers,
    )
    offsets = self._offsets[table]
    if np.array_equal(offsets, self._offsets['online']):
      return items
    return items.map(
        lambda sample: sample._replace(
            data=tf.nest.map_structure(
                lambda leaf: tf.gather(leaf, offsets), sample.data
            )
        )
    )

  def _transitions(
      self, sample: reverb.ReplaySample
  ) -> trajectory_lib.Trajectory:
    """Converts a sample's items into transitions and scales the rewards."""
    rows = sample.data
    rows = rows._replace(
        reward=rows.reward * self._reward_scale + self._reward_bias
    )
    if len(self._offsets['online']) == 2:
      return rows
    return chunks.join(rows, self._gamma, self._chunk_length)


def _dataset_options() -> tf.data.Options:
  """Returns options for datasets that must not prefetch implicitly."""
  options = tf.data.Options()
  # A prefetch injected by tf.data would keep rows sampled for old table sizes.
  options.autotune.enabled = False
  options.experimental_optimization.inject_prefetch = False
  return options
