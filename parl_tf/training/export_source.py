"""Where an exported policy comes from, for `parity.json`."""

import hashlib
import os
from typing import Any, Dict, Iterable, Optional

import tensorflow as tf


def describe(
    agent: Any,
    root_dir: str,
    checkpoint: str,
    policy: str,
    train_step: Optional[int] = None,
) -> Dict[str, Any]:
  """Returns what tells an export from others.

  Args:
    agent: The agent that was exported.
    root_dir: The run's directory.
    checkpoint: 'last', 'best', or the phase at whose end it was.
    policy: Name of the policy.
    train_step: Training steps before; None takes those of the agent.
  """
  if train_step is None:
    train_step = int(agent.train_step_counter.numpy())
  return {
      'run': os.path.abspath(root_dir),
      'checkpoint': checkpoint,
      'train_step': train_step,
      'policy': policy,
      'search': None if policy == 'base_policy' else search(agent),
  }


def search(agent: Any) -> Optional[Dict[str, Any]]:
  """Returns the settings of an agent's search in evaluation, if it has one."""
  searches = getattr(agent, 'searches', None)  # `DPPOAgent` has none.
  if searches is None or searches.evaluation.optimizer is None:
    return None
  found, optimizer = searches.evaluation, searches.evaluation.optimizer
  return {
      'num_samples': found.num_samples,
      'temperature': found.temperature,
      'optimizer': type(optimizer).__name__,
      'num_candidates': getattr(optimizer, 'num_candidates', None),
      'num_gradient_steps': getattr(optimizer, 'num_gradient_steps', None),
  }


def digest(variables: Iterable[tf.Variable]) -> str:
  """Returns a digest of weights: equal weights have equal ones."""
  sha = hashlib.sha256()
  for variable in variables:
    sha.update(f'{variable.dtype.name} {variable.shape}'.encode())
    sha.update(variable.numpy().tobytes())
  return sha.hexdigest()[:12]
