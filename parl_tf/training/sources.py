"""Where a run's training rows and online episodes come from."""

import contextlib
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
)

from absl import logging

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.replay import episode_writer
from parl_tf.replay import stored_step
from parl_tf.training import builder
from parl_tf.training import episode_actor
from parl_tf.training import hindsight
from parl_tf.training import run_dataset

_MAX_ATTEMPTS = 5


class Collected(NamedTuple):
  """Summary of an online episode.

  Attributes:
    num_steps: Environment steps.
    success: Whether the episode solved the task.
  """

  num_steps: int
  success: bool


class Collection(Protocol):
  """The online episodes of a run, in order."""

  def next(self, number: int) -> Collected:
    """Returns episode `number` once its transitions are in table `online`."""


class Source(Protocol):
  """Training rows and online episodes of a run.

  Attributes:
    experience: The current source of rows: `MemoryExperience`,
      `ReverbExperience`, or an object with their methods.
  """

  experience: Any

  def check_domain(self, domain, evaluates: bool) -> None:
    """Checks, without motion, that this process can play its episodes.

    Args:
      domain: `Domain`.
      evaluates: Whether it plays evaluation episodes.

    Raises:
      EOFError: If the task needs a terminal, and there is none.
      ValueError: If the task is in use, or a driver breaks its rules.
    """

  def begin(self, session, episodes: Sequence[types.Episode]) -> None:
    """Called once, before the phases, with the episodes of the dataset."""

  def collection(self, session) -> ContextManager[Collection]:
    """Opens the online episodes of a session."""

  def close(self) -> None:
    """Releases the resources of the source."""


class LocalSource:
  """Reads rows from tables of this process and collects episodes in it.

  Attributes:
    experience: Source of rows; every episode is written to it.
  """

  def __init__(self, experience_ctor: Callable, domain, agent, seed: int):
    """Creates the tables.

    Args:
      experience_ctor: `MemoryExperience` or `ReverbExperience`.
      domain: `Domain`.
      agent: `PARLAgent`.
      seed: Non-negative integer seed of the draws from memory.
    """
    self.experience = experience_ctor(
        seed=seed, **experience_arguments(domain, agent)
    )

  def check_domain(self, domain, evaluates: bool) -> None:
    """Checks the environment, such as a robot, if there is only one."""
    del evaluates  # This process plays online episodes in any case.
    if domain.max_environments == 1:
      domain.make_environment(0, evaluation=False).check()

  def begin(self, session, episodes: Sequence[types.Episode]) -> None:
    """Raises `ValueError` if the tables are too small for the episodes.

    Or if the run began with other episodes.
    """
    run_dataset.check_unchanged(session.root_dir, session.state, episodes)
    copies = hindsight.Hindsight(session.domain)
    self.experience.check_fits(copies.num_transitions('offline', episodes))

  @contextlib.contextmanager
  def collection(self, session):
    """Refills table `online` from the log; later episodes are collected."""
    for episode in session.log.read(0, session.state.episodes):
      session.write_episode('online', episode)
    with contextlib.closing(LocalCollection(session)) as collection:
      yield collection

  def close(self) -> None:
    """Closes the tables."""
    self.experience.close()


class LocalCollection:
  """Episodes of the session's log, extended with newly collected ones."""

  def __init__(self, session):
    """Initializes the collection; `next` makes the environment when needed.

    Args:
      session: `Session` whose agent acts.
    """
    self._session = session
    self._actor: Optional[episode_actor.EpisodeActor] = None

  def next(self, number: int) -> Collected:
    """Reads the episode from the log or collects it; see `Collection`."""
    session = self._session
    if number == len(session.log):
      if self._actor is None:
        self._actor = episode_actor.EpisodeActor(
            session.domain, session.agent, session.seed
        )
      self._collect(number)
    episode = next(iter(session.log.read(number, number + 1)))
    session.write_episode('online', episode)
    return Collected(episode.num_steps, session.domain.is_success(episode))

  def close(self) -> None:
    """Closes the environment, if there is one."""
    if self._actor is not None:
      self._actor.close()

  def _collect(self, number: int) -> None:
    """Logs an episode; replaces one that the log refuses by another."""
    assert self._actor is not None
    for attempt in range(_MAX_ATTEMPTS):
      try:
        episode = self._actor.act(number, attempt)
      except arguments.NotFiniteError as error:
        self._drop(attempt, error)
        continue
      try:
        # The log must hold nothing that the table refuses.
        self._session.check_episode('online', episode)
        self._session.log.append(episode)
        return
      except episode_writer.CopiesError:
        raise  # Another episode would fail, too.
      except ValueError as error:
        self._drop(attempt, error)

  def _drop(self, attempt, error):
    if attempt == _MAX_ATTEMPTS - 1:
      raise error
    logging.error('Dropping an online episode: %s', error)


def experience_arguments(domain, agent) -> Dict[str, Any]:
  """Returns the arguments of `MemoryExperience` and `ReverbExperience`.

  Args:
    domain: `Domain`.
    agent: `PARLAgent`.
  """
  return dict(
      signature=stored_step.signature(
          builder.observation_spec(domain), builder.action_spec(domain)
      ),
      reward_scale=domain.reward_scale,
      reward_bias=domain.reward_bias,
      chunk_length=agent.chunk_length,
      gamma=agent.gamma,
      num_frames=agent.num_frames,
  )
