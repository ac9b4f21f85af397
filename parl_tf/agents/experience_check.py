"""Checks the rows that a caller gives to an agent, when a graph is traced."""

from typing import Any

import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import types

_PARTS = ('critic', 'policy', 'cloning')
# Not `policy_info`: a loss asks for what it reads.
_FIELDS = (
    'step_type', 'observation', 'action', 'next_step_type', 'reward', 'discount'
)


def check(experience: Any, spec: types.Experience) -> None:
  """Checks type, structure, shapes and dtypes of the rows of a training step.

  Args:
    experience: What the caller passed.
    spec: The `training_data_spec` of the agent.

  Raises:
    TypeError: If it is no `types.Experience` of trajectories.
    ValueError: If a part has no rows, or a field has another structure, shape
      or dtype.
  """
  if not isinstance(experience, types.Experience):
    raise TypeError(
        '`experience` must be a `types.Experience`, for example'
        ' `types.Experience(critic=rows, policy=rows)`, got a'
        f' {type(experience).__name__}.'
    )
  for part in _PARTS:
    rows = getattr(experience, part)
    if not tf.nest.flatten(rows):
      continue
    if not isinstance(rows, trajectory.Trajectory):
      raise TypeError(
          f'`experience.{part}` must be a TF-Agents `Trajectory`, got a'
          f' {type(rows).__name__}.'
      )
    for field in _FIELDS:
      value = getattr(rows, field)
      # Of rows that are made by hand, no loss reads the step types.
      if field.endswith('step_type') and not tf.nest.flatten(value):
        continue
      _check_field(
          f'experience.{part}.{field}',
          value,
          getattr(getattr(spec, part), field),
      )


def _check_field(name, value, spec):
  """Checks the tensors `[B, 2, ...]` of one field."""
  try:
    tf.nest.assert_same_structure(spec, value)
  except (TypeError, ValueError) as error:
    raise ValueError(
        f'`{name}` must have the structure {_described(spec)}, got'
        f' {_described(value)}.'
    ) from error
  for leaf, wanted in zip(tf.nest.flatten(value), tf.nest.flatten(spec)):
    shape, dtype = tf.TensorShape(leaf.shape), tf.as_dtype(leaf.dtype)
    fits = tf.TensorShape([None, 2, *wanted.shape])
    # Encoders cast observations.
    is_cast = name.endswith('.observation') and dtype.is_floating
    if not is_cast and dtype != wanted.dtype or not fits.is_compatible_with(
        shape
    ):
      axes = ', '.join(['rows', '2', *map(str, wanted.shape)])
      raise ValueError(
          f'`{name}` must be {wanted.dtype.name} of shape [{axes}], got'
          f' {dtype.name} of shape {shape}.'
      )
    if shape.rank and shape[0] == 0:
      raise ValueError(f'`{name}` must have rows, got shape {shape}.')


def _described(nest):
  if isinstance(nest, dict):
    return sorted(nest)
  return type(nest).__name__ if isinstance(nest, tuple) else 'of one array'
