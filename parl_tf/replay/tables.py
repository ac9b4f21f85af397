"""The two Reverb tables, `offline` and `online`, and their item signature.

An item is a transition: two stored steps, or n + 1 if it spans n. Past the end
of an episode, an item repeats the last step. Both tables sample uniformly and
remove the oldest transitions first.
"""

from typing import Dict, Mapping, Optional

import gin
import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib

from parl_tf.replay import checks
from parl_tf.replay import experience
from parl_tf.replay import loopback
from parl_tf.replay.reverb_import import reverb

DEADLINE_SECONDS = 4
"""Timeout after which a server counts as unreachable."""

# Steps between two flushes. Reverb warns if about fifty items are pending.
_FLUSH_INTERVAL = 16


def item_signature(
    signature: trajectory_lib.Trajectory, num_steps: int = 1
) -> trajectory_lib.Trajectory:
  """Returns the specs of one item `[n + 1, ...]` from the specs of a step."""
  return tf.nest.map_structure(
      lambda spec: tf.TensorSpec([num_steps + 1] + spec.shape, spec.dtype),
      signature,
  )


def make_tables(
    signature: trajectory_lib.Trajectory,
    max_size: int,
    num_steps: int = 1,
    min_sizes: Optional[Mapping[str, int]] = None,
):
  """Returns both tables.

  Args:
    signature: Specs of one stored step.
    max_size: Maximum number of transitions per table; the oldest are removed
      first.
    num_steps: n, the number of steps that an item spans.
    min_sizes: Number of transitions that each table must have before it can be
      sampled, at most `max_size`; None means 1.

  Raises:
    ValueError: If `max_size` is not positive.
  """
  if max_size < 1:
    raise ValueError(f'`max_size` must be positive, got {max_size}.')
  return [
      reverb.Table(
          name=name,
          sampler=reverb.selectors.Uniform(),
          remover=reverb.selectors.Fifo(),
          max_size=max_size,
          rate_limiter=reverb.rate_limiters.MinSize(
              min(max(1, min_sizes[name] if min_sizes else 1), max_size)
          ),
          signature=item_signature(signature, num_steps),
      )
      for name in experience.TABLE_NAMES
  ]


def require_connection(
    client: reverb.Client, timeout: Optional[int] = None
) -> None:
  """Waits until a client is connected to its server.

  Call this before creating a `TrajectoryWriter` or `StructuredWriter`. Their
  constructor starts a stream before it has initialized the fields that the end
  of the stream sets. While the connection is broken the stream ends at once,
  which corrupts the memory of the process (dm-reverb 0.14: `stream_worker_` and
  `stream_status_` in reverb/cc/trajectory_writer.h).

  Args:
    client: Client that will create the writer.
    timeout: Seconds to wait; None waits without limit.

  Raises:
    reverb.errors.ReverbError: If the server does not answer in time.
    RuntimeError: If the connection breaks again and again.
  """
  try:
    client.server_info(timeout=timeout)
  except RuntimeError:
    # The connection broke during the request. The next one waits for another.
    client.server_info(timeout=timeout)


def table_sizes(
    client: reverb.Client, timeout: Optional[int] = DEADLINE_SECONDS
) -> Dict[str, int]:
  """Returns the number of transitions in each table of a server.

  Args:
    client: Client of the server.
    timeout: Seconds to wait; None waits without limit.

  Raises:
    ConnectionError: If the server does not answer in time.
  """
  try:
    info = client.server_info(timeout=timeout)
  except (reverb.errors.ReverbError, RuntimeError) as error:
    raise ConnectionError(
        f'The replay server at {client.server_address} does not answer a '
        f'request for the sizes of tables {list(experience.TABLE_NAMES)}: '
        f'{error}'
    ) from error
  return {name: info[name].current_size for name in experience.TABLE_NAMES}


class ReplayWriter:
  """Episode sink that inserts stored steps into the tables of a server."""

  def __init__(
      self,
      address: str,
      signature: trajectory_lib.Trajectory,
      num_steps: int = 1,
      deadline_seconds: Optional[int] = DEADLINE_SECONDS,
  ):
    """Creates a writer that connects to the server at the first `add`.

    Args:
      address: `host:port` of the server.
      signature: Specs of one stored step.
      num_steps: n, the number of steps that an item spans.
      deadline_seconds: Timeout of a request. None disables the timeout. Use
        None for a server in this process: it is always reachable, but answers
        late if the process was suspended.
    """
    self._deadline_seconds = deadline_seconds
    self._num_steps = num_steps
    self._client = reverb.Client(address)
    self._step_spec = checks.spec_of_signature(signature)

  def add(
      self,
      table: str,
      steps: trajectory_lib.Trajectory,
      num_transitions: int,
  ) -> None:
    """Inserts the transitions that begin at the first steps.

    Args:
      table: `offline` or `online`.
      steps: Numpy arrays `[T + 1, ...]` of one episode.
      num_transitions: Number of leading steps that begin a transition.

    Raises:
      ValueError: If the table is unknown or the steps are invalid. Nothing is
        inserted in that case.
      ConnectionError: If the server does not answer in time.
    """
    if table not in experience.TABLE_NAMES:
      raise ValueError(
          f'`table` must be in {list(experience.TABLE_NAMES)}, got {table!r}.'
      )
    checks.check_steps(
        f'table `{table}`', steps, num_transitions, self._step_spec
    )
    if not num_transitions:
      return
    try:
      # An insertion into a dead server would report no error.
      require_connection(self._client, self._deadline_seconds)
      self._insert(table, steps, num_transitions)
    except (reverb.errors.ReverbError, RuntimeError) as error:
      raise ConnectionError(
          f'The replay server at {self._client.server_address} does not answer '
          f'an insertion into table `{table}`: {error}'
      ) from error

  def _insert(
      self,
      table: str,
      steps: trajectory_lib.Trajectory,
      num_transitions: int,
  ) -> None:
    """Inserts one item at each of the first `num_transitions` steps."""
    timeout_ms = None
    if self._deadline_seconds is not None:
      timeout_ms = 1000 * self._deadline_seconds
    # Use flat lists in the order in which the items are read. The structured
    # writer slices the items in C++, at a third of the cost of Python.
    leaves = tf.nest.flatten(steps)
    pattern = reverb.structured_writer.pattern_from_transform(
        [None] * len(leaves),
        lambda step: [column[-(self._num_steps + 1):] for column in step],
    )
    writer = self._client.structured_writer(
        [reverb.structured_writer.create_config(pattern, table)]
    )
    for index in range(num_transitions + self._num_steps):
      step = min(index, num_transitions)  # Repeats the last one.
      writer.append([leaf[step] for leaf in leaves])
      if index % _FLUSH_INTERVAL == 0:
        writer.flush(_FLUSH_INTERVAL, timeout_ms=timeout_ms)
    writer.end_episode(timeout_ms=timeout_ms)


@gin.configurable(denylist=['signature', 'num_steps'])
class ReplayServer:
  """An in-process Reverb server with both tables and an episode sink.

  Attributes:
    address: `localhost:port`.
    max_size: Maximum number of transitions per table.
  """

  def __init__(
      self,
      signature: trajectory_lib.Trajectory,
      *,
      max_size: int = 1_000_000,
      num_steps: int = 1,
  ):
    """Starts a server on a free port, which only this machine can reach.

    Args:
      signature: Specs of one stored step.
      max_size: Maximum number of transitions per table; the oldest are removed
        first.
      num_steps: n, the number of steps that an item spans.
    """
    self.max_size = max_size
    self._server = reverb.Server(
        make_tables(signature, max_size, num_steps), port=None
    )
    try:
      loopback.restrict(self._server.port)
    except OSError:
      self._server.stop()
      raise
    self.address = f'localhost:{self._server.port}'
    self._writer = ReplayWriter(
        self.address, signature, num_steps, deadline_seconds=None
    )

  def add(
      self,
      table: str,
      steps: trajectory_lib.Trajectory,
      num_transitions: int,
  ) -> None:
    """Inserts stored steps; see `ReplayWriter.add`."""
    self._writer.add(table, steps, num_transitions)

  def stop(self) -> None:
    """Stops the server and discards its contents."""
    self._server.stop()
