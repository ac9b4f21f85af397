"""How evaluation acts by a served policy: alone, or searched by a critic."""

from typing import Optional

from absl import logging
import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import types
from parl_tf.agents import parl_policy
from parl_tf.policies import remote
from parl_tf.search import acting_search
from parl_tf.training import builder
from parl_tf.training import evaluation


class ServedAct:
  """Acts by a served policy.

  Attributes:
    num_frames: Number of frames in each observation that it gets.
    version: Version of the weights that all samples have; '' for any.
  """

  def __init__(self, act: evaluation.Act, num_frames: int, version: str = ''):
    self._act = act
    self.num_frames = num_frames
    self.version = version

  def __call__(self, observation: types.Nest, seed: np.ndarray) -> np.ndarray:
    return self._act(observation, seed)


def act_alone(
    address: str,
    domain,
    temperature: float = 1.0,
    chunk_length: Optional[int] = None,
) -> ServedAct:
  """Returns an act that takes one sample a decision.

  If the server's weights change, the next decision is an error.

  Args:
    address: Of the policy's server. One without our extension does not tell the
      length of its chunks, nor a history of observations that it needs: only
      the first action of each is played, and it gets one observation.
    domain: `Domain` of the task.
    temperature: Scale of the policy's noise.
    chunk_length: Number of actions of a chunk to play; None plays all.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If its policy is of another task or has no such temperature.
  """
  single = model_spec(domain, chunk_length=1)
  # Workers, if bound, may serve another version.
  with remote.RemotePolicy(single, address=address, workers=()) as probe:
    spec = probe.client.spec
    num_frames = _num_frames(probe, domain)
    version = probe.current_version()
  if num_frames > 1:
    logging.info('%s sees the last %d observations.', address, num_frames)
  length = chunk_length or (1 if spec is None else spec.chunk_length)
  policy = remote.RemotePolicy(
      model_spec(domain, length, num_frames), address=address, workers=()
  )
  policy.version = version
  shape = [-1, length, *domain.action_spec().shape]

  def act(observation, seed):
    samples = policy.sample(observation, 1, seed, temperature=temperature)
    return samples.numpy().reshape(shape)

  return ServedAct(act, num_frames, version)


def act_searched(address: str, domain, agent) -> ServedAct:
  """Returns an act that searches N samples a decision with an agent's critic.

  If the server's weights change, the next decision is an error.

  Args:
    address: Of the policy's server.
    domain: `Domain` of the task.
    agent: `PARLAgent`, of which only the critic and the search for evaluation
      are used.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If the agent has no critic or its evaluation no search.
  """
  searches = getattr(agent, 'searches', None)  # `DPPOAgent` has none.
  search = searches and searches.evaluation
  if agent.critic is None or search is None or search.optimizer is None:
    raise ValueError(
        'A served policy is searched by a critic, but the run has '
        f'{"no critic" if agent.critic is None else "no `Search.optimizer`"}.'
    )
  spec = model_spec(domain, agent.chunk_length, agent.num_frames)
  served = remote.RemotePolicy(spec, address=address, workers=())
  served.version = served.current_version()
  policy = parl_policy.PARLPolicy(
      agent.time_step_spec,
      agent.action_spec,
      acting_search.ActingSearch(
          search,
          served,
          agent.critic,
          agent.time_step_spec.observation,
      ),
      chunk_length=agent.chunk_length,
  )
  shape = [-1, agent.chunk_length, *domain.action_spec().shape]

  def act(observation, seed):
    observation = tf.nest.map_structure(tf.constant, observation)
    return policy.act(observation, tf.constant(seed)).numpy().reshape(shape)

  return ServedAct(act, agent.num_frames, served.version)


def model_spec(
    domain, chunk_length: int, num_frames: int = 1
) -> types.ModelSpec:
  """Returns the spec of a served policy of a domain.

  Args:
    domain: `Domain`.
    chunk_length: H, the number of actions of a chunk to use.
    num_frames: Number of frames in each observation; see `frame_stack`.
  """
  return types.ModelSpec(
      builder.stacked_spec(builder.observation_spec(domain), num_frames),
      builder.action_spec(domain),
      raw_action_bounds=domain.raw_action_bounds,
      chunk_length=chunk_length,
      num_frames=num_frames,
  )


def _num_frames(policy: remote.RemotePolicy, domain) -> int:
  """Returns how many observations of a domain the server's policy sees."""
  spec = policy.client.spec
  if spec is None:
    return 1
  example = policy.to_message(
      tf.nest.map_structure(
          lambda x: np.zeros([1, *x.shape], x.dtype), domain.observation_spec()
      )
  )
  counts = [
      frame_stack.count(
          {name: np.broadcast_to(0, spec.observation[name].shape)},
          {name: array[0]},
      )
      for name, array in example.items()
      if name in spec.observation
  ]
  return max([1, *counts])
