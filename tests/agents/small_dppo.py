"""A small DPPO agent for tests."""

import tensorflow as tf

from parl_tf import types
from parl_tf.agents import dppo_agent
from parl_tf.agents import parl_agent
from parl_tf.critics import state_value
from parl_tf.improvers import imitation
from parl_tf.networks import ensemble
from parl_tf.search import action_source
from parl_tf.training import adam
from tests.agents import small_agent


def make_value(observation_spec=small_agent.OBSERVATION_SPEC, seed=0):
  """Returns a baseline of width 16."""
  return state_value.StateValue(
      types.ModelSpec(observation_spec, None, seed=seed),
      network_ctor=lambda *args, **kwargs: ensemble.CriticEnsemble(
          *args, hidden_sizes=(16,), **kwargs
      ),
  )


def make_agent(
    *,
    observation_spec=small_agent.OBSERVATION_SPEC,
    action_spec=small_agent.ACTION_SPEC,
    chunk_length=1,
    optimizer_ctor=adam.Adam,
    seed=0,
    **kwargs,
):
  """Returns an agent made of small parts.

  Args:
    observation_spec: Nest of `tf.TensorSpec`.
    action_spec: Spec of one action.
    chunk_length: Number of actions in a chunk.
    optimizer_ctor: Makes each of the three optimizers.
    seed: Integer seed of the weights and the draws.
    **kwargs: Arguments of `DPPOAgent`.
  """
  search = action_source.Search(
      num_samples=1, optimizer=None, jit_compile=False
  )
  return dppo_agent.DPPOAgent(
      types.ModelSpec(
          observation_spec, action_spec, seed=seed, chunk_length=chunk_length
      ),
      make_value(observation_spec, seed),
      small_agent.make_policy(
          observation_spec=observation_spec,
          action_spec=action_spec,
          seed=seed + 1,
          chunk_length=chunk_length,
      ),
      improver=None,
      pretrain_improver=imitation.ImitationImprover(),
      optimizers=parl_agent.Optimizers(
          optimizer_ctor(), optimizer_ctor(), optimizer_ctor()
      ),
      searches=parl_agent.Searches(search, search, search),
      train_step_counter=tf.Variable(0, dtype=tf.int64),
      **kwargs,
  )
