"""A one-line summary of the progress of a distributed run."""

import time
from typing import Mapping

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
    self._before = (time.monotonic(), 0, 0)

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
      return f'The replay service does not answer{restarts}'
    if journal is None or progress is None:
      return f'No online episode yet{restarts}'
    now = time.monotonic()
    num_collected = int(journal.num_steps.sum())
    before, collected_before, learned_before = self._before
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
