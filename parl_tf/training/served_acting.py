"""How evaluation acts by a served policy: alone, or searched by a critic."""

import tensorflow as tf

from parl_tf import types
from parl_tf.agents import parl_policy
from parl_tf.policies import remote
from parl_tf.search import acting_search
from parl_tf.training import builder
from parl_tf.training import evaluation


def act_alone(address: str, domain) -> evaluation.Act:
  """Returns an act that takes one sample a decision, and plays whole chunks.

  Args:
    address: Of the policy's server. One without our extension does not tell the
      length of its chunks: only the first action of each is played.
    domain: `Domain` of the task.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If its policy is of another task.
  """
  probe = remote.RemotePolicy(
      model_spec(domain, chunk_length=1), address=address
  ).client
  length = 1 if probe.spec is None else probe.spec.chunk_length
  probe.close()
  policy = remote.RemotePolicy(model_spec(domain, length), address=address)
  shape = [-1, length, *domain.action_spec().shape]

  def act(observation, seed):
    return policy.sample(observation, 1, seed).numpy().reshape(shape)

  return act


def act_searched(address: str, domain, agent) -> evaluation.Act:
  """Returns an act that searches N samples a decision with an agent's critic.

  Args:
    address: Of the policy's server.
    domain: `Domain` of the task.
    agent: `PARLAgent`, of which only the critic and the search for evaluation
      are used.

  Raises:
    ValueError: If the agent has no critic or its evaluation no search.
  """
  search = agent.searches.evaluation
  if agent.critic is None or search.optimizer is None:
    raise ValueError(
        'A served policy is searched by a critic, but the run has '
        f'{"no critic" if agent.critic is None else "no `Search.optimizer`"}.'
    )
  spec = model_spec(domain, agent.chunk_length)
  policy = parl_policy.PARLPolicy(
      agent.time_step_spec,
      agent.action_spec,
      acting_search.ActingSearch(
          search,
          remote.RemotePolicy(spec, address=address),
          agent.critic,
          agent.time_step_spec.observation,
      ),
      chunk_length=agent.chunk_length,
  )
  shape = [-1, agent.chunk_length, *domain.action_spec().shape]

  def act(observation, seed):
    observation = tf.nest.map_structure(tf.constant, observation)
    return policy.act(observation, tf.constant(seed)).numpy().reshape(shape)

  return act


def model_spec(domain, chunk_length: int) -> types.ModelSpec:
  """Returns the spec of a served policy of a domain.

  Args:
    domain: `Domain`.
    chunk_length: H, the number of actions of a chunk to use.
  """
  return types.ModelSpec(
      builder.observation_spec(domain),
      builder.action_spec(domain),
      raw_action_bounds=domain.raw_action_bounds,
      chunk_length=chunk_length,
  )
