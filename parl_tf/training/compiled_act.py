"""Compiles how a policy acts, for evaluation and export alike."""

from typing import Callable

import tensorflow as tf

from parl_tf import randomness


def compile_act(policy) -> Callable:
  """Returns `policy.act` compiled for a batch of any size.

  Live and exported policies are both compiled this way. For a batch of a known
  size TensorFlow rounds differently, and the last bit may decide which iterate
  of a flat ascent is the best.

  Args:
    policy: `PARLPolicy`, or one with its `time_step_spec` and `act`.
  """
  observation = tf.nest.map_structure(
      lambda spec: tf.TensorSpec([None, *spec.shape], spec.dtype, spec.name),
      policy.time_step_spec.observation,
  )
  return tf.function(
      policy.act,
      input_signature=(observation, randomness.SEED_SPEC),
      autograph=False,
  )
