"""Exports a policy that works in the environment's units."""

import functools
import itertools
import shutil
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from absl import logging
import gin
import numpy as np
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.policies import tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts

from parl_tf import action_range as action_range_lib
from parl_tf import input_names
from parl_tf import randomness
from parl_tf import synced_file
from parl_tf import types
from parl_tf.agents import acting_state
from parl_tf.agents import parl_policy
from parl_tf.training import export_source
from parl_tf.training import parity_report
from parl_tf.training import saved_model_check

_TOLERANCE = 1e-5
_PYTHON_OPS = ('EagerPyFunc', 'PyFunc', 'PyFuncStateless')


class ExportedPolicy(tf_policy.TFPolicy):
  """Acts in the environment's units, by the functions of TF-Agents."""

  def __init__(
      self,
      act: Callable[[types.Nest, tf.Tensor], tf.Tensor],
      time_step_spec: ts.TimeStep,
      raw_action_bounds: Tuple[np.ndarray, np.ndarray],
      *,
      chunk_length: int,
      variables: Sequence[tf.Variable],
      parts: Optional[tf.Module] = None,
  ):
    """Initializes the policy.

    Args:
      act: Draws raw chunks `[B, H, A]` for raw observations and a seed `[2]`.
        It should call a concrete function, since TensorFlow traces `act` for
        each function of the SavedModel.
      time_step_spec: Spec of raw observations.
      raw_action_bounds: `(low [A], high [A])` in the environment's units.
      chunk_length: H, the number of actions in a chunk.
      variables: All that `act` reads.
      parts: What else `act` needs, such as tables.
    """
    low, high = (np.asarray(x, np.float32) for x in raw_action_bounds)
    self._state = acting_state.ActingState(len(low), chunk_length)
    super().__init__(
        time_step_spec,
        tensor_spec.BoundedTensorSpec(
            low.shape, tf.float32, low, high, 'action'
        ),
        policy_state_spec=self._state.spec,
        clip=False,
        # A reset would discard the caller's seed at the start of an episode.
        automatic_state_reset=False,
        name='exported_policy',
    )
    self.act = act
    self.chunk_length = chunk_length
    self._policy_variables = variables
    self._parts = parts

  def _variables(self):
    return self._policy_variables

  def _get_initial_state(self, batch_size):
    return self._state.initial(
        batch_size, tf.zeros(randomness.SEED_SPEC.shape, tf.int32)
    )

  def _action(self, time_step, policy_state, seed=None):
    # The policy state holds the seed and the chunk of an episode.
    size = self.chunk_length * self.action_spec.shape[-1]
    action, state = self._state.step(
        lambda *inputs: tf.reshape(self.act(*inputs), [-1, size]),
        time_step,
        policy_state,
        seed,
    )
    return policy_step.PolicyStep(action, state, ())

  def _distribution(self, time_step, policy_state):
    # TensorFlow alone cannot load a SavedModel that contains a distribution.
    raise NotImplementedError(
        'An exported policy has no distribution; call `action`.'
    )


def in_raw_units(
    policy: parl_policy.PARLPolicy,
    raw_action_bounds: Tuple[np.ndarray, np.ndarray],
) -> ExportedPolicy:
  """Returns a policy that acts as `policy` does, in the environment's units.

  Args:
    policy: Acts in [-1, 1].
    raw_action_bounds: `(low [A], high [A])` in the environment's units.
  """
  # Needs a function and its variables instead of the policy, because Keras
  # would trace each tracked layer again to save it.
  policy = policy.deployed()
  # Of a policy with averaged weights, it reads only these; of a critic, not the
  # target networks.
  act = policy.compiled_act.get_concrete_function()
  read = {id(variable) for variable in act.variables}

  def is_read(variable):
    # A mirrored variable may be read by one of its copies.
    copies = getattr(variable, 'values', ())
    return any(id(x) in read for x in (variable, *copies))

  return ExportedPolicy(
      _raw_act(policy, raw_action_bounds),
      policy.time_step_spec,
      raw_action_bounds,
      chunk_length=policy.chunk_length,
      variables=list(filter(is_read, policy.variables())),
  )


def _raw_act(
    policy: parl_policy.PARLPolicy,
    raw_action_bounds: Tuple[np.ndarray, np.ndarray],
) -> Callable[[types.Nest, tf.Tensor], tf.Tensor]:
  """Returns a function that draws raw chunks `[B, H, A]` of the policy."""
  act = policy.compiled_act.get_concrete_function()
  action_range = action_range_lib.ActionRange(raw_action_bounds)
  shape = [-1, policy.chunk_length, policy.action_spec.shape[-1]]

  def raw_act(observation, seed):
    raw = action_range.to_raw(tf.reshape(act(observation, seed), shape))
    # Rounding may exceed the bounds.
    raw = tf.clip_by_value(raw, *action_range.bounds)
    # Otherwise a NaN would become an action at its bound.
    return tf.where(are_finite(observation), raw, np.nan)

  return raw_act


@gin.configurable(
    'exports',
    denylist=[
        'policies', 'raw_action_bounds', 'example', 'measure_latency', 'task',
        'sources',
    ],
)
def export_policies(
    policies: Mapping[str, parl_policy.PARLPolicy],
    raw_action_bounds: Tuple[np.ndarray, np.ndarray],
    example: types.Nest,
    *,
    in_new_process: bool = True,
    measure_latency: bool = False,
    task: Optional[str] = None,
    sources: Optional[Mapping[str, Mapping[str, Any]]] = None,
) -> Dict[str, float]:
  """Writes SavedModels and checks them against the live policies.

  They have TF-Agents' functions and signatures, and `serving_default(
  **flattened observation, seed int32 [2]) -> {'action' [B, A]}`. Policies that
  draw chunks also return `'chunk'` `[B, H, A]`, whose first action is
  `'action'`. Each has the report `parity.json`.

  Args:
    policies: Policies that act in [-1, 1], by the directory to write to. Each
      is written under a temporary name, and renamed after all have been
      checked.
    raw_action_bounds: `(low [A], high [A])` in the environment's units.
    example: Observations `[B, ...]` for the check.
    in_new_process: Whether a new process loads the SavedModels, without a GPU.
      If this process has a GPU, whose rounding differs, their actions are
      compared in this process, and must only be finite in the new one.
    measure_latency: Whether the report has the latency for 1 and 16 robots, as
      the new process measures it, in up to a few seconds per policy.
    task: Name of the domain, for the report.
    sources: Where each policy comes from, by directory, for the report.

  Returns:
    The largest difference from the actions of the policy that was exported, by
    directory. That policy is the live one, or a copy with merged adapters. The
    copy rounds differently, so that it may choose others of two tokens or
    candidates that are nearly tied; a warning tells how many actions differ
    from those of the live policy.

  Raises:
    ValueError: If a difference exceeds 1e-5, a SavedModel does not work in the
      new process, or a policy calls Python.
  """
  if not policies:
    return {}
  named = {name: np.asarray(x) for name, x in by_name(example).items()}
  seed = tf.constant(saved_model_check.SEED, tf.int32)
  exported, signatures, merged = [], [], {}
  with saved_model_check.Check(
      named, in_new_process=in_new_process, measure_latency=measure_latency
  ) as check:
    for directory, policy in policies.items():
      deployed = policy.deployed()
      if deployed is not policy:
        merged[directory] = policy
      exported.append(in_raw_units(deployed, raw_action_bounds))
      signatures.append(
          serving_signature(
              policy.time_step_spec.observation,
              functools.partial(_outputs, exported[-1]),
          )
      )
      _check_graph(directory, signatures[-1].graph)
      save(exported[-1], signatures[-1], _temporary(directory))
      check.add(_temporary(directory))
    # The live policies act while the new process compiles its own.
    actions = [policy.act(example, seed) for policy in exported]
    answers = check.answers()
  for directory, answer in zip(policies, answers):
    if not np.all(np.isfinite(answer.actions)):
      raise ValueError(
          f'The actions of the SavedModel {_temporary(directory)} must be'
          ' finite for the observations of the data, but some are not.'
      )
  compared = answers
  if in_new_process and tf.config.list_physical_devices('GPU'):
    with saved_model_check.Check(
        named, in_new_process=False, measure_latency=False
    ) as check:
      for directory in policies:
        check.add(_temporary(directory))
      compared = check.answers()
  differences = {}
  for directory, action, answer in zip(policies, actions, compared):
    difference = np.max(_differences(action, answer))
    if not difference <= _TOLERANCE:
      raise ValueError(
          f'The actions of the SavedModel {_temporary(directory)} must match '
          f'the live policy to within {_TOLERANCE}, but differ by {difference}.'
      )
    differences[directory] = float(difference)
    if directory in merged:
      live = _raw_act(merged[directory], raw_action_bounds)(example, seed)
      num_other = np.sum(_differences(live, answer) > _TOLERANCE)
      if num_other:
        logging.warning(
            '%s has merged adapters, and acts otherwise than the live policy in'
            ' %d of %d observations. Rounding explains a few of them.',
            directory,
            num_other,
            len(answer.actions),
        )
  for directory, signature, answer, policy in zip(
      policies, signatures, answers, exported
  ):
    parity_report.write(
        _temporary(directory),
        signature,
        next(iter(policies.values())).time_step_spec.observation,
        num_observations=len(answer.actions),
        largest_difference=differences[directory],
        latency_milliseconds=answer.latency_milliseconds,
        in_new_process=in_new_process,
        task=task,
        source={
            **(sources or {}).get(directory, {}),
            'weights': export_source.digest(policy.variables()),
        },
    )
    synced_file.replace_directory(_temporary(directory), directory)
  return differences


def save(exported: ExportedPolicy, signature, directory: str) -> None:
  """Writes a SavedModel with TF-Agents' functions and `serving_default`.

  Raises:
    OSError: If it cannot be written. Then nothing of it is left.
  """
  saver = policy_saver.PolicySaver(exported, batch_size=None)
  saver.signatures[saved_model_check.SIGNATURE] = signature
  shutil.rmtree(directory, ignore_errors=True)
  try:
    saver.save(directory)
  except tf.errors.OpError as error:
    shutil.rmtree(directory, ignore_errors=True)
    raise OSError(f'{directory}: {error.message}') from error


def serving_signature(
    observation_spec: types.Nest,
    serve: Callable[[types.Nest, tf.Tensor], Mapping[str, tf.Tensor]],
):
  """Returns the concrete function `serving_default`.

  Args:
    observation_spec: Nest of `tf.TensorSpec` of one observation.
    serve: Returns the outputs for observations `[B, ...]` and a seed `[2]`.
  """
  leaves = [
      tf.TensorSpec([None, *leaf.shape], leaf.dtype, name)
      for name, leaf in by_name(observation_spec).items()
  ]

  def serve_flat(*arguments):
    *flat, seed = arguments
    return serve(tf.nest.pack_sequence_as(observation_spec, flat), seed)

  return tf.function(serve_flat, autograph=False).get_concrete_function(
      *leaves, randomness.SEED_SPEC
  )


def are_finite(observation: types.Nest) -> tf.Tensor:
  """Returns `[B, 1, 1]`, whether all numbers of an observation are finite."""
  tensors = map(tf.convert_to_tensor, tf.nest.flatten(observation))
  leaves = [x for x in tensors if x.dtype.is_floating]
  if not leaves:
    return tf.constant(True)
  finite = [
      tf.reduce_all(tf.math.is_finite(tf.reshape(x, [tf.shape(x)[0], -1])), 1)
      for x in leaves
  ]
  return tf.reduce_all(finite, axis=0)[:, tf.newaxis, tf.newaxis]


def by_name(observation: types.Nest) -> Mapping[str, Any]:
  """Returns the leaves by name of the input; see `input_names`."""
  # Not `Mapping`, which TensorFlow's wrapped dictionaries are no instances of.
  if isinstance(observation, dict):
    names = input_names.of(observation)
    return {names[key]: observation[key] for key in sorted(observation)}
  return {input_names.SINGLE: observation}


def _check_graph(directory: str, graph: tf.Graph) -> None:
  """Raises `ValueError` if the graph calls Python."""
  graph = graph.as_graph_def()
  nodes = itertools.chain(
      graph.node, *(function.node_def for function in graph.library.function)
  )
  for node in nodes:
    if node.op in _PYTHON_OPS:
      raise ValueError(
          f'{directory} cannot be exported: the policy calls Python'
          f' (`tf.numpy_function` or `tf.py_function`, node {node.name!r}),'
          ' which no other process can load. Use TensorFlow operations, or'
          ' serve the policy (docs/your_policy.md) and bind'
          ' `run_experiment.exported_policies = ()`.'
      )


def _differences(actions: tf.Tensor, answer) -> np.ndarray:
  """Returns the largest difference `[B]` from an answer's `[B, H, A]`."""
  return np.max(np.abs(answer.actions - actions.numpy()), axis=(1, 2))


def _temporary(directory):
  return directory.rstrip('/') + '.partial'


def _outputs(exported, observation, seed):
  chunk = exported.act(observation, seed)
  outputs = {'action': chunk[:, 0]}
  if exported.chunk_length > 1:
    outputs['chunk'] = chunk
  return outputs
