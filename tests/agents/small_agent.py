"""A small agent, its parts and the rows that train it, for tests."""

import functools

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

from parl_tf import types
from parl_tf.agents import parl_agent
from parl_tf.critics import cal_ql
from parl_tf.improvers import distillation
from parl_tf.improvers import imitation
from parl_tf.networks import action_transformer
from parl_tf.networks import denoising_network
from parl_tf.networks import ensemble
from parl_tf.networks import flow_network
from parl_tf.policies import diffusion
from parl_tf.policies import flow
from parl_tf.policies import gaussian
from parl_tf.policies import one_step_flow
from parl_tf.policies import transformer
from parl_tf.replay import episode_writer
from parl_tf.replay import memory_experience
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.training import adam

BATCH_SIZE = 8
OBSERVATION_SPEC = tf.TensorSpec([3], tf.float32, 'observation')
ACTION_SPEC = tensor_spec.BoundedTensorSpec(
    [2], tf.float32, -1.0, 1.0, 'action'
)

# Sizes of the small parts.
_NETWORK = functools.partial(
    ensemble.CriticEnsemble, num_members=2, hidden_sizes=(16, 16)
)
_DENOISING_NETWORK = functools.partial(
    denoising_network.DenoisingNetwork,
    time_size=8,
    hidden_size=16,
    num_blocks=1,
)
_TRANSFORMER = functools.partial(
    action_transformer.ActionTransformer,
    embedding_size=16,
    width=16,
    num_blocks=1,
    num_heads=2,
)
_SIZES = {
    diffusion.DiffusionPolicy: dict(
        num_denoising_steps=2, network_ctor=_DENOISING_NETWORK
    ),
    flow.FlowPolicy: dict(num_steps=2, network_ctor=_DENOISING_NETWORK),
    gaussian.GaussianPolicy: dict(hidden_sizes=(16,)),
    one_step_flow.OneStepFlowPolicy: dict(
        num_steps=2,
        network_ctor=functools.partial(
            flow_network.FlowNetwork, hidden_sizes=(16,)
        ),
    ),
    transformer.TransformerPolicy: dict(num_bins=8, network_ctor=_TRANSFORMER),
}


def make_critic(
    critic_ctor=cal_ql.CalQLCritic,
    observation_spec=OBSERVATION_SPEC,
    action_spec=ACTION_SPEC,
    seed=0,
    chunk_length=1,
    **kwargs,
):
  """Returns a critic with two members of width 16, and arguments `kwargs`."""
  kwargs.setdefault('network_ctor', _NETWORK)
  spec = types.ModelSpec(
      observation_spec, action_spec, seed=seed, chunk_length=chunk_length
  )
  return critic_ctor(spec, **kwargs)


def make_policy(
    policy_ctor=diffusion.DiffusionPolicy,
    observation_spec=OBSERVATION_SPEC,
    action_spec=ACTION_SPEC,
    seed=1,
    chunk_length=1,
    **kwargs,
):
  """Returns a policy of width 16, with arguments `kwargs`.

  A `policy_ctor` that is no class has its sizes already.
  """
  sizes = {}
  if isinstance(policy_ctor, type):
    sizes = next(v for k, v in _SIZES.items() if issubclass(policy_ctor, k))
  kwargs = {**sizes, **kwargs}
  spec = types.ModelSpec(
      observation_spec,
      action_spec,
      seed=seed,
      raw_action_bounds=(-np.ones(2), np.ones(2)),
      chunk_length=chunk_length,
  )
  return policy_ctor(spec, **kwargs)


def make_search(num_samples=4, selection='argmax', **kwargs):
  """Returns a search with N = 4, K = 2, T = 1; `kwargs` go to the optimizer."""
  kwargs = {
      **dict(num_candidates=2, num_gradient_steps=1, step_size=0.1), **kwargs
  }
  return action_source.Search(
      num_samples, action_optimizer.ActionOptimizer(**kwargs), selection
  )


def make_agent(
    critic_ctor=cal_ql.CalQLCritic,
    policy_ctor=diffusion.DiffusionPolicy,
    *,
    observation_spec=OBSERVATION_SPEC,
    action_spec=ACTION_SPEC,
    critic_kwargs=None,
    improver=None,
    optimizer_ctor=adam.Adam,
    search=None,
    is_policy_fixed=False,
    chunk_length=1,
    seed=0,
    **kwargs,
):
  """Returns an agent made of small parts.

  Args:
    critic_ctor: Makes the critic.
    policy_ctor: Makes the policy.
    observation_spec: Nest of `tf.TensorSpec`.
    action_spec: Spec of one action.
    critic_kwargs: Arguments of the critic.
    improver: Improver of the online phase; None for distillation.
    optimizer_ctor: Makes each of the three optimizers.
    search: Search for training, acting and evaluation.
    is_policy_fixed: Whether the policy has no improver.
    chunk_length: Number of actions in a chunk.
    seed: Integer seed of the weights and the draws.
    **kwargs: Arguments of `PARLAgent`.
  """
  search = search or make_search()
  if improver is None and not is_policy_fixed:
    improver = distillation.DistillationImprover()
  specs = dict(
      observation_spec=observation_spec,
      action_spec=action_spec,
      chunk_length=chunk_length,
  )
  kwargs.setdefault('train_step_counter', tf.Variable(0, dtype=tf.int64))
  return parl_agent.PARLAgent(
      types.ModelSpec(
          observation_spec, action_spec, seed=seed, chunk_length=chunk_length
      ),
      make_critic(critic_ctor, **specs, seed=seed, **(critic_kwargs or {})),
      make_policy(policy_ctor, **specs, seed=seed + 1),
      improver=improver,
      pretrain_improver=imitation.ImitationImprover(),
      optimizers=parl_agent.Optimizers(
          optimizer_ctor(), optimizer_ctor(), optimizer_ctor()
      ),
      searches=parl_agent.Searches(search, search, search),
      **kwargs,
  )


def make_episode(num_steps=9, seed=0, episode_id=0):
  """Returns a random episode whose last step has reward 1 and is terminal."""
  random = np.random.default_rng(seed)
  reward = np.zeros([num_steps], np.float32)
  reward[-1] = 1.0
  return types.Episode(
      observation=random.normal(size=[num_steps + 1, 3]).astype(np.float32),
      action=random.uniform(-1.0, 1.0, [num_steps, 2]).astype(np.float32),
      reward=reward,
      discount=1.0 - reward,
      success=reward > 0,
      episode_id=episode_id,
  )


def make_rows(num_rows=BATCH_SIZE, seed=0) -> trajectory.Trajectory:
  """Returns the transitions of one episode, `[num_rows, 2, ...]` tensors."""
  steps = episode_writer.stored_steps(
      make_episode(num_rows, seed), gamma=0.99, reward_scale=1.0,
      reward_bias=-1.0,
  )
  steps = steps._replace(reward=steps.reward - 1.0)
  index = np.arange(num_rows)[:, np.newaxis] + np.arange(2)
  return tf.nest.map_structure(lambda x: tf.constant(x[index]), steps)


def make_experience(num_episodes=3, seed=0):
  """Returns a `MemoryExperience` with episodes in both tables."""
  experience = memory_experience.MemoryExperience(
      seed=seed, reward_scale=1.0, reward_bias=-1.0
  )
  writer = episode_writer.EpisodeWriter(
      gamma=0.99, reward_scale=1.0, reward_bias=-1.0,
      never_succeeds_value=None, sink=experience,
  )
  for index in range(num_episodes):
    writer.write('offline', make_episode(seed=index, episode_id=index))
    writer.write('online', make_episode(seed=100 + index, episode_id=index))
  return experience


def make_transition(num_rows=BATCH_SIZE, seed=0) -> trajectory.Transition:
  """Returns the transitions of one episode, `[num_rows, ...]` tensors."""
  return tf.nest.map_structure(
      lambda x: tf.squeeze(x, axis=1),
      trajectory.to_transition(make_rows(num_rows, seed)),
  )
