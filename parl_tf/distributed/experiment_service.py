"""The replay service of an experiment that gin describes."""

import collections
import functools
import os
import time
from typing import Deque, Iterator, Optional

from absl import logging

from parl_tf import types
from parl_tf.distributed import service
from parl_tf.distributed import weights
from parl_tf.domains import domain as domain_lib
from parl_tf.training import builder
from parl_tf.training import experiment
from parl_tf.training import hindsight
from parl_tf.training import run_constants
from parl_tf.training import run_dataset
from parl_tf.training import table_writers

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
    self._dataset = RecordedDataset(os.path.join(root_dir, 'learner'))
    self._episodes = run_dataset.load(self._dataset.path, domain, root_dir)
    agent = experiment.make_agent(domain, None, seed=0)
    copies = hindsight.Hindsight(domain)
    self._service = service.ReplayService(
        builder.observation_spec(domain),
        builder.action_spec(domain),
        weights.signature(agent.acting_variables),
        functools.partial(table_writers.make, domain, agent),
        os.path.join(root_dir, 'episodes'),
        num_offline_transitions=copies.num_transitions(
            'offline', self._episodes
        ),
        count_online=lambda episode: copies.num_transitions(
            'online', [episode]
        ),
        constants=run_constants.read(domain, agent),
        dataset_id=run_dataset.digest(self._episodes),
        is_success=domain.is_success,
        port=port,
        is_public=is_public,
    )
    self.port = self._service.port

  def run(self) -> None:
    """Fills the tables and receives episodes until `stop` is called."""
    episodes, self._episodes = collections.deque(self._episodes), []
    self._service.run(_drained(episodes), self._dataset.check)

  def stop(self) -> None:
    """Makes `run` return; may be called in a signal handler."""
    self._service.stop()


class RecordedDataset:
  """A run's dataset, and whether the learner has replaced it since.

  Attributes:
    path: Path of the dataset.
  """

  def __init__(self, learner_dir: str):
    """Waits until the dataset exists.

    Args:
      learner_dir: Directory of the learner, which records the dataset if gin
        names none.
    """
    self._learner_dir = learner_dir
    self.path = _wait_for_dataset(learner_dir)
    self._seen = self._look()  # Before the file is read.

  def check(self) -> None:
    """Raises a `ValueError` if the learner has recorded another dataset."""
    try:
      seen = self._look()
    except FileNotFoundError:
      return  # It is being recorded.
    if seen != self._seen:
      raise ValueError(
          f'{seen[0]}: the learner has recorded another dataset since this '
          'service read it. Run the same command again.'
      )

  def _look(self):
    path = experiment.dataset_path(self._learner_dir)
    if os.path.dirname(path) != self._learner_dir:
      return path, None  # The user's own; its digest is compared.
    found = os.stat(path)
    return path, (found.st_ino, found.st_mtime_ns, found.st_size)


def _drained(episodes: Deque[types.Episode]) -> Iterator[types.Episode]:
  """Yields episodes and releases each, so that only the tables keep them."""
  while episodes:
    yield episodes.popleft()


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
