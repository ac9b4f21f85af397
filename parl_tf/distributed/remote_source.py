"""The learner's source of training rows and online episodes."""

import contextlib
from typing import Callable, Sequence

from absl import logging

from parl_tf import interruption
from parl_tf import types
from parl_tf.distributed import remote_collection
from parl_tf.distributed import server_link
from parl_tf.distributed import weights
from parl_tf.replay import reverb_experience
from parl_tf.training import hindsight
from parl_tf.training import run_constants
from parl_tf.training import run_dataset
from parl_tf.training import sources


class RemoteSource:
  """Rows of this process until the online phase, then of a replay service.

  Attributes:
    experience: The current source of rows: the dataset, or the service within
      `collection`.
  """

  def __init__(
      self, address: str, experience_ctor: Callable, domain, agent, seed: int
  ):
    """Initializes the source; sends no request to the service.

    Args:
      address: `host:port` of the service.
      experience_ctor: `MemoryExperience` or `ReverbExperience`, for the phases
        before the online phase.
      domain: `Domain`.
      agent: `PARLAgent`.
      seed: Non-negative integer seed of the draws from memory.
    """
    self._link = server_link.ServerLink(address)
    self._agent = agent
    self._run_constants = run_constants.read(domain, agent)
    arguments = sources.experience_arguments(domain, agent)
    self.experience = experience_ctor(seed=seed, **arguments)
    self._offline_experience = self.experience
    self._online_experience = remote_collection.PatientExperience(
        reverb_experience.ReverbExperience(address=address, **arguments),
        self._link,
    )

  def check_domain(self, domain, evaluates: bool) -> None:
    """Says that evaluations need an environment of their own."""
    if domain.max_environments is None:
      return
    if not evaluates:
      interruption.take_no_time()  # Nothing moves here.
      return
    logging.warning(
        'The learner runs evaluations on its own `%s`. Give it a robot or'
        ' world that no collector uses.',
        domain.name,
    )
    if domain.max_environments == 1:
      domain.make_environment(0, evaluation=True).check()

  def begin(self, session, episodes: Sequence[types.Episode]) -> None:
    """Claims the service, if it is up; see `RemoteCollection.begin`.

    Raises:
      ValueError: Also if the tables of this process are too small for the
        episodes, or the run began with other ones.
    """
    dataset_id = run_dataset.check_unchanged(
        session.root_dir, session.state, episodes
    )
    copies = hindsight.Hindsight(session.domain)
    self._offline_experience.check_fits(
        copies.num_transitions('offline', episodes)
    )
    self._remote = remote_collection.RemoteCollection(
        self._link,
        weights.Weights(
            self._link,
            self._agent.acting_variables,
            self._agent.train_step_counter,
        ),
        self._run_constants,
        dataset_id,
        session.root_dir,
    )
    self._remote.begin()

  @contextlib.contextmanager
  def collection(self, session):
    """Opens the episodes that collectors send to the service.

    When the `with` block ends, the final weights are published.
    """
    self.experience = self._online_experience
    with self._link.watched('online'):
      yield self._remote
    self._remote.finish(session.state.episodes)

  def close(self) -> None:
    """Closes the tables of this process; the service keeps running."""
    self._offline_experience.close()
