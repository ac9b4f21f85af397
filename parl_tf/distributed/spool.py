"""A collector's episodes, kept until the replay service has stored them."""

import os
import re
import time
from typing import Dict, List, Optional, Set, TypeVar

from absl import logging
import numpy as np

from parl_tf import synced_file
from parl_tf import types
from parl_tf.distributed import directory_id
from parl_tf.distributed import episode_item
from parl_tf.distributed import journal as journal_lib
from parl_tf.distributed import server_link
from parl_tf.replay import episode_log

_FILE_NAME = re.compile(r'episode_(\d+)\.npz')
# An episode id consists of 16 bits for the collector's number, these random
# bits for its spool, and these bits for the episode's number. Ids differ even
# if collectors on two hosts have the same number.
_SPOOL_BITS = 23
_NUMBER_BITS = 24
# The newest episodes are kept after they arrive, because the service may lose a
# torn record at the end of its log.
_NUM_KEPT = 8
# An episode is sent again after this time without an acknowledgement.
_RESEND_SECONDS = 15.0
# Consecutive refused episodes after which the collector stops.
_MAX_REFUSED = 10


_Ids = TypeVar('_Ids', int, np.ndarray)


def collector_of(episode_id: _Ids) -> _Ids:
  """Returns the number of the collector of each episode."""
  return episode_id >> (_SPOOL_BITS + _NUMBER_BITS)


def number_of(episode_id: _Ids) -> _Ids:
  """Returns the number of each episode within its collector."""
  return episode_id % 2**_NUMBER_BITS


class Spool:
  """Stores the episodes of one collector on its disk and delivers them.

  When `append` returns, the episode is synced to the disk. After that, the
  service stores it exactly once, even if any of the processes is killed.
  """

  def __init__(
      self, directory: str, link: server_link.ServerLink, collector: int
  ):
    """Opens the spool.

    Args:
      directory: Directory of the episodes; created if it is missing.
      link: Link to the service.
      collector: Non-negative number of the collector, unique in the run.

    Raises:
      OSError: If the directory cannot be read or written.
      ValueError: If the number is out of range.
    """
    if not 0 <= collector < 2**16:
      raise ValueError(f'`collector` must be in [0, 65536), got {collector}.')
    self._directory = directory
    self._link = link
    self._collector = collector
    self._sent_at: Dict[int, float] = {}
    self._being_sent: Set[int] = set()
    self._refused_before: Optional[Set[int]] = None
    self._unreadable: Set[int] = set()
    self._reported: Set[int] = set()
    synced_file.make_directory(directory)
    spool_id = directory_id.read_or_make(
        directory, directory_id.SPOOL, _SPOOL_BITS
    )
    self._first_id = (collector << _SPOOL_BITS | spool_id) << _NUMBER_BITS

  def next_number(self, journal: journal_lib.Journal) -> int:
    """Returns the number of the next episode, counted from 0.

    Args:
      journal: Journal of the service; it lists the collector's earlier episodes
        even if their disk is lost.
    """
    known = np.concatenate([journal.episode_id, journal.refused])
    known = number_of(known[collector_of(known) == self._collector])
    return max([-1, *self._numbers(), *known.tolist()]) + 1

  def append(self, number: int, episode: types.Episode) -> None:
    """Writes and syncs an episode under an id of this collector.

    Args:
      number: Result of `next_number`.
      episode: T steps; its id is replaced.

    Raises:
      OSError: If the episode cannot be written.
      ValueError: If the episode is invalid.
    """
    episode_log.write_episode(
        self._path(number), episode._replace(episode_id=self._first_id + number)
    )

  def deliver(self, journal: journal_lib.Journal) -> int:
    """Sends episodes that have not arrived and removes those that have.

    Args:
      journal: Journal of the service.

    Returns:
      The number of episodes that have not arrived yet, without those that
      cannot be read.

    Raises:
      ConnectionError: If the service does not accept them in time.
      ValueError: If an episode does not fit the service's signature, the spool
        belongs to another run, or the service refused the last ten episodes,
        at least one of them since the first call.
    """
    directory_id.check_run(self._directory, int(journal.run_id[0]))
    refused = self._own(journal.refused)
    arrived = self._own(journal.episode_id) | refused
    for number in sorted(refused - self._reported):
      logging.error(
          'The service at %s refused episode %d of collector %d; see its log '
          'for the reason.', self._link.address, number, self._collector,
      )
    self._reported |= refused
    # A collector that has been mended since may try one more episode.
    if self._refused_before is None:
      self._refused_before = refused
    newest = sorted(arrived)[-_MAX_REFUSED:]
    is_refused_again = not self._refused_before.issuperset(newest)
    if (
        len(newest) == _MAX_REFUSED
        and refused.issuperset(newest)
        and is_refused_again
    ):
      raise ValueError(
          f'The service at {self._link.address} refused the last '
          f'{_MAX_REFUSED} episodes of collector {self._collector}; see its '
          'log for the reason.'
      )
    numbers = self._numbers()
    missing = [number for number in numbers if number not in arrived]
    for number in missing:
      self._send_if_due(number)
    for number in numbers[:-_NUM_KEPT]:
      if number in arrived:
        os.remove(self._path(number))
        self._sent_at.pop(number, None)
    return len(set(missing) - self._unreadable)

  def _send_if_due(self, number: int) -> None:
    now = time.monotonic()
    if now - self._sent_at.get(number, -np.inf) < _RESEND_SECONDS:
      return
    if number in self._being_sent:
      # The link is slow or the queue is full; sending again would not help.
      return
    self._unreadable.discard(number)
    try:
      episode = episode_log.read_episode(self._path(number))
    except OSError as error:
      # The disk may recover; the later episodes must still be sent.
      self._sent_at[number] = now
      self._unreadable.add(number)
      logging.error(
          'Episode %d of collector %d cannot be read, and is tried again: %s',
          number, self._collector, error,
      )
      return
    except ValueError as error:
      # The file is damaged; the later episodes must still be sent.
      os.rename(self._path(number), self._path(number) + '.torn')
      logging.error('Renamed a damaged episode to .torn: %s', error)
      return
    # Set first, because an episode may arrive even if the call times out.
    self._sent_at[number] = now

    def send():
      self._being_sent.add(number)
      try:
        episode_item.send(self._link.client, episode)
      finally:
        self._being_sent.discard(number)

    self._link.call(episode_item.TABLE, send)

  def _own(self, episode_ids: np.ndarray) -> set:
    """Returns the numbers of this spool's episodes among `episode_ids`."""
    mine = episode_ids >> _NUMBER_BITS == self._first_id >> _NUMBER_BITS
    return set(number_of(episode_ids[mine]).tolist())

  def _numbers(self) -> List[int]:
    matches = map(_FILE_NAME.fullmatch, os.listdir(self._directory))
    return sorted(int(match[1]) for match in matches if match)

  def _path(self, number: int) -> str:
    return os.path.join(self._directory, f'episode_{number:08d}.npz')
