"""Encodes observations as one vector of features."""

from typing import Callable, NamedTuple, Optional, Sequence

import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.networks import image_networks


class NamedEncoder(NamedTuple):
  """The network of an image of the observation.

  Attributes:
    name: Name of the image, a camera.
    network: Its encoder.
    variables: The encoder's variables, in the order of a slow copy's.
  """

  name: str
  network: tf.keras.layers.Layer
  variables: Sequence[tf.Variable]


@gin.configurable(denylist=['observation_spec', 'normalization', 'seed'])
class ObservationEncoder(tf.keras.layers.Layer):
  """Maps a nest of observations to one vector.

  Normalizes vectors and encodes the images of each camera with a separate
  network, because views differ between cameras. The encoder is the first layer
  of each critic and policy. It stores the statistics, so that a deployed
  network takes raw observations.

  Attributes:
    size: F, width of the features.
  """

  def __init__(
      self,
      observation_spec: types.Nest,
      normalization: Optional[types.Normalization] = None,
      seed: int = 0,
      *,
      image_encoder_ctor: Callable[..., tf.keras.layers.Layer] = (
          image_networks.ImageEncoder
      ),
  ):
    """Initializes the encoder.

    Args:
      observation_spec: Nest of `tf.TensorSpec`: vectors, and images `[height,
        width, channels]` of uint8.
      normalization: Statistics of the same structure, with None for images. If
        None, vectors are not normalized.
      seed: Integer seed of the initial weights of image networks.
      image_encoder_ctor: Makes the network of a camera from the shape of its
        images and a seed: `ImageEncoder`, `SmallImageEncoder`, or another Keras
        layer with an attribute `size`, the width of its features.

    Raises:
      ValueError: If a leaf is neither a vector nor an image, or does not match
        its statistics.
    """
    super().__init__()
    self._spec = observation_spec
    self._make = lambda: ObservationEncoder(
        observation_spec,
        normalization,
        seed,
        image_encoder_ctor=image_encoder_ctor,
    )
    leaves = tf.nest.flatten(observation_spec)
    for spec in leaves:
      if spec.shape.rank != 1 and not is_image(spec):
        raise ValueError(
            f'Observation `{spec.name}` must be a vector, or an image '
            '`[height, width, channels]` of uint8, got '
            f'{spec.dtype.name} of {spec.shape}.'
        )
    shapes = [spec.shape for spec in leaves if is_image(spec)]
    seeds = np.random.SeedSequence(seed).generate_state(len(shapes))
    self._image_encoders = [
        image_encoder_ctor(shape, seed)
        for shape, seed in zip(shapes, seeds.tolist())
    ]
    for encoder, shape in zip(self._image_encoders, shapes):
      if not _has_variables(encoder):  # Many layers make them when called.
        encoder(tf.zeros([1, *shape], tf.uint8))
    # Keras lists trained variables before others, so freezing a layer may
    # change the order. A function, because Keras would track a list as part of
    # the checkpoint.
    variables = [tuple(x.variables) for x in self._image_encoders]
    self._image_variables = lambda: variables
    num_numbers = sum(x.shape[0] for x in leaves if not is_image(x))
    self.size = num_numbers + sum(x.size for x in self._image_encoders)
    mean, deviation = np.zeros(num_numbers), np.ones(num_numbers)
    if normalization is not None:
      mean = _joined(normalization.mean, observation_spec, 'mean')
      deviation = _joined(
          normalization.standard_deviation,
          observation_spec,
          'standard_deviation',
      )
    self._mean = tf.Variable(mean, trainable=False, dtype=tf.float32)
    self._deviation = tf.Variable(deviation, trainable=False, dtype=tf.float32)

  @property
  def image_encoders(self) -> Sequence[NamedEncoder]:
    """The network of each image in the observation."""
    leaves = tf.nest.flatten(self._spec)
    names = [spec.name for spec in leaves if is_image(spec)]
    return [
        NamedEncoder(*parts)
        for parts in zip(
            names, self._image_encoders, self._image_variables(), strict=True
        )
    ]

  @property
  def image_variables(self) -> Sequence[tf.Variable]:
    """The variables of the image networks, in the order of a slow copy's."""
    return [v for variables in self._image_variables() for v in variables]

  def make_slow_copy(self) -> 'ObservationEncoder':
    """Returns an equal encoder for a target or averaged network.

    The copy is not trained. Without images it is this encoder itself, because
    statistics never change.
    """
    if not self._image_encoders:
      return self
    copy = self._make()
    for variable, source in zip(
        copy.image_variables, self.image_variables, strict=True
    ):
      variable.assign(source)
    copy.trainable = False
    return copy

  def call(self, observation: types.Nest) -> tf.Tensor:
    """Encodes a nest of `[B, ...]` as features `[B, F]`, vectors first."""
    tf.nest.assert_same_structure(observation, self._spec)
    vectors, images = [], []
    for spec, x in zip(
        tf.nest.flatten(self._spec), tf.nest.flatten(observation)
    ):
      if is_image(spec):
        images.append(x)
      else:
        vectors.append(tf.cast(x, tf.float32))
    features = [
        encoder(x) for encoder, x in zip(self._image_encoders, images)
    ]
    if vectors:
      x = (tf.concat(vectors, axis=-1) - self._mean) / self._deviation
      features.insert(0, x)
    return features[0] if len(features) == 1 else tf.concat(features, axis=-1)


def has_images(observation: types.Nest, num_batch_axes: int = 0) -> bool:
  """Returns whether a nest of specs or tensors has images."""
  return any(
      is_image(x, num_batch_axes) for x in tf.nest.flatten(observation)
  )


def is_image(x, num_batch_axes: int = 0) -> bool:
  """Returns whether a spec or tensor consists of images.

  Args:
    x: Spec or tensor; images are `[..., height, width, channels]` uint8.
    num_batch_axes: Number of axes before those of an image.
  """
  return x.shape.rank == num_batch_axes + 3 and x.dtype == tf.uint8


def _has_variables(layer: tf.keras.layers.Layer) -> bool:
  try:
    return bool(layer.variables)
  except ValueError:  # Of a model that is not built.
    return False


def _joined(
    statistics: types.Nest, observation_spec: types.Nest, name: str
) -> np.ndarray:
  tf.nest.assert_same_structure(
      statistics, observation_spec, check_types=False
  )
  leaves = []
  for leaf, spec in zip(
      tf.nest.flatten(statistics), tf.nest.flatten(observation_spec)
  ):
    if is_image(spec):
      if leaf is not None:
        raise ValueError(
            f'Normalization `{name}` of the image `{spec.name}` must be None, '
            f'got {leaf}.'
        )
      continue
    leaf = np.asarray(leaf)
    leaves.append(leaf)
    if leaf.shape != spec.shape:
      raise ValueError(
          f'Normalization `{name}` of `{spec.name}` must have the shape '
          f'{spec.shape}, got {leaf.shape}.'
      )
  joined = np.concatenate([np.zeros(0), *leaves])
  if name == 'standard_deviation' and not np.all(joined > 0):
    raise ValueError(f'Normalization `{name}` must be positive, got {joined}.')
  return joined
