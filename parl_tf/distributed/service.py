"""The replay service: an episode log, indexed by Reverb tables.

Collectors put whole episodes into the queue `episodes`. One thread receives
them: it checks each episode, appends it to the log, inserts its transitions
into table `online` and updates the journal. The log is synced first and drops
duplicate ids. Therefore a restarted service loses no episode, and collectors
can resend episodes that were not acknowledged. The service is restored entirely
from the log and the dataset. It does not use Reverb's checkpoints, which would
be a second source of truth and would restore outdated limits.
"""

import itertools
import socket
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from absl import logging
import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.distributed import directory_id
from parl_tf.distributed import episode_item
from parl_tf.distributed import journal
from parl_tf.distributed import learner_claim
from parl_tf.distributed import weights
from parl_tf.replay import checks
from parl_tf.replay import episode_log
from parl_tf.replay import episode_writer
from parl_tf.replay import loopback
from parl_tf.replay import stored_step
from parl_tf.replay import tables
from parl_tf.replay.reverb_import import reverb
from parl_tf.training import run_constants

_POLL_SECONDS = 0.1
_RETRY_SECONDS = 5.0

MakeWriters = Callable[
    [episode_writer.Sink], Mapping[str, episode_writer.EpisodeWriter]
]
"""Makes the writer of each table, which writes to the given sink."""


@gin.configurable(
    denylist=[
        'observation_spec',
        'action_spec',
        'weights_signature',
        'make_writers',
        'log_directory',
        'num_offline_transitions',
        'count_online',
        'constants',
        'dataset_id',
        'is_success',
        'port',
        'is_public',
    ]
)
class ReplayService:
  """A server of all tables, with a log of the online episodes.

  Attributes:
    port: Port of the server.
    address: `localhost:port`.
  """

  def __init__(
      self,
      observation_spec: types.Nest,
      action_spec: tf.TensorSpec,
      weights_signature: Dict[str, Any],
      make_writers: MakeWriters,
      log_directory: str,
      *,
      num_offline_transitions: int,
      count_online: Callable[[types.Episode], int],
      constants: run_constants.RunConstants,
      dataset_id: int,
      is_success: Callable[[types.Episode], bool],
      port: Optional[int] = None,
      is_public: bool = False,
      max_size: int = 1_000_000,
      max_queue_size: int = 64,
  ):
    """Starts the server; `run` fills its tables and receives episodes.

    Args:
      observation_spec: `tf.TensorSpec` or flat mapping of them.
      action_spec: `tf.TensorSpec` of shape `[A]`.
      weights_signature: Result of `weights.signature`.
      make_writers: Makes the writers of `offline` and `online`.
      log_directory: Directory of the log of online episodes.
      num_offline_transitions: Transitions of the dataset given to `run`.
      count_online: Returns the transitions that an episode adds to `online`.
      constants: Constants that all processes of the run share, published in the
        journal. Episodes of more than `max_episode_steps` are refused.
      dataset_id: Digest of that dataset, published in the journal.
      is_success: Returns whether an episode solved the task, for the journal.
      port: Port to listen on, or None for a free one.
      is_public: Whether other machines may connect. Connections have neither
        encryption nor a password: use this only on a network you trust.
      max_size: Maximum number of transitions in each of `offline` and `online`.
        The dataset must not have more; of `online`, the oldest are removed
        first.
      max_queue_size: Maximum number of queued episodes. Senders block while the
        queue is full.

    Raises:
      OSError: If the log cannot be opened, or the port is in use.
      ValueError: If the log is damaged before its last record, or the dataset
        has more than `max_size` transitions.
    """
    if max_queue_size < 1:
      raise ValueError(
          f'`max_queue_size` must be positive, got {max_queue_size}.'
      )
    if num_offline_transitions > max_size:
      raise ValueError(
          f'`ReplayService.max_size` must be at least'
          f' {num_offline_transitions:,}, the transitions of the dataset, got'
          f' {max_size:,}.'
      )
    steps = stored_step.signature(observation_spec, action_spec)
    self._log = episode_log.EpisodeLog(log_directory, drop_torn_end=True)
    self._entries = journal.Entries()
    self._num_transitions: List[int] = []  # Of the log's episodes at the start.
    for episode in self._log.read():
      self._num_transitions.append(count_online(episode))
      self._entries.append(
          episode,
          _success(f'{log_directory}: episode {episode.episode_id}', is_success,
                   episode),
      )
    # Tables that are being refilled must not be sampled.
    self._expected_sizes = {
        'offline': num_offline_transitions,
        'online': min(sum(self._num_transitions), max_size),
    }
    self._run_id = directory_id.read_or_make(log_directory, directory_id.RUN)
    self._item_signature = episode_item.signature(observation_spec, action_spec)
    self._constants = constants
    self._dataset_id = dataset_id
    self._is_success = is_success
    self._step_spec = _episode_spec(steps)
    if port is not None:
      _check_is_free(port)
    self._server = reverb.Server(
        [
            *tables.make_tables(
                steps, max_size, constants.num_row_steps, self._expected_sizes
            ),
            episode_item.make_table(self._item_signature, max_queue_size),
            journal.make_table(),
            learner_claim.make_table(),
            *weights.make_tables(weights_signature),
        ],
        port=port,
    )
    self.port = self._server.port
    if not is_public:
      loopback.restrict(self.port)
    logging.info(
        'The replay service listens on port %d, %s.',
        self.port,
        'to every machine' if is_public else 'to this machine only',
    )
    self.address = f'localhost:{self.port}'
    self._client = reverb.Client(self.address)
    self._writers = make_writers(
        tables.ReplayWriter(
            self.address, steps, constants.num_row_steps, deadline_seconds=None
        )
    )
    self._refused: List[int] = []
    self._is_stopped = False

  def run(
      self,
      offline_episodes: Iterable[types.Episode],
      check_dataset: Callable[[], None] = lambda: None,
  ) -> None:
    """Fills the tables, then receives episodes until `stop` is called.

    Args:
      offline_episodes: Episodes of table `offline`.
      check_dataset: Called all the time; what it raises ends the service.
    """
    try:
      self._run(offline_episodes, check_dataset)
    finally:
      self._server.stop()

  def stop(self) -> None:
    """Makes `run` stop the server and return.

    A handler of signals may call it: it takes no lock.
    """
    self._is_stopped = True

  def _run(self, offline_episodes, check_dataset):
    self._fill('offline', offline_episodes)
    self._fill('online', self._log.read(self._first_needed()))
    if not self._is_stopped:
      self._check_sizes()
      check_dataset()  # The journal says that the service is ready.
      self._publish()
      logging.info(
          'The replay service is ready, with %d transitions of the dataset '
          'and %d online episodes of its log.',
          self._expected_sizes['offline'],
          len(self._log),
      )
    while not self._is_stopped:
      time.sleep(_POLL_SECONDS)
      check_dataset()
      for episode in self._until_stopped(self._waiting()):
        if episode is not None and self._keep(episode):
          self._entries.append(episode, self._is_success(episode))
        self._publish()

  def _fill(self, table: str, episodes: Iterable[types.Episode]) -> None:
    for episode in self._until_stopped(episodes):
      self._writers[table].write(table, episode)

  def _first_needed(self) -> int:
    """Returns the first episode of the log that is still in the table."""
    num_left = self._expected_sizes['online']
    first = len(self._num_transitions)
    while num_left > 0:
      first -= 1
      num_left -= self._num_transitions[first]
    return first

  def _check_sizes(self) -> None:
    """Raises if a table is not full, since sampling it would block forever."""
    sizes = tables.table_sizes(self._client)
    if sizes != self._expected_sizes:
      raise RuntimeError(
          f'The tables must contain {self._expected_sizes} transitions, got'
          f' {sizes}.'
      )

  def _until_stopped(self, episodes: Iterable[Any]) -> Iterable[Any]:
    """Yields episodes until the service is stopped."""
    return itertools.takewhile(
        lambda _: not self._is_stopped, episodes
    )

  def _waiting(self) -> Iterable[Optional[types.Episode]]:
    """Yields the queued items; None for an invalid item."""
    # Checks the size, because sampling would block after the server stops.
    while self._client.server_info()[episode_item.TABLE].current_size:
      yield self._next()

  def _next(self) -> Optional[types.Episode]:
    """Removes the next item from the queue; None if it is invalid."""
    try:
      return episode_item.receive(self._client, self._item_signature)
    except (reverb.errors.ReverbError, RuntimeError, ValueError) as e:
      logging.error('Refused an item of table %s: %s', episode_item.TABLE, e)
      return None

  def _keep(self, episode: types.Episode) -> bool:
    """Adds an episode to the log and the table.

    Returns:
      False if the episode is invalid or is already in the log.
    """
    num_before = len(self._log)
    try:
      self._check(episode)
      self._append(episode)
    except ValueError as error:
      logging.error('Refused episode %d: %s', episode.episode_id, error)
      if episode.episode_id not in self._refused:  # It may arrive twice.
        self._refused.append(episode.episode_id)
      return False
    if len(self._log) == num_before:
      return False  # The log already has it.
    self._writers['online'].write('online', episode)
    return True

  def _check(self, episode: types.Episode) -> None:
    source = f'episode {episode.episode_id}'
    seen = checks.check_episode(source, episode)
    checks.check_step_spec(source, seen, self._step_spec)
    max_steps = self._constants.max_episode_steps
    if episode.num_steps > max_steps:
      raise ValueError(
          f'{source}: must have at most {max_steps} steps '
          f'(`max_episode_steps`), got {episode.num_steps}.'
      )
    # The log must not contain steps that the table refuses, or every start of
    # the service would fail.
    self._writers['online'].check('online', episode)
    _success(source, self._is_success, episode)

  def _append(self, episode: types.Episode) -> None:
    """Appends to the log; retries while the disk is full or unavailable."""
    while not self._is_stopped:
      try:
        self._log.append(episode)
        return
      except OSError as error:
        logging.error(
            'Waiting to write episode %d: %s', episode.episode_id, error
        )
        self._pause(_RETRY_SECONDS)

  def _pause(self, seconds: float) -> None:
    """Sleeps, but not longer than until the service is stopped."""
    end = time.monotonic() + seconds
    while not self._is_stopped and time.monotonic() < end:
      time.sleep(_POLL_SECONDS)

  def _publish(self) -> None:
    held = self._entries
    journal.publish(
        self._client,
        journal.make(
            held.episode_id,
            held.num_steps,
            held.success,
            self._refused,
            self._run_id,
            self._constants,
            self._dataset_id,
        ),
    )


def _success(source: str, is_success: Callable, episode: types.Episode) -> bool:
  """Returns whether an episode succeeds.

  Raises:
    ValueError: If the domain cannot say it.
  """
  try:
    return bool(is_success(episode))
  except Exception as error:  # noqa: BLE001 (code of the domain)
    raise ValueError(
        f'{source}: `Domain.is_success` failed: {error!r}'
    ) from error


def _check_is_free(port: int) -> None:
  """Raises `OSError` if the port is in use.

  Otherwise Reverb would share it with a server of another process, and clients
  would reach one or the other.
  """
  try:
    socket.create_server(('', port)).close()
  except OSError as error:
    raise OSError(
        error.errno, f'Port {port} must be free: {error.strerror}'
    ) from error


def _episode_spec(steps: Any) -> checks.StepSpec:
  """Returns the spec of one step of an episode."""
  spec = dict(checks.spec_of_signature(steps))
  spec['success'] = spec['policy_info/success']
  return {
      name: leaf
      for name, leaf in spec.items()
      if name.startswith('observation')
      or name in types.EPISODE_STEP_DTYPES
  }
