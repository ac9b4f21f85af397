"""Networks that read pictures, and how pictures are shifted for training."""

from typing import Sequence

import gin
import numpy as np
import tensorflow as tf


@gin.configurable(denylist=['shape', 'seed'])
class PictureEncoder(tf.keras.layers.Layer):
  """A residual network with group normalization, trained from scratch.

  ResNet-18 of He et al. (2016), arXiv:1512.03385, table 1, with Wu and He's
  group normalization (2018), arXiv:1803.08494, in the place of that by batches.
  What is left after its stages is averaged over the picture; a dense layer,
  LayerNorm and tanh make features of it, bounded like normalized vectors.

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
    """Initializes the layers; every variable exists afterwards.

    Args:
      shape: Height, width and channels of a picture.
      seed: Integer seed of the initial weights.
      stage_widths: Channels of each stage; every stage but the first halves
        height and width, which the layers before have quartered.
      blocks_per_stage: Residual blocks of a stage, of two convolutions each.
      channels_per_group: Channels that are normalized together; all of them in
        a stage that has fewer.
      feature_size: F.

    Raises:
      ValueError: If a number is not positive, or a width is wider than a group
        and no multiple of it.
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

  def call(self, picture: tf.Tensor) -> tf.Tensor:
    """Returns features `[B, F]` in (-1, 1).

    Args:
      picture: `[B, height, width, channels]` uint8.
    """
    if picture.dtype != tf.uint8:
      raise TypeError(f'A picture must be uint8, got {picture.dtype.name}.')
    x = tf.cast(picture, tf.float32) / 127.5 - 1.0
    x = tf.nn.max_pool2d(tf.nn.relu(self._stem(x)), 3, 2, 'SAME')
    for block in self._blocks:
      x = block(x)
    x = tf.reduce_mean(x, axis=[1, 2])  # -> [B, channels]
    return tf.tanh(self._norm(self._dense(x)))


class _ResidualBlock(tf.keras.layers.Layer):
  """relu(x + two convolutions of x); x is projected where shapes differ."""

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
  """A convolution without bias, and group normalization."""

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
  """Pads pictures with their edges, and crops them to their size again.

  The augmentation of Kostrikov et al. (2021), arXiv:2004.13649, section 3.1.

  Args:
    images: `[B, height, width, channels]`, of any type.
    offsets: `[B, 2]` int32, the row and the column of the padded picture at
      which the crop begins, 0 .. 2 * `padding`; `padding` leaves a picture as
      it is.
    padding: Pixels on each side.

  Returns:
    `[B, height, width, channels]`.
  """
  tf.debugging.assert_shapes(
      [(images, ('B', 'height', 'width', 'channels')), (offsets, ('B', 2))]
  )
  # A pixel of the padding is the nearest one of the picture.
  for axis in (1, 2):
    size = tf.shape(images)[axis]
    index = tf.range(size) + offsets[:, axis - 1, tf.newaxis] - padding
    index = tf.clip_by_value(index, 0, size - 1)  # [B, height] or [B, width]
    images = tf.gather(images, index, axis=axis, batch_dims=1)
  return images
