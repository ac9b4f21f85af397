"""Which learner a replay service serves: the first that claims it.

The claim lasts until the service restarts, so that another learner can take
over then, for instance after the loss of a disk.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from parl_tf.distributed import newest_item
from parl_tf.distributed import server_link
from parl_tf.replay.reverb_import import reverb

TABLE = 'learner'


class _Claim(NamedTuple):
  learner_id: np.ndarray


def make_table() -> reverb.Table:
  """Returns the table of the claim."""
  signature = _Claim(tf.TensorSpec([1], tf.int64, 'learner_id'))
  return newest_item.make_table(TABLE, signature)


def claim(link: server_link.ServerLink, learner_id: int) -> None:
  """Makes a service serve this learner only, or checks that it does.

  Args:
    link: Link to the service.
    learner_id: Number of the learner's directory.

  Raises:
    ConnectionError: If the service does not answer in time.
    ValueError: If it serves another learner.
  """
  held = newest_item.read(link, TABLE)
  if held is None:
    item = _Claim(np.array([learner_id], np.int64))
    newest_item.send(link, TABLE, item)
  elif int(held[0][0]) != learner_id:
    raise ValueError(
        f'The replay service at {link.address} serves another learner. Choose '
        "that learner's `--root_dir`; or, to take over, stop it and restart "
        'the service.'
    )
