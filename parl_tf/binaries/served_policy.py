"""Policies to serve: exported ones, and served ones steered by a critic."""

import hashlib
import os
from typing import Any, Callable, List, Mapping, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from parl_tf import action_range as action_range_lib
from parl_tf import frame_stack
from parl_tf import input_names
from parl_tf import types
from parl_tf.binaries import evaluation_run
from parl_tf.serving import policy_spec
from parl_tf.serving import server
from parl_tf.training import parity_report

_SIGNATURE = 'serving_default'

Act = Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray]
"""Maps raw observations and an int32 `[2]` seed to raw actions `[B, H, A]`.

The observations are arrays `[B, ...]`, keyed by name.
"""


class PolicyToServe(NamedTuple):
  """What a server needs to know of a policy.

  Attributes:
    act: Chooses the actions.
    spec: What it takes and returns.
    version: Name of its weights; other weights have another name.
  """

  act: Act
  spec: policy_spec.PolicySpec
  version: str


def exported_policy(path: str) -> PolicyToServe:
  """Loads a SavedModel, and calls it once.

  Args:
    path: Directory of a SavedModel that a run or `parl-export` wrote.

  Raises:
    OSError: If there is no SavedModel.
    ValueError: If it lacks the signature `serving_default`, or that has no seed
      or no actions.
  """
  if not tf.saved_model.contains_saved_model(path):
    of_run = os.path.join(path, 'policies')
    hint = f' Those of this run are in {of_run}.' * os.path.isdir(of_run)
    raise FileNotFoundError(
        f'{path} must be the directory of a SavedModel, but is none.{hint}'
    )
  model = tf.saved_model.load(path)
  if _SIGNATURE not in model.signatures:
    raise ValueError(
        f'{path} must have the signature {_SIGNATURE!r}, got '
        f'{sorted(model.signatures)}.'
    )
  signature = model.signatures[_SIGNATURE]
  _, inputs = signature.structured_input_signature
  keys = parity_report.observation_keys(path)
  outputs = signature.structured_outputs
  for name, found, kind in (
      (input_names.SEED, inputs, 'input'), ('action', outputs, 'output')
  ):
    if name not in found:
      raise ValueError(
          f'{path}: the signature {_SIGNATURE!r} must have the {kind} {name!r},'
          f' got {sorted(found)}.'
      )
  chunk_length = outputs['chunk'].shape[1] if 'chunk' in outputs else 1
  spec = policy_spec.PolicySpec(
      {
          keys.get(name, name): policy_spec.ArraySpec(
              tuple(x.shape[1:]), x.dtype.name
          )
          for name, x in inputs.items()
          if name != input_names.SEED
      },
      action_size=outputs['action'].shape[-1],
      chunk_length=chunk_length,
  )

  names = {key: name for name, key in keys.items()}

  def act(observation, seed):
    # The reference to `model` keeps its variables alive.
    tensors = {names.get(x, x): tf.constant(y) for x, y in observation.items()}
    answer = model.signatures[_SIGNATURE](**tensors, seed=tf.constant(seed))
    if 'chunk' in answer:
      return answer['chunk'].numpy()
    return answer['action'].numpy()[:, np.newaxis]

  # The first call compiles, which takes seconds: not while a robot waits.
  act(
      {name: np.zeros((1, *x.shape), x.dtype) for name, x in
       spec.observation.items()},
      np.zeros(2, np.int32),
  )
  return PolicyToServe(act, spec, _digest(_files_below(path)))


def steered_policy(
    base: str,
    root_dir: str,
    gin_bindings: Sequence[str] = (),
    checkpoint_name: str = 'last',
) -> PolicyToServe:
  """Returns a served policy that is searched by a run's critic.

  Args:
    base: ws:// URL of the policy's server.
    root_dir: Directory of the run.
    gin_bindings: Gin bindings that override the configuration of the run.
    checkpoint_name: Which of the run's critics; see `restored_run.restore`.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If the directory contains no run or no such checkpoint, or the
      run has no critic or no search.
  """
  # Imported here: exported policies do not need TF-Agents.
  from parl_tf.binaries import restored_run

  directory = restored_run.checkpoint_directory(root_dir, checkpoint_name)
  scaled_act, domain = evaluation_run.searched_act(
      base,
      root_dir,
      gin_bindings=gin_bindings,
      checkpoint_name=checkpoint_name,
  )
  action_range = action_range_lib.ActionRange(domain.raw_action_bounds)
  low, high = action_range.bounds
  specs = domain.observation_spec()
  is_single = not isinstance(specs, Mapping)
  if is_single:
    specs = {policy_spec.SINGLE: specs}
  names = sorted(specs)
  num_frames = getattr(scaled_act, 'num_frames', 1)
  shapes = frame_stack.stacked_shapes(specs, num_frames)
  dtypes = [np.dtype(specs[name].dtype).name for name in names]
  observation = {
      name: policy_spec.ArraySpec(tuple(shape), dtype)
      for name, shape, dtype in zip(names, shapes, dtypes)
  }

  def act(observation: Mapping[str, Any], seed: np.ndarray) -> np.ndarray:
    nest: types.Nest = observation
    if is_single:
      nest = observation[policy_spec.SINGLE]
    raw = action_range.to_raw(scaled_act(nest, seed))
    return np.clip(raw, low, high)  # Rounding may exceed the bounds.

  zeros = {
      name: np.zeros((1, *x.shape), x.dtype) for name, x in observation.items()
  }
  chunk_length = act(zeros, np.zeros(2, np.int32)).shape[1]
  spec = policy_spec.PolicySpec(
      observation, len(low), chunk_length, action_low=low, action_high=high
  )
  version = _digest(
      [os.path.join(root_dir, 'config.gin')]
      + _files_below(directory),
      (getattr(scaled_act, 'version', ''), *gin_bindings),
  )
  return PolicyToServe(act, spec, version)


def make_policy(act: Act) -> server.Policy:
  """Returns a policy that draws N samples per state with `act`.

  Args:
    act: Must draw each row of a batch independently.
  """

  def sample(observation, num_samples, seed):
    size = policy_spec.num_states(observation)
    repeated = {
        name: np.repeat(x, num_samples, axis=0)
        for name, x in observation.items()
    }
    words = np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
    actions = act(repeated, words.view(np.int32))
    return actions.reshape(size, num_samples, *actions.shape[1:])

  return server.Policy(sample)


def _files_below(directory: str) -> List[str]:
  return sorted(
      os.path.join(folder, name)
      for folder, _, names in os.walk(directory)
      for name in names
  )


def _digest(paths: Sequence[str], texts: Sequence[str] = ()) -> str:
  """Returns the start of a digest of files, in their order, and of texts."""
  sha = hashlib.sha256(repr(list(texts)).encode())
  for path in paths:
    with open(path, 'rb') as file:
      for block in iter(lambda: file.read(2**20), b''):  # noqa: B023
        sha.update(block)
  return sha.hexdigest()[:12]
