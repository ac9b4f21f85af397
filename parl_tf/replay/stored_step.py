"""The specs of one stored step, which are the same in every table."""

import tensorflow as tf
from tf_agents.trajectories import trajectory as trajectory_lib

from parl_tf import types


def signature(
    observation_spec: types.Nest, action_spec: types.Nest
) -> trajectory_lib.Trajectory:
  """Returns the specs of one stored step.

  Args:
    observation_spec: `tf.TensorSpec` or flat mapping of them, float32 or uint8.
    action_spec: `tf.TensorSpec` of shape `[A]`, float32.

  Returns:
    Trajectory of `tf.TensorSpec`, without leading axes.

  Raises:
    ValueError: If a dtype or the rank of the action is invalid.
  """
  if action_spec.dtype != tf.float32 or action_spec.shape.rank != 1:
    raise ValueError(
        f'`action_spec` must be float32 of shape [A], got {action_spec}.'
    )
  for spec in tf.nest.flatten(observation_spec):
    if spec.dtype not in (tf.float32, tf.uint8):
      raise ValueError(
          f'`observation_spec` must be float32 or uint8, got {spec}.'
      )

  def plain(spec):
    return tf.TensorSpec(spec.shape, spec.dtype)

  def scalar(dtype):
    return tf.TensorSpec([], dtype)

  return trajectory_lib.Trajectory(
      step_type=scalar(tf.int32),
      observation=tf.nest.map_structure(plain, observation_spec),
      action=plain(action_spec),
      policy_info={
          name: scalar(dtype)
          for name, dtype in types.POLICY_INFO_DTYPES.items()
      },
      next_step_type=scalar(tf.int32),
      reward=scalar(tf.float32),
      discount=scalar(tf.float32),
  )
