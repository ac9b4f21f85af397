"""Acts with the SavedModel of a policy.

It needs TensorFlow but neither TF-Agents nor Reverb: it only loads the model
and calls its signature `serving_default`.
"""

import os
from typing import Any, Mapping

from absl import logging
import numpy as np
import tensorflow as tf

from parl_tf import action_range
from parl_tf import frame_stack
from parl_tf import input_names
from parl_tf import types
from parl_tf.training import parity_report

_SIGNATURE = 'serving_default'
_ACTION_OUTPUT = 'action'
# Output of policies that predict several actions at once, `[B, H, A]`.
_CHUNK_OUTPUT = 'chunk'
# Rounding error of mapping actions in [-1, 1] to raw units and back.
_ROUNDING = 1e-5


class ExportedPolicy:
  """Adapts a SavedModel to `parl_tf.training.evaluation.Act`.

  Attributes:
    num_frames: Number of frames in each observation; see `frame_stack`.
  """

  def __init__(self, path: str, domain: Any):
    """Loads the SavedModel and checks its signature against the domain.

    Args:
      path: The directory of the SavedModel.
      domain: The `parl_tf.domains.domain.Domain` that the policy acts in.

    Raises:
      ValueError: If there is no SavedModel, or its signature does not match the
        domain's observation or action.
    """
    if not tf.saved_model.contains_saved_model(path):
      raise ValueError(
          f'`policy` must be the directory of a SavedModel, got {path!r}, which'
          + (
              f' holds {sorted(os.listdir(path))}.'
              if os.path.isdir(path)
              else ' is not a directory.'
          )
      )
    self._path = path
    # Keeps the variables of the signature alive.
    self._model = tf.saved_model.load(path)
    if _SIGNATURE not in self._model.signatures:
      raise ValueError(
          f'{path} must have the signature {_SIGNATURE!r}, got'
          f' {sorted(self._model.signatures)}.'
      )
    self._signature = self._model.signatures[_SIGNATURE]
    self._check_inputs(domain.observation_spec())
    self._check_output(domain.action_spec())
    task = parity_report.task(path)
    if task not in (None, domain.name):
      logging.warning(
          '%s was trained on the task %s, but acts on %s here.',
          path, task, domain.name,
      )
    self._range = action_range.ActionRange(
        domain.raw_action_bounds, np.float64
    )

  def __call__(self, observation: types.Nest, seed: np.ndarray) -> np.ndarray:
    """Returns actions `[B, A]`, or chunks `[B, H, A]`, scaled to [-1, 1].

    Only rounding errors are clipped: if the policy exceeds the raw bounds, so
    do the returned actions.

    Args:
      observation: Raw observations `[B, ...]`, or a flat dict of them.
      seed: `[2]` int32.
    """
    inputs = {k: tf.constant(v) for k, v in _by_input(observation).items()}
    raw = self._signature(**inputs, **{input_names.SEED: tf.constant(seed)})
    raw = raw.get(_CHUNK_OUTPUT, raw[_ACTION_OUTPUT]).numpy().astype(np.float64)
    action = self._range.from_raw(raw)
    inside = np.abs(action) <= 1.0 + _ROUNDING
    return np.where(inside, np.clip(action, -1.0, 1.0), action).astype(
        np.float32
    )

  def _check_inputs(self, observation_spec):
    _, seen = self._signature.structured_input_signature
    inputs = _by_input(observation_spec)
    shared = [
        name
        for name in inputs
        if name in seen and seen[name].shape.rank is not None
    ]
    self.num_frames = frame_stack.count(
        # Without the axis of the batch.
        {
            name: tf.TensorSpec(seen[name].shape[1:], seen[name].dtype)
            for name in shared
        },
        {name: inputs[name] for name in shared},
    )
    if self.num_frames > 1:
      logging.info(
          '%s sees the last %d observations.', self._path, self.num_frames
      )
    names = sorted(inputs)
    shapes = frame_stack.stacked_shapes(inputs, self.num_frames)
    wanted = {
        name: tf.TensorSpec([None, *shape], inputs[name].dtype)
        for name, shape in zip(names, shapes)
    }
    wanted[input_names.SEED] = tf.TensorSpec([2], tf.int32)
    if sorted(seen) != sorted(wanted):
      raise ValueError(
          f'{self._path}: signature {_SIGNATURE!r} must have the inputs'
          f' {sorted(wanted)} of the domain, got {sorted(seen)}.'
      )
    for name, spec in wanted.items():
      if not seen[name].shape.is_compatible_with(spec.shape) or (
          seen[name].dtype != spec.dtype
      ):
        raise ValueError(
            f'{self._path}: input {name!r} of signature {_SIGNATURE!r} must'
            f' have shape {spec.shape} and dtype {spec.dtype.name} as in the'
            f' domain, got {seen[name].shape} and {seen[name].dtype.name}.'
        )

  def _check_output(self, action_spec):
    wanted = tf.TensorShape([None, *action_spec.shape])
    outputs = self._signature.structured_outputs
    if _ACTION_OUTPUT not in outputs:
      raise ValueError(
          f'{self._path}: signature {_SIGNATURE!r} must have the output'
          f' {_ACTION_OUTPUT!r}, got {sorted(outputs)}.'
      )
    shape = outputs[_ACTION_OUTPUT].shape
    if not shape.is_compatible_with(wanted):
      raise ValueError(
          f'{self._path}: output {_ACTION_OUTPUT!r} of signature'
          f' {_SIGNATURE!r} must have shape {wanted} as in the domain, got'
          f' {shape}.'
      )


def _by_input(nest: types.Nest) -> Mapping[str, Any]:
  """Returns the observation leaves, keyed by signature input name."""
  if not isinstance(nest, Mapping):
    return {input_names.SINGLE: nest}
  return {name: nest[key] for key, name in input_names.of(nest).items()}
