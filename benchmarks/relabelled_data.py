"""A dataset with copies of episodes that reached other goals."""

from typing import List, Sequence

import gin

from parl_tf import types
from parl_tf.binaries import configs
from parl_tf.datasets import reading
from parl_tf.domains import domain as domain_lib
from parl_tf.training import hindsight


def read(
    path: str,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    num_goals: int,
) -> List[types.Episode]:
  """Returns the episodes of a dataset, each followed by its copies.

  Args:
    path: Path of the dataset.
    gin_files: Gin files that bind the task.
    gin_bindings: Further bindings of the task.
    num_goals: Maximum number of copies of an episode; see `Hindsight`.
  """
  gin.clear_config()
  configs.parse(gin_files, gin_bindings)
  copies = hindsight.Hindsight(
      domain_lib.select_domain(), offline_goals=num_goals
  )
  return copies.with_copies('offline', list(reading.read_episodes(path)))
