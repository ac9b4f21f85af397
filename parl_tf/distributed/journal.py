"""The journal of a replay service: its episodes, in log order.

The journal is the only item of its table. Every episode replaces it. From the
journal, collectors learn which episodes have arrived, and the learner learns
how many environment steps to train on. A restarted service rebuilds it from the
log.
"""

import array
import time
from typing import NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.distributed import newest_item
from parl_tf.distributed import server_link
from parl_tf.replay import tables
from parl_tf.replay.reverb_import import reverb

TABLE = 'journal'

# A journal that seems unchanged is read again after this time. A service cannot
# restart, and count to the same number, in less.
_SAME_SECONDS = 1.0

_DTYPES = dict(
    episode_id=np.int64,
    num_steps=np.int32,
    success=np.bool_,
    refused=np.int64,
    run_id=np.int64,
    constants=np.float64,
    dataset_id=np.int64,
)


class Journal(NamedTuple):
  """The list of a service's online episodes.

  Attributes:
    episode_id: `[n]` int64, in log order.
    num_steps: `[n]` int32, environment steps of each episode.
    success: `[n]` bool, whether the task was solved.
    refused: `[m]` int64, ids of invalid episodes.
    run_id: `[1]` int64, number of the run.
    constants: `[c]` float64, constants that all processes of the run share.
    dataset_id: `[1]` int64, digest of the dataset.
  """

  episode_id: np.ndarray
  num_steps: np.ndarray
  success: np.ndarray
  refused: np.ndarray
  run_id: np.ndarray
  constants: np.ndarray
  dataset_id: np.ndarray


class Entries:
  """The per-episode columns of a journal; appending to them is cheap.

  Attributes:
    episode_id: Id of each episode, in log order.
    num_steps: Environment steps of each episode.
    success: Whether each episode solved the task.
  """

  def __init__(self):
    """Initializes empty columns."""
    self.episode_id = array.array('q')
    self.num_steps = array.array('i')
    self.success = array.array('b')

  def append(self, episode: types.Episode, success: bool) -> None:
    """Adds an episode."""
    self.episode_id.append(episode.episode_id)
    self.num_steps.append(episode.num_steps)
    self.success.append(success)


def make(
    episode_id: Sequence[int] = (),
    num_steps: Sequence[int] = (),
    success: Sequence[int] = (),
    refused: Sequence[int] = (),
    run_id: int = 0,
    constants: Sequence[float] = (),
    dataset_id: int = 0,
) -> Journal:
  """Makes a journal from sequences; see `Journal`."""
  return Journal(
      np.array(episode_id, _DTYPES['episode_id']),
      np.array(num_steps, _DTYPES['num_steps']),
      np.array(success, _DTYPES['success']),
      np.array(refused, _DTYPES['refused']),
      np.array([run_id], _DTYPES['run_id']),
      np.array(constants, _DTYPES['constants']),
      np.array([dataset_id], _DTYPES['dataset_id']),
  )


def make_table() -> reverb.Table:
  """Returns the table, which keeps only the newest journal."""
  signature = Journal(
      **{
          name: tf.TensorSpec([None], tf.as_dtype(dtype), name)
          for name, dtype in _DTYPES.items()
      }
  )
  return newest_item.make_table(TABLE, signature)


def publish(client: reverb.Client, journal: Journal) -> None:
  """Replaces the journal of a server in this process."""
  tables.require_connection(client)
  newest_item.publish(client, TABLE, journal)


def read(link: server_link.ServerLink) -> Optional[Journal]:
  """Returns the journal, or None if the service is not ready.

  Raises:
    ConnectionError: If the server does not answer in time.
  """
  data = newest_item.read(link, TABLE)
  return None if data is None else Journal(*data)


class Reader:
  """Reads a journal often; transfers it only if it has changed."""

  def __init__(self, link: server_link.ServerLink):
    """Initializes the reader; sends no request."""
    self._link = link
    self._journal: Optional[Journal] = None
    self._num_published = 0
    self._read_at = float('-inf')

  def read(self) -> Optional[Journal]:
    """Returns the journal, or None if the service is not ready.

    Raises:
      ConnectionError: If the server does not answer in time.
    """
    stats = self._link.table(TABLE).rate_limiter_info.insert_stats
    now = time.monotonic()
    if (
        stats.completed != self._num_published
        or now - self._read_at >= _SAME_SECONDS
    ):
      self._journal = read(self._link)
      self._num_published, self._read_at = stats.completed, now
    return self._journal
