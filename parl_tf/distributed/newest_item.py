"""Reverb tables that hold one item, the newest."""

from typing import Any, List, Optional

import numpy as np

from parl_tf.distributed import server_link
from parl_tf.replay.reverb_import import reverb


def make_table(name: str, signature: Any) -> reverb.Table:
  """Returns a table that replaces its item by each new one.

  Args:
    name: Name of the table.
    signature: Specs of an item.
  """
  return reverb.Table(
      name,
      sampler=reverb.selectors.Uniform(),
      remover=reverb.selectors.Fifo(),
      max_size=1,
      rate_limiter=reverb.rate_limiters.MinSize(1),
      signature=signature,
  )


def read(
    link: server_link.ServerLink,
    name: str,
    seconds: float = server_link.DEADLINE_SECONDS,
) -> Optional[List[np.ndarray]]:
  """Returns the arrays of the item, None while there is none.

  Args:
    link: To the server.
    name: Name of the table.
    seconds: Longest wait for the item.

  Raises:
    ConnectionError: If the server does not answer in time.
  """
  if not link.size(name):
    return None

  def sample():
    (item,) = link.client.sample(name, num_samples=1, emit_timesteps=False)
    return item.data

  return link.call(name, sample, seconds)
