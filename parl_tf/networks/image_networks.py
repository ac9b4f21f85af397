"""The network that encodes images, and random shifts of images."""

from typing import Sequence

import gin
import numpy as np
import tensorflow as tf


@gin.configurable(denylist=['shape', 'seed'])
class ImageEncoder(tf.keras.layers.Layer):
  """A ResNet with group normalization, trained from scratch.

  Implements ResNet-18 of He et al. (2016), arXiv:1512.03385, table 1, with
  group normalization, Wu and He (2018), arXiv:1803.08494, instead of batch
  normalization. The outputs of the last stage are averaged over the image. A
  dense layer, LayerNorm and tanh convert them to features, which are bounded
  like normalized vectors.

  Attributes:
    size: F, width of the features.
  """

  def __init__(
      self,
      shape: Sequence[int],
      seed: int,
      *,
      stage_widths: Sequence[int] = (64, 128, 256, 512),
      blocks_per_stage: int = 2,
      channels_per_group: int = 16,
      feature_size: int = 256,
  ):
    """Initializes the layers and creates all variables.

    Args:
      shape: Height, width and channels of an image.
      seed: Integer seed of the initial weights.
      stage_widths: Channels of each stage. The layers before the first stage
        divide height and width by 4, and every later stage halves them.
      blocks_per_stage: Number of residual blocks per stage, each with two
        convolutions.
      channels_per_group: Number of channels to normalize together. A stage with
        fewer channels has one group.
      feature_size: F, the width of the features.

    Raises:
      ValueError: If a number is not positive, or a width above
        `channels_per_group` is not a multiple of it.
    """
    super().__init__()
    if not stage_widths or min(stage_widths) < 1 or blocks_per_stage < 1:
      raise ValueError(
          '`stage_widths` and `blocks_per_stage` must be positive, got '
          f'{tuple(stage_widths)} and {blocks_per_stage}.'
      )
    if channels_per_group < 1 or feature_size < 1:
      raise ValueError(
          '`channels_per_group` and `feature_size` must be positive, got '
          f'{channels_per_group} and {feature_size}.'
      )
    seeds = np.random.SeedSequence(seed).generate_state(
        2 + 3 * blocks_per_stage * len(stage_widths)
    )
    seeds = iter(seeds.tolist())
    self.size = feature_size
    width = stage_widths[0]
    self._stem = _Convolution(
        shape[-1], width, channels_per_group, next(seeds), kernel=7, stride=2
    )
    self._blocks = []
    for stage, next_width in enumerate(stage_widths):
      for i in range(blocks_per_stage):
        self._blocks.append(
            _ResidualBlock(
                width,
                next_width,
                channels_per_group,
                [next(seeds) for _ in range(3)],
                stride=2 if stage and not i else 1,
            )
        )
        width = next_width
    self._dense = tf.keras.layers.Dense(
        feature_size,
        kernel_initializer=tf.keras.initializers.GlorotUniform(next(seeds)),
    )
    self._dense.build([None, width])
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
    x = tf.nn.max_pool2d(tf.nn.relu(self._stem(x)), 3, 2, 'SAME')
    for block in self._blocks:
      x = block(x)
    x = tf.reduce_mean(x, axis=[1, 2])  # -> [B, channels]
    return tf.tanh(self._norm(self._dense(x)))


class _ResidualBlock(tf.keras.layers.Layer):
  """Computes relu(x + conv(relu(conv(x)))); projects x if shapes differ."""

  def __init__(self, num_inputs, width, channels_per_group, seeds, stride):
    super().__init__()
    self._first = _Convolution(
        num_inputs, width, channels_per_group, seeds[0], stride=stride
    )
    self._second = _Convolution(width, width, channels_per_group, seeds[1])
    self._projection = None
    if stride > 1 or num_inputs != width:
      self._projection = _Convolution(
          num_inputs,
          width,
          channels_per_group,
          seeds[2],
          kernel=1,
          stride=stride,
      )

  def call(self, x):
    y = self._second(tf.nn.relu(self._first(x)))
    if self._projection is not None:
      x = self._projection(x)
    return tf.nn.relu(x + y)


class _Convolution(tf.keras.layers.Layer):
  """A convolution without bias, followed by group normalization."""

  def __init__(
      self, num_inputs, width, channels_per_group, seed, kernel=3, stride=1
  ):
    super().__init__()
    num_groups, rest = divmod(width, channels_per_group)
    if num_groups and rest:
      raise ValueError(
          '`stage_widths` above `channels_per_group` must be multiples of it, '
          f'got {width} and {channels_per_group}.'
      )
    self._convolution = tf.keras.layers.Conv2D(
        width,
        kernel,
        stride,
        padding='same',
        use_bias=False,
        kernel_initializer=tf.keras.initializers.HeNormal(seed),
    )
    self._convolution.build([None, None, None, num_inputs])
    self._norm = tf.keras.layers.GroupNormalization(
        max(num_groups, 1), epsilon=1e-5
    )
    self._norm.build([None, None, None, width])

  def call(self, x):
    return self._norm(self._convolution(x))


def random_shift(
    images: tf.Tensor, offsets: tf.Tensor, padding: int
) -> tf.Tensor:
  """Pads images with their edge pixels and crops them to their original size.

  Implements the augmentation of Kostrikov et al. (2021), arXiv:2004.13649,
  section 3.1.

  Args:
    images: `[B, height, width, channels]`, of any type.
    offsets: `[B, 2]` int32 row and column of the padded image at which the crop
      starts, in [0, 2 * `padding`]. The offset `padding` does not change an
      image.
    padding: Number of pixels to add on each side.

  Returns:
    `[B, height, width, channels]` shifted images.
  """
  tf.debugging.assert_shapes(
      [(images, ('B', 'height', 'width', 'channels')), (offsets, ('B', 2))]
  )
  # Each pixel of the padding equals the nearest pixel of the image.
  for axis in (1, 2):
    size = tf.shape(images)[axis]
    index = tf.range(size) + offsets[:, axis - 1, tf.newaxis] - padding
    index = tf.clip_by_value(index, 0, size - 1)  # [B, height] or [B, width]
    images = tf.gather(images, index, axis=axis, batch_dims=1)
  return images
