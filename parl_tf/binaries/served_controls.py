"""The controls of a run whose policy another process serves.

The base is the version of the weights with which the run began.
"""

import contextlib
import os
import re
from typing import Callable, Iterator, Mapping, Optional, Tuple

from absl import logging

from parl_tf.policies import remote
from parl_tf.reports import run_files
from parl_tf.training import checkpoint
from parl_tf.training import evaluation
from parl_tf.training import served_acting

Evaluate = Callable[
    [evaluation.Evaluator, float], Optional[evaluation.EvaluationResult]
]
"""Evaluates a policy at a temperature; None if it has no such temperature."""

_SCOPES = ('', 'training/', 'acting/', 'evaluation/')
# One sample, which no critic changes.
_SEARCH = {
    'Search.num_samples': 1,
    'ActionOptimizer.num_candidates': 1,
    'ActionOptimizer.num_gradient_steps': 0,
}
# The critic has no effect, so it is one that needs no samples of the policy,
# and takes one step an epoch.
GIN_FILES = ('critics/iql.gin',)
GIN_BINDINGS: Tuple[str, ...] = (
    *(
        f'{scope}{name} = {value}'
        for scope in _SCOPES
        for name, value in _SEARCH.items()
    ),
    "run_experiment.phase_names = ('online',)",
    'run_experiment.initial_run = None',
    'ServedOnline.num_samples = 1',
    'ServedOnline.critic_utd = 1e-9',
    'ServedOnline.base_cache = None',
)


def is_served(settings: Mapping[str, str]) -> bool:
  """Returns whether the policy of a run is served.

  Args:
    settings: The run's gin bindings as text, by name.
  """
  constructor = settings.get('build_agent.policy_ctor', '')
  name = re.split(r'[@./]', run_files.resolve(constructor, settings))[-1]
  return name == remote.RemotePolicy.__name__


@contextlib.contextmanager
def base(run_dir: str, domain) -> Iterator[remote.RemotePolicy]:
  """Makes the server use the base, and afterwards the run's last version.

  Args:
    run_dir: The run's directory, whose configuration gin holds.
    domain: `Domain` of the run.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If the server cannot load a version that it does not have.
  """
  spec = served_acting.model_spec(domain, chunk_length=1)
  with remote.RemotePolicy(spec, workers=()) as policy:
    state = checkpoint.read_state(os.path.join(run_dir, 'checkpoints'))
    # Offline RL alone does not change a served policy.
    versions = state.policy_versions or [policy.current_version()]
    policy.restore(versions[0])
    try:
      yield policy
    finally:
      policy.restore(versions[-1])


@contextlib.contextmanager
def evaluations(run_dir: str, domain) -> Iterator[Evaluate]:
  """Yields a function that evaluates the base alone; see `base`."""
  with base(run_dir, domain) as policy:
    spec, address = policy.client.spec, policy.client.address
    has_temperature = spec is not None and spec.has_temperature

    def evaluate(evaluator, temperature):
      if temperature != 1.0 and not has_temperature:
        logging.info(
            'The policy at %s has no temperature of %g.', address, temperature
        )
        return None
      act = served_acting.act_alone(address, domain, temperature)
      return evaluator.run(act, num_frames=act.num_frames)

    yield evaluate
