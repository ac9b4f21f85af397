"""Compiles the `act` method of a policy, for evaluation and for export."""

from typing import Callable

import tensorflow as tf

from parl_tf import randomness


def compile_act(policy) -> Callable:
  """Returns `policy.act` compiled for a batch of any size.

  A served policy compiles only its search, and is returned as it is.

  Live and exported policies are both compiled this way. TensorFlow rounds
  differently if the batch size is static. Where the critic is flat, the last
  bit may then decide which iterate of the gradient ascent is the best.

  Args:
    policy: `PARLPolicy`, or a policy with its `time_step_spec` and `act`.
  """
  if policy.is_served:
    return policy.act
  observation = tf.nest.map_structure(
      lambda spec: tf.TensorSpec([None, *spec.shape], spec.dtype, spec.name),
      policy.time_step_spec.observation,
  )
  return tf.function(
      policy.act,
      input_signature=(observation, randomness.SEED_SPEC),
      autograph=False,
  )
