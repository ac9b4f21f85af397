"""Exports policies of a run that is not training."""

import math
import os
from typing import Sequence

from absl import logging

from parl_tf.binaries import restored_run
from parl_tf.training import base_policy
from parl_tf.training import export
from parl_tf.training import export_source
from parl_tf.training import run_policies
from parl_tf.training import steering


def export_run(
    root_dir: str,
    output: str,
    name: str,
    checkpoint_name: str = 'last',
    *,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
) -> float:
  """Exports one policy from a checkpoint of a run.

  Args:
    root_dir: The run's directory.
    output: Directory of the SavedModel.
    name: 'policy', 'greedy_policy' or 'base_policy'.
    checkpoint_name: One of `CHECKPOINTS`: the last checkpoint, that at the end
      of a phase, or that of the best online evaluation.
    gin_files: See `restore`.
    gin_bindings: See `restore`.

  Returns:
    The largest difference between actions of the exported and live policies, in
    raw units.

  Raises:
    ValueError: If the directory contains no run or no such checkpoint, the
      policy is served by another process, a policy with search is wanted where
      no critic has been trained, or the difference exceeds the tolerance of
      `export_policies`.
  """
  searches = name != 'base_policy'
  logging.info('Restoring %s: checkpoint %s.', root_dir, checkpoint_name)
  if checkpoint_name == 'behavior_cloning':
    restored_run.check_checkpoint(root_dir, checkpoint_name, searches)
    # Without adapters or an actor of later.
    agent, domain = restored_run.make_agent(root_dir, gin_bindings, gin_files)
    restored_run.read_networks(
        root_dir, agent, checkpoint_name, with_critic=False
    )
  else:
    agent, domain = restored_run.restore(
        root_dir,
        gin_bindings,
        gin_files=gin_files,
        searches=searches,
        checkpoint_name=checkpoint_name,
    )
  if not agent.named_policies:
    raise ValueError(
        f'The policy of {root_dir} cannot be exported, because another process '
        'serves it; `parl-serve --base` searches it by the critic.'
    )
  source = export_source.describe(
      agent,
      root_dir,
      checkpoint_name,
      name,
      restored_run.train_step(root_dir, agent, checkpoint_name),
  )
  return _export(agent, domain, output, name, source)


def export_steered(
    root_dir: str,
    base: str,
    output: str,
    *,
    threshold: float,
    checkpoint_name: str = 'last',
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
) -> float:
  """Exports a frozen policy, steered by the critic of a run.

  The search is that of the run's evaluations.

  Args:
    root_dir: The run's directory.
    base: Directory of the policy's SavedModel.
    output: Directory of the new SavedModel.
    threshold: See `SteeredBase`.
    checkpoint_name: See `export_run`; it supplies the critic.
    gin_files: See `restore`.
    gin_bindings: See `restore`.

  Returns:
    The largest difference between actions of the exported and live policies, in
    raw units.

  Raises:
    ValueError: If the directory contains no run or no such checkpoint, the run
      has no critic or search, or the base does not fit the task.
  """
  agent, domain = restored_run.restore(
      root_dir,
      gin_bindings,
      gin_files=gin_files,
      searches=True,
      checkpoint_name=checkpoint_name,
  )
  if not run_policies.needs_critic(agent):
    raise ValueError(
        f'{root_dir} must be a run with a critic of actions, which steers the'
        f' base, but its {type(agent).__name__} has none.'
    )
  policy = steering.SteeredBase(
      base_policy.load(base, agent.time_step_spec.observation),
      agent.critic,
      agent.searches.evaluation,
      chunk_length=agent.chunk_length,
      raw_action_bounds=domain.raw_action_bounds,
      threshold=threshold,
  )
  return steering.export(
      policy,
      output,
      restored_run.starts(domain, agent.num_frames),
      agent.time_step_spec,
      task=domain.name,
      source={
          **export_source.describe(
              agent,
              root_dir,
              checkpoint_name,
              'policy',
              restored_run.train_step(root_dir, agent, checkpoint_name),
          ),
          'policy': None,
          'base': os.path.abspath(base),
          'threshold': None if threshold == math.inf else threshold,
      },
  )


def _export(agent, domain, output, name, source):
  example = restored_run.starts(domain, agent.num_frames)
  policies = {output: agent.named_policies[name]}
  logging.info('Exporting %s, then checking it in a new process.', name)
  differences = export.export_policies(
      policies,
      domain.raw_action_bounds,
      example,
      measure_latency=True,
      task=domain.name,
      sources={output: source},
  )
  return differences[output]
