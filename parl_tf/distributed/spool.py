"""A collector's own episodes, kept until the replay service surely has them."""

import os
import re
import time
from typing import Dict, List, TypeVar

from absl import logging
import numpy as np

from parl_tf import types
from parl_tf.distributed import directory_id
from parl_tf.distributed import episode_item
from parl_tf.distributed import journal as journal_lib
from parl_tf.distributed import server_link
from parl_tf.replay import episode_log

_FILE_NAME = re.compile(r'episode_(\d+)\.npz')
# An id's bits: 16 of the collector's number, then these of its spool, random,
# and of the episode's number. Where two hosts give one number to two collectors
# no episode of one is taken for the other's.
_SPOOL_BITS = 23
_NUMBER_BITS = 24
# The newest episodes stay although the service has them: a torn record at the
# end of its log is then sent anew.
_NUM_KEPT = 8
# After so long without a receipt an episode is sent anew.
_RESEND_SECONDS = 15.0


_Ids = TypeVar('_Ids', int, np.ndarray)


def collector_of(episode_id: _Ids) -> _Ids:
  """Returns the numbers of the collectors that acted episodes."""
  return episode_id >> (_SPOOL_BITS + _NUMBER_BITS)


def number_of(episode_id: _Ids) -> _Ids:
  """Returns the numbers of episodes among those of their collectors."""
  return episode_id % 2**_NUMBER_BITS


class Spool:
  """Episodes of one collector, on its own disk and on their way.

  An episode counts as acknowledged once `append` returns: it is synced, and
  whatever dies then, the service gets it, once.
  """

  def __init__(
      self, directory: str, link: server_link.ServerLink, collector: int
  ):
    """Opens the spool.

    Args:
      directory: Where the episodes stand; made if it is missing.
      link: To the service.
      collector: Number of the collector, not negative; no other should have it.

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
    self._being_sent = set()
    self._reported = set()
    os.makedirs(directory, exist_ok=True)
    spool_id = directory_id.read_or_make(
        directory, directory_id.SPOOL, _SPOOL_BITS
    )
    self._first_id = (collector << _SPOOL_BITS | spool_id) << _NUMBER_BITS

  def next_number(self, journal: journal_lib.Journal) -> int:
    """Returns the number of the next episode, counted from 0.

    Args:
      journal: Of the service; knows of episodes that a lost disk had.
    """
    known = np.concatenate([journal.episode_id, journal.refused])
    known = number_of(known[collector_of(known) == self._collector])
    return max([-1, *self._numbers(), *known.tolist()]) + 1

  def append(self, number: int, episode: types.Episode) -> None:
    """Writes and syncs an episode, under an id of the collector's.

    Args:
      number: From `next_number`.
      episode: T steps; its id is replaced.

    Raises:
      OSError: If it cannot be written.
      ValueError: If the episode is not what it must be.
    """
    episode_log.write_episode(
        self._path(number), episode._replace(episode_id=self._first_id + number)
    )

  def deliver(self, journal: journal_lib.Journal) -> int:
    """Sends what has not arrived, and drops what surely has.

    Args:
      journal: Of the service.

    Returns:
      How many episodes have not arrived yet.

    Raises:
      ConnectionError: If the service does not take them in time.
      ValueError: If an episode is not of the service's signature, or the spool
        of another run than the service.
    """
    directory_id.check_run(self._directory, int(journal.run_id[0]))
    refused = self._own(journal.refused)
    arrived = self._own(journal.episode_id) | refused
    for number in sorted(refused - self._reported):
      logging.error(
          'The service at %s refused episode %d of collector %d: its log says '
          'why.', self._link.address, number, self._collector,
      )
    self._reported |= refused
    numbers = self._numbers()
    missing = [number for number in numbers if number not in arrived]
    for number in missing:
      self._send_if_due(number)
    for number in numbers[:-_NUM_KEPT]:
      if number in arrived:
        os.remove(self._path(number))
        self._sent_at.pop(number, None)
    return len(missing)

  def _send_if_due(self, number: int) -> None:
    now = time.monotonic()
    if now - self._sent_at.get(number, -np.inf) < _RESEND_SECONDS:
      return
    if number in self._being_sent:
      # A slow link, or a full queue: a second one would make neither faster.
      return
    try:
      episode = episode_log.read_episode(self._path(number))
    except ValueError as error:
      # Its disk lost it; those after it must still be sent.
      os.rename(self._path(number), self._path(number) + '.torn')
      logging.error('Put aside as .torn: %s', error)
      return
    # Noted first: what is not taken in time may still be.
    self._sent_at[number] = now

    def send():
      self._being_sent.add(number)
      try:
        episode_item.send(self._link.client, episode)
      finally:
        self._being_sent.discard(number)

    self._link.call(episode_item.TABLE, send)

  def _own(self, episode_ids: np.ndarray) -> set:
    """Returns the numbers of those of `episode_ids` that this spool had."""
    mine = episode_ids >> _NUMBER_BITS == self._first_id >> _NUMBER_BITS
    return set(number_of(episode_ids[mine]).tolist())

  def _numbers(self) -> List[int]:
    matches = map(_FILE_NAME.fullmatch, os.listdir(self._directory))
    return sorted(int(match[1]) for match in matches if match)

  def _path(self, number: int) -> str:
    return os.path.join(self._directory, f'episode_{number:08d}.npz')
