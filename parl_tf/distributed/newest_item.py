"""Reverb tables that hold only the newest item."""

from typing import Any, List, Optional

import numpy as np

from parl_tf.distributed import server_link
from parl_tf.replay.reverb_import import reverb


def make_table(name: str, signature: Any) -> reverb.Table:
  """Returns a table in which each new item replaces the previous one.

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


def publish(client: reverb.Client, name: str, item: Any) -> None:
  """Replaces the item of a table.

  Args:
    client: Client of the server.
    name: Name of the table.
    item: Named tuple of arrays.
  """
  with client.trajectory_writer(num_keep_alive_refs=1) as writer:
    writer.append(item)
    writer.create_item(
        name,
        priority=1.0,
        trajectory=type(item)(*(column[-1] for column in writer.history)),
    )
    writer.flush()


def send(link: server_link.ServerLink, name: str, item: Any) -> None:
  """Replaces the item of a table of a server that may be in another process.

  Args:
    link: Link to the server.
    name: Name of the table.
    item: Named tuple of arrays.

  Raises:
    ConnectionError: If the server does not answer in time.
  """
  link.call(name, lambda: publish(link.client, name, item))


def read(
    link: server_link.ServerLink, name: str
) -> Optional[List[np.ndarray]]:
  """Returns the arrays of the item; None while the table is empty.

  Args:
    link: Link to the server.
    name: Name of the table.

  Raises:
    ConnectionError: If the server does not answer in time.
  """
  if not link.size(name):
    return None

  def sample():
    (item,) = link.client.sample(name, num_samples=1, emit_timesteps=False)
    return item.data

  return link.call(name, sample)
