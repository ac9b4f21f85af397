"""Observations with two small images, and an agent that encodes them.

The sizes are small enough to trace and train in less than a second.
"""

import gin
import numpy as np
import tensorflow as tf

from tests.agents import small_agent

OBSERVATION_SPEC = {
    'gripper': tf.TensorSpec([12, 12, 1], tf.uint8, 'gripper'),
    'robot': tf.TensorSpec([3], tf.float32, 'robot'),
    'static': tf.TensorSpec([16, 16, 3], tf.uint8, 'static'),
}
NUM_CAMERAS = 2
NUM_CONVOLUTIONS = 3
"""Convolutions per camera: the first one and a block of two."""


def bind_encoder(test_case) -> None:
  """Binds the encoder's sizes for the duration of a test."""
  test_case.addCleanup(gin.clear_config)
  for name, value in dict(
      stage_widths=(4,), blocks_per_stage=1, feature_size=5
  ).items():
    gin.bind_parameter(f'ImageEncoder.{name}', value)


class PartlyFrozenEncoder(tf.keras.layers.Layer):
  """A frozen layer, as of a pretrained network, and a trained one."""

  size = 16

  def __init__(self, shape, seed):
    super().__init__()
    self._flat = tf.keras.layers.Flatten()
    self._frozen, self._trained = (
        tf.keras.layers.Dense(
            self.size,
            kernel_initializer=tf.keras.initializers.GlorotNormal(seed + i),
        )
        for i in range(2)
    )
    self._frozen.build([None, int(np.prod(shape))])
    self._frozen.trainable = False
    self._trained.build([None, self.size])

  def call(self, image):
    return self._trained(self._frozen(self._flat(tf.cast(image, tf.float32))))


def bind_partly_frozen_encoder(test_case) -> None:
  """Binds the class of encoders for the duration of a test."""
  test_case.addCleanup(gin.clear_config)
  gin.bind_parameter(
      'ObservationEncoder.image_encoder_ctor', PartlyFrozenEncoder
  )


def make_observation(*batch, seed=0):
  """Returns random observations `[*batch, ...]` as tensors."""
  random = np.random.default_rng(seed)

  def draw(spec):
    shape = [*batch, *spec.shape]
    if spec.dtype == tf.uint8:
      return tf.constant(random.integers(0, 256, shape), tf.uint8)
    return tf.constant(random.normal(size=shape), spec.dtype)

  return tf.nest.map_structure(draw, OBSERVATION_SPEC)


def make_rows(num_rows=small_agent.BATCH_SIZE, seed=0):
  """Returns `small_agent`'s rows `[num_rows, 2, ...]`, with images."""
  return small_agent.make_rows(num_rows, seed)._replace(
      observation=make_observation(num_rows, 2, seed=seed)
  )


def make_agent(critic_ctor=None, policy_ctor=None, **kwargs):
  """Returns `small_agent`'s agent for these observations."""
  for name, ctor in (
      ('critic_ctor', critic_ctor), ('policy_ctor', policy_ctor)
  ):
    if ctor is not None:
      kwargs[name] = ctor
  return small_agent.make_agent(observation_spec=OBSERVATION_SPEC, **kwargs)
