"""The replay service of an experiment that gin describes."""

import functools
import os
import time
from typing import Optional

from absl import logging

from parl_tf.distributed import service
from parl_tf.distributed import weights
from parl_tf.domains import domain as domain_lib
from parl_tf.training import builder
from parl_tf.training import experiment
from parl_tf.training import run_constants
from parl_tf.training import run_dataset

_POLL_SECONDS = 0.5


class ExperimentService:
  """The replay service of an experiment: tables, log and dataset.

  Attributes:
    port: Port of the server.
  """

  def __init__(
      self, root_dir: str, *, port: Optional[int] = None, is_public: bool
  ):
    """Starts the server; `run` fills it.

    Args:
      root_dir: Directory that contains the episode log, `episodes`. If gin
        names no dataset, the service waits for the dataset that the learner
        records in `learner`.
      port: Port to listen on, or None for a free one.
      is_public: Whether other machines may connect.

    Raises:
      OSError: If the log cannot be opened, or the port is taken.
      ValueError: If the dataset or the log is damaged.
    """
    domain = domain_lib.select_domain()
    # Read first, so that an invalid dataset raises before a client connects.
    path = _wait_for_dataset(os.path.join(root_dir, 'learner'))
    self._episodes = run_dataset.load(path, domain, root_dir)
    agent = experiment.make_agent(domain, None, seed=0)
    self._service = service.ReplayService(
        builder.observation_spec(domain),
        builder.action_spec(domain),
        weights.signature(agent.acting_variables),
        functools.partial(experiment.make_writers, domain, agent),
        os.path.join(root_dir, 'episodes'),
        num_offline_transitions=sum(x.num_transitions for x in self._episodes),
        constants=run_constants.read(domain, agent),
        is_success=domain.is_success,
        port=port,
        is_public=is_public,
    )
    self.port = self._service.port

  def run(self) -> None:
    """Fills the tables and receives episodes until `stop` is called."""
    episodes, self._episodes = self._episodes, []
    self._service.run(episodes)

  def stop(self) -> None:
    """Makes `run` return; may be called in a signal handler."""
    self._service.stop()


def _wait_for_dataset(learner_dir: str) -> str:
  """Returns the path of the dataset once it exists."""
  path = experiment.dataset_path(learner_dir)
  if not os.path.exists(path):
    logging.warning('Waiting for the dataset %s.', path)
  while not os.path.exists(path):
    time.sleep(_POLL_SECONDS)
    # A learner that begins from another run takes over that run's dataset.
    path = experiment.dataset_path(learner_dir)
  return path
