"""Where a run's training rows come from, and where its episodes go."""

import contextlib
from typing import Any, Callable, Dict, Iterator

from parl_tf.distributed import remote_collection
from parl_tf.distributed import server_link
from parl_tf.distributed import weights
from parl_tf.replay import memory_experience
from parl_tf.replay import reverb_experience
from parl_tf.replay import tables
from parl_tf.training import builder
from parl_tf.training import run_constants


class OwnSource:
  """Tables and, unless gin wants otherwise, memory of this process.

  Attributes:
    experience: Source of the rows.
    sinks: What every episode is written to.
  """

  def __init__(self, experience_ctor: Callable, domain, agent, seed: int):
    """Starts an in-process server.

    Args:
      experience_ctor: `MemoryExperience` or `ReverbExperience`.
      domain: `Domain`.
      agent: `PARLAgent`.
      seed: Of the draws from memory.
    """
    self._server = tables.ReplayServer(
        _signature(domain), chunk_length=agent.chunk_length
    )
    constants = _constants(domain, agent)
    if issubclass(experience_ctor, memory_experience.MemoryExperience):
      self.experience = experience_ctor(seed=seed, **constants)
      self.sinks = [self._server, self.experience]
    else:
      self.experience = experience_ctor(
          self._server.address, self._server.signature, **constants
      )
      self.sinks = [self._server]

  @contextlib.contextmanager
  def online(self, session) -> Iterator[None]:
    """The online phase, its episodes acted here."""
    del session
    yield

  def close(self) -> None:
    """Stops the server."""
    self._server.stop()


class RemoteSource:
  """Memory before the online phase, a replay service in it.

  Attributes:
    experience: Source of the rows before the online phase.
    sinks: What every episode of the data is written to.
  """

  def __init__(self, address: str, domain, agent, seed: int):
    """Asks nothing of the service yet.

    Args:
      address: `host:port` of the service.
      domain: `Domain`.
      agent: `PARLAgent`.
      seed: Of the draws from memory.
    """
    self._link = server_link.ServerLink(address)
    self._agent = agent
    self._run_constants = run_constants.read(domain, agent)
    constants = _constants(domain, agent)
    self.experience = memory_experience.MemoryExperience(seed=seed, **constants)
    self.sinks = [self.experience]
    self._online_experience = remote_collection.PatientExperience(
        reverb_experience.ReverbExperience(
            address, _signature(domain), **constants
        ),
        self._link,
    )

  @contextlib.contextmanager
  def online(self, session) -> Iterator[None]:
    """The online phase, its episodes brought by collectors."""
    remote = remote_collection.RemoteCollection(
        self._link,
        weights.Weights(
            self._link,
            self._agent.acting_variables,
            self._agent.train_step_counter,
        ),
        self._run_constants,
        session.root_dir,
    )
    session.remote = remote
    session.experience = self._online_experience
    with self._link.watched('online'):
      yield
    remote.finish()

  def close(self) -> None:
    """Leaves the service as it is."""


def _signature(domain) -> Any:
  return tables.step_signature(
      builder.observation_spec(domain), builder.action_spec(domain)
  )


def _constants(domain, agent) -> Dict[str, Any]:
  return dict(
      reward_scale=domain.reward_scale,
      reward_bias=domain.reward_bias,
      chunk_length=agent.chunk_length,
      gamma=agent.gamma,
  )
