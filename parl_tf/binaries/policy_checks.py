"""The checks of a policy's server by `parl-doctor --policy`.

They find, before an episode is played, what a run would find after many.
"""

import contextlib
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import gin
import numpy as np
import tensorflow as tf

from parl_tf.binaries import doctor_checks
from parl_tf.binaries import evaluation_run
from parl_tf.binaries import policy_data_check
from parl_tf.binaries import restored_run
from parl_tf.domains import domain as domain_lib
from parl_tf.policies import remote
from parl_tf.training import run_dataset
from parl_tf.training import served_acting

_NUM_STATES = 3  # Other than N and T, so that swapped axes are found.
_SEED = np.array([1, 2], np.int32)
# Reloaded weights should draw equal samples; a GPU may round differently.
_MAX_DIFFERENCE = 0.02
_ERRORS = (OSError, RuntimeError, ValueError)
_SAVING = 'pass `save`, `load` and `directory` to `serve`.'


def examine(
    address: str,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str] = (),
    dataset: Optional[str] = None,
) -> List[doctor_checks.Finding]:
  """Checks a served policy on the task of a gin configuration.

  If the server saves versions of its weights, it trains for one step and then
  loads the weights of before. It must not be training for a run meanwhile.

  Args:
    address: ws:// URL of the policy's server.
    gin_files: Gin files, merged in order.
    gin_bindings: Gin bindings, applied after the files.
    dataset: Dataset whose actions are compared with the policy's; None compares
      none.

  Raises:
    ValueError: If the dataset does not exist, is invalid or does not fit the
      task.
  """
  evaluation_run.configure_with_policy(gin_files, gin_bindings)
  domain = domain_lib.select_domain()
  chosen = gin.get_bindings('build_agent')
  num_frames = chosen.get('num_frames', 1)
  policy = remote.RemotePolicy(
      served_acting.model_spec(
          domain, chosen.get('chunk_length', 1), num_frames
      ),
      address=address,
      workers=(),
      patience_seconds=5.0,
  )
  episodes = run_dataset.load(dataset, domain) if dataset else []
  observation = restored_run.starts(domain, num_frames, _NUM_STATES)
  num_samples = gin.get_bindings('Search').get('num_samples', 8)
  found: List[doctor_checks.Finding] = []
  checks: Dict[str, Callable[[], doctor_checks.Finding]] = {
      'policy': lambda: _connection(policy, chosen.get('chunk_length', 1)),
      'samples': lambda: _samples(policy, observation, num_samples),
      'data': lambda: policy_data_check.examine(
          policy, episodes, num_samples, num_frames
      ),
      'seeds': lambda: _seeds(policy, observation),
      'training': lambda: _training(policy, observation),
  }
  if not episodes:
    del checks['data']
  with policy:
    for name, check in checks.items():
      try:
        found.append(check())
      except _ERRORS as error:
        fix = 'see docs/your_policy.md, "Faults".'
        if isinstance(error, PermissionError):
          fix = f'put its key into the variable {remote.KEY_VARIABLE}.'
        found.append(_problem(name, str(error), fix))
        break  # The other checks need this one.
  return found


def _connection(policy, num_actions: int) -> doctor_checks.Finding:
  spec = policy.client.spec
  if spec is None:
    return doctor_checks.Finding(
        'policy',
        doctor_checks.NOTE,
        'speaks plain openpi: it can be sampled and searched, not trained',
    )
  text = (
      f'version {policy.current_version()}, chunks of {spec.chunk_length}'
      f' actions of size {spec.action_size}'
  )
  if spec.chunk_length > num_actions:
    return doctor_checks.Finding(
        'policy',
        doctor_checks.NOTE,
        f'{text}, of which a run plays and trains the first {num_actions}',
        'bind `build_agent.chunk_length` to play more.',
    )
  return doctor_checks.Finding('policy', doctor_checks.OK, text)


def _samples(policy, observation, num_samples) -> doctor_checks.Finding:
  actions = policy.sample(observation, num_samples, _SEED).numpy()
  one = tf.nest.map_structure(lambda x: x[:1], observation)
  policy.sample(one, num_samples, _SEED)  # May compile.
  with _timed() as seconds:
    policy.sample(one, num_samples, _SEED)
  text = f'{num_samples} at one state in {1000 * seconds[0]:.1f} ms'
  spec = policy.client.spec
  is_one = np.all(np.ptp(actions, axis=1) == 0.0)
  if num_samples > 1 and is_one and (spec is None or spec.stochastic):
    return doctor_checks.Finding(
        'samples',
        doctor_checks.NOTE,
        f'{text}, all of a state are equal: there is nothing to rank',
        'bind `RemotePolicy.noise_scale`, or let `sample` draw N times.',
    )
  if policy.is_far_outside:
    return doctor_checks.Finding(
        'samples',
        doctor_checks.NOTE,
        f"{text}, many of them far outside of the task's bounds",
        'check the unit of the actions.',
    )
  return doctor_checks.Finding('samples', doctor_checks.OK, text)


def _seeds(policy, observation) -> doctor_checks.Finding:
  spec = policy.client.spec
  if spec is None or not spec.seedable:
    return doctor_checks.Finding(
        'seeds',
        doctor_checks.NOTE,
        'are not promised: runs with this policy cannot be repeated',
    )
  policy.check_seeds(observation)
  return doctor_checks.Finding(
      'seeds', doctor_checks.OK, 'equal ones give equal samples'
  )


def _training(policy, observation) -> doctor_checks.Finding:
  client = policy.client
  if not client.can_train:
    return doctor_checks.Finding(
        'training',
        doctor_checks.NOTE,
        'the server has no `train`: a critic can be learned and can search,'
        ' but the policy stays as it is',
    )
  if not client.can_save:
    return doctor_checks.Finding(
        'training',
        doctor_checks.NOTE,
        'was not tried, because the server cannot restore its weights',
        _SAVING,
    )
  before = policy.sample(observation, 1, _SEED)
  policy.version = version = policy.current_version()
  client.save(version)
  try:
    with _timed() as seconds:
      policy.fit(
          observation, before[:, 0].numpy(), num_steps=1, seed=0, saves=False
      )
  finally:  # A step that failed may have changed the weights, too.
    policy.restore(version)
  after = policy.sample(observation, 1, _SEED)
  difference = float(np.max(np.abs(after - before)))
  is_seeded = client.spec.seedable or not client.spec.stochastic
  if is_seeded and difference > _MAX_DIFFERENCE:
    return _problem(
        'training',
        f'after one step, {version} was loaded, but its samples differ by up to'
        f' {difference:.2g} in units of [-1, 1] from those of before',
        'let `save` write all that `load` needs, and `load` restore it.',
    )
  return doctor_checks.Finding(
      'training',
      doctor_checks.OK,
      f'one step took {seconds[0]:.2f} s; loading {version} restored the'
      ' samples',
  )


@contextlib.contextmanager
def _timed() -> Iterator[List[float]]:
  """Yields a list that has the seconds of the context at its end."""
  seconds: List[float] = []
  start = time.monotonic()
  yield seconds
  seconds.append(time.monotonic() - start)


def _problem(name: str, found: Any, fix: str) -> doctor_checks.Finding:
  return doctor_checks.Finding(name, doctor_checks.PROBLEM, found, fix)
