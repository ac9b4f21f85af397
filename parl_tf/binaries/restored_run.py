"""Restores the agent of a run from one of its checkpoints."""

import contextlib
import os
from typing import Sequence, Tuple

from absl import logging
import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import synced_file
from parl_tf import types
from parl_tf.agents import parl_agent
from parl_tf.binaries import configs
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import action_cache
from parl_tf.training import best_policies
from parl_tf.training import builder
from parl_tf.training import cached_samples
from parl_tf.training import checkpoint
from parl_tf.training import phase_checkpoint
from parl_tf.training import run_directory
from parl_tf.training import run_policies
from parl_tf.training import run_summary
from parl_tf.training import task_units

CHECKPOINTS = ('last', 'behavior_cloning', 'offline', 'best')
"""The checkpoints that can be exported."""


def restore_agent(
    root_dir: str,
    gin_bindings: Sequence[str] = (),
    *,
    searches: bool = False,
) -> parl_agent.PARLAgent:
  """Rebuilds a run's agent; see `restore`."""
  return restore(root_dir, gin_bindings, searches=searches)[0]


def restore(
    root_dir: str,
    gin_bindings: Sequence[str] = (),
    *,
    gin_files: Sequence[str] = (),
    searches: bool = False,
    checkpoint_name: str = 'last',
) -> Tuple[parl_agent.PARLAgent, domain_lib.Domain]:
  """Rebuilds a run's agent from its configuration and a checkpoint.

  The policy of another process keeps the weights that its server has.

  Args:
    root_dir: The run's directory.
    gin_bindings: Gin bindings that override the configuration of the run.
    gin_files: Gin files that override it, before the bindings.
    searches: Whether the critic is needed, so that it must have been trained.
    checkpoint_name: One of `CHECKPOINTS`, other than 'behavior_cloning'.

  Returns:
    The agent and its domain, of which a process can have only one if it is a
    robot. Afterwards, gin holds the configuration of the run.

  Raises:
    ValueError: If the directory contains no run or no such checkpoint, or the
      needed critic has not been trained.
  """
  check_checkpoint(root_dir, checkpoint_name, searches)
  agent, domain = make_agent(root_dir, gin_bindings, gin_files)
  directory = checkpoint_directory(root_dir, 'last')
  state = checkpoint.RunState()
  if not checkpoint.Checkpoint(directory, agent, state).restore():
    raise ValueError(f'{directory} must hold a checkpoint, but has none.')
  if (
      searches
      and run_policies.needs_critic(agent)
      and state.phase == 'behavior_cloning'
  ):
    raise ValueError(
        f'The critic of {root_dir} has not been trained: the run has not gone'
        " beyond behavior cloning. The policy 'base_policy' needs none."
    )
  read_networks(root_dir, agent, checkpoint_name, with_critic=searches)
  return agent, domain


def checkpoint_directory(root_dir: str, checkpoint_name: str) -> str:
  """Returns the directory of one of `CHECKPOINTS`.

  Args:
    root_dir: The run's directory.
    checkpoint_name: One of `CHECKPOINTS`.
  """
  if checkpoint_name == 'last':
    return os.path.join(root_dir, 'checkpoints')
  if checkpoint_name == 'best':
    return best_policies.directory(root_dir)
  return phase_checkpoint.path(root_dir, checkpoint_name)


def known_versions(
    root_dir: str, agent: parl_agent.PARLAgent
) -> Sequence[str]:
  """Returns the versions of a served policy that a run had, oldest first.

  Args:
    root_dir: The run's directory.
    agent: The run's agent.
  """
  policy = agent.generative_policy
  if policy is None or not policy.is_served:
    return []
  state = checkpoint.read_state(checkpoint_directory(root_dir, 'last'))
  if state.policy_versions:
    return state.policy_versions
  path = os.path.join(root_dir, cached_samples.DIRECTORY)
  if not action_cache.exists(path):
    return []
  return [action_cache.ActionCache(path).header.version]  # Offline RL alone.


def warn_of_other_version(
    root_dir: str,
    agent: parl_agent.PARLAgent,
    address: str,
    found: str,
    checkpoint_name: str = 'last',
) -> None:
  """Warns if a served policy has not the version of a checkpoint.

  Args:
    root_dir: The run's directory.
    agent: The run's agent.
    address: Address of the server.
    found: The version that it has.
    checkpoint_name: One of `CHECKPOINTS`, other than 'behavior_cloning'.
  """
  versions = [*known_versions(root_dir, agent)] or ['']
  wanted = versions[0 if checkpoint_name == 'offline' else -1]
  if checkpoint_name == 'best':
    wanted = _best(root_dir, agent).policy_version
  if wanted not in ('', found):
    logging.warning(
        'The server at %s has version %s of the weights, but the %s one of %s'
        ' is %s, for whose samples its critic was trained.',
        address,
        found,
        checkpoint_name,
        root_dir,
        wanted,
    )


def restore_at(
    root_dir: str, checkpoint_name: str, gin_bindings: Sequence[str] = ()
) -> Tuple[parl_agent.PARLAgent, domain_lib.Domain, int]:
  """Rebuilds a run's agent, critic included, as it was at a checkpoint.

  Warns if a policy that another process serves has other weights.

  Args:
    root_dir: The run's directory.
    checkpoint_name: One of `CHECKPOINTS`, other than 'behavior_cloning'.
    gin_bindings: Gin bindings that override the configuration of the run.

  Returns:
    The agent, its domain, and the training step of the checkpoint.

  Raises:
    ValueError: If the directory contains no run or no such checkpoint, or the
      critic has not been trained.
  """
  agent, domain = restore(
      root_dir, gin_bindings, searches=True, checkpoint_name=checkpoint_name
  )
  policy = agent.generative_policy
  if policy is not None and policy.is_served:
    warn_of_other_version(
        root_dir,
        agent,
        policy.client.address,
        policy.current_version(),
        checkpoint_name,
    )
  return agent, domain, train_step(root_dir, agent, checkpoint_name)


def train_step(
    root_dir: str, agent: parl_agent.PARLAgent, checkpoint_name: str
) -> int:
  """Returns the training steps before one of `CHECKPOINTS`.

  Args:
    root_dir: The run's directory.
    agent: The run's agent, restored.
    checkpoint_name: One of `CHECKPOINTS`.
  """
  if checkpoint_name == 'last':
    return int(agent.train_step_counter.numpy())
  if checkpoint_name != 'best':
    return phase_checkpoint.PhaseCheckpoint(
        root_dir, checkpoint_name
    ).train_step
  return _best(root_dir, agent).train_step


def _best(root_dir, agent) -> run_summary.BestEvaluation:
  best = best_policies.BestPolicies(root_dir, agent).best
  if best is None:
    raise ValueError(
        f'{best_policies.directory(root_dir)} must describe its evaluation in'
        ' best.json, but does not.'
    )
  return best


def make_agent(
    root_dir: str,
    gin_bindings: Sequence[str] = (),
    gin_files: Sequence[str] = (),
) -> Tuple[parl_agent.PARLAgent, domain_lib.Domain]:
  """Returns the untrained agent of a run's configuration, and its domain.

  Args:
    root_dir: The run's directory.
    gin_bindings: See `restore`.
    gin_files: See `restore`.

  Raises:
    ValueError: If the task now has other units of actions.
  """
  configs.add_search_path()
  configs.parse(
      [os.path.abspath(run_directory.config_path(root_dir)), *gin_files],
      gin_bindings,
  )
  # No normalization is passed: the checkpoint has the observation statistics.
  domain = domain_lib.select_domain()
  task_units.check(root_dir, domain)
  agent = builder.build_agent(
      domain,
      None,
      run_directory.read_seed(root_dir),
      tf.Variable(0, dtype=tf.int64, trainable=False),
  )
  return agent, domain


def check_checkpoint(
    root_dir: str, checkpoint_name: str, searches: bool
) -> None:
  """Raises `ValueError` if a checkpoint is missing or has no needed critic.

  Args:
    root_dir: The run's directory.
    checkpoint_name: One of `CHECKPOINTS`.
    searches: Whether the critic is needed.
  """
  if checkpoint_name == 'last':
    return
  directory = checkpoint_directory(root_dir, checkpoint_name)
  synced_file.restore_directory(directory)
  if not os.path.isdir(directory):
    raise ValueError(f'{directory} must hold a checkpoint, but does not exist.')
  if checkpoint_name == 'behavior_cloning' and searches:
    raise ValueError(
        'After behavior cloning there is no trained critic, so that only the '
        "policy 'base_policy' can be exported."
    )


def read_networks(
    root_dir: str,
    agent: parl_agent.PARLAgent,
    checkpoint_name: str,
    *,
    with_critic: bool,
) -> None:
  """Gives the agent the networks of a checkpoint; the last one's are restored.

  Args:
    root_dir: The run's directory.
    agent: The run's agent.
    checkpoint_name: One of `CHECKPOINTS`.
    with_critic: Whether to read the critic, too.
  """
  if checkpoint_name == 'best':
    best_policies.BestPolicies(root_dir, agent).read()
  elif checkpoint_name != 'last':
    saved = phase_checkpoint.PhaseCheckpoint(root_dir, checkpoint_name)
    saved.read_networks(agent, with_critic=with_critic)


def starts(
    domain: domain_lib.Domain, num_frames: int, size: int = 16
) -> types.Nest:
  """Returns raw observations `[size, ...]`: starts, or zeros for a robot."""
  if domain.max_environments is not None:  # A reset would move it.
    return tf.nest.map_structure(
        lambda spec: tf.zeros([size, *spec.shape], spec.dtype),
        builder.stacked_spec(builder.observation_spec(domain), num_frames),
    )
  with contextlib.closing(
      domain.make_environment(0, evaluation=True)
  ) as environment:
    stacked = frame_stack.StackedFrames(environment, num_frames)
    rows = [stacked.reset().observation for _ in range(size)]
  # `tf.stack` turns NumPy's uint8 into int32.
  return tf.nest.map_structure(lambda *x: tf.constant(np.stack(x)), *rows)
