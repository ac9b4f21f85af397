"""The controls of a run whose policy another process serves.

The base is the version of the weights with which the run began.
"""

import ast
import contextlib
import os
import re
from typing import Callable, Iterator, List, Mapping, Optional, Tuple

from absl import logging
import gin

from parl_tf import interruption
from parl_tf.critics import iql  # noqa: F401  # `GIN_BINDINGS` name it,
from parl_tf.policies import remote
from parl_tf.reports import run_files
from parl_tf.search import action_optimizer  # noqa: F401  # and this one.
from parl_tf.serving import client as client_lib
from parl_tf.training import builder
from parl_tf.training import checkpoint
from parl_tf.training import evaluation
from parl_tf.training import evaluation_result
from parl_tf.training import run_directory
from parl_tf.training import served_acting

Evaluate = Callable[
    [evaluation.Evaluator, float], Optional[evaluation_result.EvaluationResult]
]
"""Evaluates a policy at a temperature; None if it has no such temperature."""

_SCOPES = ('', 'training/', 'acting/', 'evaluation/')
# One sample, which no critic changes.
_SEARCH = {
    'Search.num_samples': '1',
    'Search.optimizer': '@ActionOptimizer()',
    'ActionOptimizer.num_candidates': '1',
    'ActionOptimizer.num_gradient_steps': '0',
    'ActionOptimizer.dataset_action': 'None',
}
GIN_BINDINGS: Tuple[str, ...] = (
    *(
        f'{scope}{name} = {value}'
        for scope in _SCOPES
        for name, value in _SEARCH.items()
    ),
    # Without effect: one that needs no samples of the policy, and a step an
    # epoch.
    'build_agent.critic_ctor = @IQLCritic',
    'IQLCritic.expectile = 0.7',
    'IQLCritic.tau = 0.002',
    'ServedOnline.critic_utd = 1e-9',
    "run_experiment.phase_names = ('online',)",
    'run_experiment.initial_run = None',
    'run_experiment.initial_phase = None',
    'ServedOnline.num_samples = 1',
    'ServedOnline.base_cache = None',
    'Offline.action_cache = None',
    # Their weights would have to be restored, too.
    'RemotePolicy.workers = ()',
)
_CHECK_SECONDS = 10.0


def is_served(settings: Mapping[str, str]) -> bool:
  """Returns whether the policy of a run is served.

  Args:
    settings: The run's gin bindings as text, by name.
  """
  constructor = settings.get('build_agent.policy_ctor', '')
  name = re.split(r'[@./]', run_files.resolve(constructor, settings))[-1]
  return name == remote.RemotePolicy.__name__


def check(run_dir: str) -> None:
  """Checks that the server of a run's policy has the base.

  Args:
    run_dir: The run's directory.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If the run has no checkpoint, or the server has not saved the
      base.
  """
  _, settings = run_files.read_config(run_dir)
  versions = _versions(run_dir)
  if not versions:
    return
  address = ast.literal_eval(
      run_files.resolve(settings['RemotePolicy.address'], settings)
  )
  with client_lib.PolicyClient(
      address,
      api_key=os.environ.get(remote.KEY_VARIABLE),
      patience_seconds=_CHECK_SECONDS,
  ) as client:
    saved = client.status()['saved']
  if versions[0] not in saved:
    raise ValueError(
        f'{run_dir}: the policy server at {address} must have saved version'
        f' {versions[0]!r}, with which the run began, got {saved}.'
    )


@contextlib.contextmanager
def base(run_dir: str, domain) -> Iterator[remote.RemotePolicy]:
  """Makes the server use the base, and afterwards the run's last version.

  Also after Ctrl-C or SIGTERM, for which it takes its time. The message of a
  second interruption names that version.

  Args:
    run_dir: The run's directory, whose configuration gin holds.
    domain: `Domain` of the run.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If the run is being trained, or the server cannot load a version
      that it does not have.
  """
  spec = served_acting.model_spec(domain, chunk_length=1)
  with (
      run_directory.hold(run_dir),
      remote.RemotePolicy(spec, workers=()) as policy,
      # Otherwise Ctrl-C or SIGTERM would leave the weights of a control.
      interruption.taking_time(),
  ):
    # Offline RL alone does not change a served policy.
    versions = _versions(run_dir) or [policy.current_version()]
    address = policy.client.address
    try:
      policy.restore(versions[0])
    except KeyboardInterrupt:  # The server may have loaded it.
      _load_again(policy, address, versions[-1])
      raise
    try:
      yield policy
    finally:
      _load_again(policy, address, versions[-1])


def _load_again(
    policy: remote.RemotePolicy, address: str, version: str
) -> None:
  """Makes the server use the run's version again, or tells how to."""
  by_hand = (
      f'The policy server at {address} may have the weights of a control. The'
      f" run's own version is {version!r}; to load it, call"
      f' `parl_tf.serving.client.PolicyClient({address!r}).load({version!r})`.'
  )
  # A server that is training loads it afterwards.
  logging.info(
      'The policy server at %s loads version %s of the run again.',
      address,
      version,
  )
  try:
    policy.restore(version)
  except KeyboardInterrupt as error:
    raise KeyboardInterrupt(by_hand) from error
  except (OSError, RuntimeError, ValueError):
    logging.error('%s', by_hand)
    raise
  logging.info(
      'The policy server at %s has version %s of the run again.',
      address,
      version,
  )


@contextlib.contextmanager
def evaluations(run_dir: str, domain) -> Iterator[Evaluate]:
  """Yields a function that evaluates the base alone; see `base`."""
  bound = gin.get_bindings(builder.build_agent)
  with base(run_dir, domain) as policy:
    spec, address = policy.client.spec, policy.client.address
    has_temperature = spec is not None and spec.has_temperature

    def evaluate(evaluator, temperature):
      if temperature != 1.0 and not has_temperature:
        logging.info(
            'The policy at %s has no temperature of %g.', address, temperature
        )
        return None
      # The run replans as often.
      act = served_acting.act_alone(
          address, domain, temperature, bound.get('chunk_length', 1)
      )
      return evaluator.run(act, num_frames=act.num_frames)

    yield evaluate


def _versions(run_dir: str) -> List[str]:
  """Returns the versions of a run's weights; none without an online phase."""
  return checkpoint.read_state(
      os.path.join(run_dir, 'checkpoints')
  ).policy_versions
