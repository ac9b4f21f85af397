"""Random shifts of the images in losses."""

import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import randomness
from parl_tf.networks import image_networks
from parl_tf.networks import observation_encoder


def shift(
    transition: trajectory.Transition, seed: tf.Tensor, padding: int
) -> trajectory.Transition:
  """Shifts each image at random, by the same offsets in s and s'.

  Draws offsets for each row and camera. Does not change vectors.

  Args:
    transition: Transition of `[B, ...]`.
    seed: `[2]` int32.
    padding: Pixels added on each side, the maximum shift; 0 disables shifts.

  Returns:
    The transition with shifted images.
  """
  time_step, next_time_step = transition.time_step, transition.next_time_step
  leaves = tf.nest.flatten(time_step.observation)
  next_leaves = tf.nest.flatten(next_time_step.observation)
  for i, images in enumerate(leaves):
    if padding and observation_encoder.is_image(images, num_batch_axes=1):
      offsets = randomness.integers(
          randomness.fold_in(seed, 'shift', i),
          [tf.shape(images)[0], 2],
          2 * padding + 1,
      )
      for x in (leaves, next_leaves):
        x[i] = image_networks.random_shift(x[i], offsets, padding)

  def replace(step, leaves):
    observation = tf.nest.pack_sequence_as(step.observation, leaves)
    return step._replace(observation=observation)

  return transition._replace(
      time_step=replace(time_step, leaves),
      next_time_step=replace(next_time_step, next_leaves),
  )
