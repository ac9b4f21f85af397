"""Evaluation of an agent's live policies."""

from typing import Optional

import tensorflow as tf

from parl_tf.agents import parl_policy
from parl_tf.training import evaluation
from parl_tf.training import export


class AgentEvaluator:
  """Plays the same episodes with any of an agent's policies."""

  def __init__(self, domain, *, num_episodes: int, seed: int):
    """Makes no environment yet; see `evaluation.Evaluator`."""
    self._evaluator = evaluation.Evaluator(
        domain, num_episodes=num_episodes, seed=seed
    )
    self._acts = {}

  def run(self, policy: parl_policy.PARLPolicy) -> evaluation.EvaluationResult:
    """Plays all episodes with a policy, compiled as it is when exported."""
    if policy not in self._acts:
      self._acts[policy] = _act(policy)
    return self._evaluator.run(self._acts[policy])

  def run_controller(self) -> Optional[evaluation.EvaluationResult]:
    """Plays all episodes with the domain's own controller, None without one."""
    return self._evaluator.run_controller()


def _act(policy):
  act = export.compile_act(policy)
  shape = [-1, policy.chunk_length, policy.action_spec.shape[0]]
  return lambda observation, seed: act(
      tf.nest.map_structure(tf.constant, observation), tf.constant(seed)
  ).numpy().reshape(shape)
