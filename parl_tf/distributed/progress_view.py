"""A one-line summary of the progress of a distributed run."""

import math
import time
from typing import Mapping, Optional, Tuple

from parl_tf.distributed import journal as journal_lib
from parl_tf.distributed import server_link
from parl_tf.distributed import weights


class ProgressView:
  """Shows rates since the last line, table sizes and the policy's lag."""

  def __init__(self, address: str):
    """Initializes the view; sends no request.

    Args:
      address: `host:port` of the replay service.
    """
    self._link = server_link.ServerLink(address)
    self._before: Optional[Tuple[float, int, int]] = None
    self._has_answered = False

  def line(self, num_restarts: Mapping[str, int]) -> str:
    """Returns the line.

    Args:
      num_restarts: Number of restarts of each restarted role.
    """
    restarts = ', '.join(f'{k} {v}' for k, v in sorted(num_restarts.items()))
    restarts = f'; restarted: {restarts}' if restarts else ''
    try:
      journal = journal_lib.read(self._link)
      progress = weights.read_progress(self._link)
      tables = self._link.tables()
    except ConnectionError:
      state = 'does not answer' if self._has_answered else 'is starting'
      return f'The replay service {state}{restarts}'
    self._has_answered = True
    if journal is None:
      return f'The replay service is being filled{restarts}'
    if progress is None:
      return (
          f'{len(journal.num_steps)} episodes; the learner is not yet in the '
          f'online phase{restarts}'
      )
    now = time.monotonic()
    num_collected = int(journal.num_steps.sum())
    # The first line has no rates: the log may be that of an earlier session.
    before, collected_before, learned_before = self._before or (
        -math.inf, num_collected, progress['train_step']
    )
    seconds = now - before
    self._before = (now, num_collected, progress['train_step'])
    lag = len(journal.num_steps) - progress['num_episodes']
    return (
        f'{len(journal.num_steps)} episodes, {num_collected} steps collected'
        f' ({(num_collected - collected_before) / seconds:.0f}/s), training'
        f' step {progress["train_step"]}'
        f' ({(progress["train_step"] - learned_before) / seconds:.0f}/s),'
        f' offline {tables["offline"].current_size},'
        f' online {tables["online"].current_size}, policy {lag} episodes'
        f' behind{restarts}'
    )
