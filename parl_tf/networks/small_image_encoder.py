"""A small network that encodes images, for training on a few CPU cores."""

from typing import Sequence

import gin
import numpy as np
import tensorflow as tf

from parl_tf.networks import blocks


@gin.configurable(denylist=['shape', 'seed'])
class SmallImageEncoder(tf.keras.layers.Layer):
  """Encodes patches, merges them by strided convolutions, keeps positions.

  The first layer multiplies patches that do not overlap, the cheapest way to
  reduce a picture. The last one sees where in the picture a feature is, unlike
  `ImageEncoder`, which averages over the image. LayerNorm and tanh bound the
  features.

  Attributes:
    size: F, width of the features.
  """

  def __init__(
      self,
      shape: Sequence[int],
      seed: int,
      *,
      patch_size: int = 4,
      widths: Sequence[int] = (32, 32),
      feature_size: int = 64,
  ):
    """Initializes the layers and creates all variables.

    Args:
      shape: Height, width and channels of an image.
      seed: Integer seed of the initial weights.
      patch_size: Height and width of a patch; must divide those of the image.
      widths: Channels of the patches, and of each convolution after them. Each
        convolution halves height and width.
      feature_size: F, the width of the features.

    Raises:
      ValueError: If a number is not positive, or patches do not fill the image.
    """
    super().__init__()
    if not widths or min((*widths, patch_size, feature_size)) < 1:
      raise ValueError(
          '`patch_size`, `widths` and `feature_size` must be positive, got '
          f'{patch_size}, {tuple(widths)} and {feature_size}.'
      )
    height, width, channels = shape
    if height % patch_size or width % patch_size:
      raise ValueError(
          '`patch_size` must divide the height and width of images, got '
          f'{patch_size} and {height} x {width}.'
      )
    seeds = np.random.SeedSequence(seed).generate_state(len(widths) + 1)
    seeds = seeds.tolist()
    self.size = feature_size
    height, width = height // patch_size, width // patch_size
    self._convolutions = []
    for i, num_outputs in enumerate(widths):
      kernel, stride = (patch_size, patch_size) if i == 0 else (3, 2)
      layer = tf.keras.layers.Conv2D(
          num_outputs,
          kernel,
          stride,
          padding='same',
          activation='relu',
          kernel_initializer=tf.keras.initializers.HeNormal(seeds[i]),
      )
      layer.build([None, None, None, channels])
      self._convolutions.append(layer)
      channels = num_outputs
      if i:
        height, width = -(-height // 2), -(-width // 2)
    self._num_inputs = height * width * channels
    self._dense = blocks.make_dense(feature_size, self._num_inputs, seeds[-1])
    self._norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
    self._norm.build([None, feature_size])

  def call(self, image: tf.Tensor) -> tf.Tensor:
    """Encodes images as features `[B, F]` in (-1, 1).

    Args:
      image: `[B, height, width, channels]` uint8.

    Raises:
      TypeError: If the images are not uint8.
    """
    if image.dtype != tf.uint8:
      raise TypeError(f'Images must be uint8, got {image.dtype.name}.')
    x = tf.cast(image, tf.float32) / 127.5 - 1.0
    for layer in self._convolutions:
      x = layer(x)
    x = tf.reshape(x, [-1, self._num_inputs])
    return tf.tanh(self._norm(self._dense(x)))
