"""The network of the vision-language-action policy."""

from typing import Any, Callable, Dict, List, Optional, Sequence

import gin
import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import causal_block
from parl_tf.networks import low_rank
from parl_tf.networks import observation_encoder


@gin.configurable(denylist=['spec', 'num_bins'])
class VisionLanguageTransformer(tf.keras.layers.Layer):
  """A causal transformer over pictures, an instruction and action tokens.

  Its P prefix tokens are the patches of each image, the words of the
  instruction, and one token of the remaining numbers (proprioception). The
  output at the last of them is the logits of the first action dimension, and
  that at the token of dimension i the logits of dimension i + 1.

  All linear layers between tokens and logits can be adapted; see `low_rank`.

  Attributes:
    prefix_length: P.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      num_bins: int,
      instruction_key: str = 'instruction',
      vocabulary_size: int = 256,
      patch_size: int = 8,
      width: int = 128,
      num_blocks: int = 4,
      num_heads: int = 4,
      dropout_rate: float = 0.0,
  ):
    """Initializes the layers and creates all variables.

    Args:
      spec: See `types.ModelSpec`.
      num_bins: Number of different tokens of each action dimension.
      instruction_key: Key of the instruction in a flat observation; its numbers
        are tokens in [0, `vocabulary_size`). Not needed in the observation.
      vocabulary_size: Number of different words.
      patch_size: Height and width of a patch, which divide those of images.
      width: Width of a token.
      num_blocks: Number of blocks.
      num_heads: Number of attention heads of a block; must divide `width`.
      dropout_rate: Fraction of each residual to drop in training.

    Raises:
      ValueError: If a number is out of range or does not divide another, or
        the instruction would be stacked like motion.
    """
    super().__init__()
    if min(num_blocks, num_heads, patch_size, vocabulary_size) < 1:
      raise ValueError(
          '`num_blocks`, `num_heads`, `patch_size` and `vocabulary_size` must '
          f'be positive, got {num_blocks}, {num_heads}, {patch_size} and '
          f'{vocabulary_size}.'
      )
    if width % num_heads:
      raise ValueError(
          '`width` must be a multiple of `num_heads`, got '
          f'{width} and {num_heads}.'
      )
    self._spec = spec.observation
    self._width = width
    self._num_bins = num_bins
    self._action_size = spec.action_size
    self._vocabulary_size = vocabulary_size
    observation = _by_name(spec.observation)
    self._image_names, self._word_names, number_names = [], [], []
    for name, leaf in sorted(observation.items()):
      if observation_encoder.is_image(leaf):
        self._image_names.append(name)
      elif name == instruction_key:
        if spec.num_frames > 1 and name != frame_stack.INSTRUCTION:
          raise ValueError(
              f'`instruction_key` must be {frame_stack.INSTRUCTION!r} where'
              f' observations have {spec.num_frames} frames, because all other'
              f' vectors are stacked, got {name!r}.'
          )
        self._word_names.append(name)
      else:
        number_names.append(name)
    num_seeds = len(self._image_names) + 4 * num_blocks + 6
    seeds = np.random.SeedSequence(spec.seed).generate_state(num_seeds)
    seeds = iter(seeds.tolist())
    self._patches = []
    length = 0
    for name in self._image_names:
      shape = observation[name].shape
      length += _num_patches(name, shape, patch_size)
      self._patches.append(
          _make_patch_layer(shape[-1], patch_size, width, next(seeds))
      )
    length += sum(observation[name].shape[0] for name in self._word_names)
    self.prefix_length = length + 1
    self._words = None
    if self._word_names:
      self._words = self._add_embedding(
          'words', [vocabulary_size, width], next(seeds)
      )
    self._positions = self._add_embedding(
        'positions', [length + spec.action_size, width], next(seeds)
    )
    self._tables = self._add_embedding(
        'tables', [spec.action_size - 1, num_bins, width], next(seeds)
    )
    self._begin = self._add_embedding('begin', [width], next(seeds))
    self._number_names = number_names
    self._numbers: Any = None
    self._encoder: Any = None
    if number_names:
      self._encoder = observation_encoder.ObservationEncoder(
          {name: observation[name] for name in number_names},
          _part(spec.normalization, number_names),
      )
      self._numbers = low_rank.make_dense(
          width, self._encoder.size, next(seeds)
      )
    self._blocks = [
        causal_block.CausalBlock(
            width, num_heads, dropout_rate, seeds, low_rank.make_dense
        )
        for _ in range(num_blocks)
    ]
    self._norm = causal_block.make_norm(width)
    self._head = low_rank.make_dense(num_bins, width, next(seeds))

  @property
  def vocabulary_sizes(self) -> Dict[str, int]:
    """Number of different words, by the name of the instruction, if any."""
    return dict.fromkeys(self._word_names, self._vocabulary_size)

  def call(
      self,
      observation: types.Nest,
      tokens: tf.Tensor,
      dropout_seed: Optional[tf.Tensor] = None,
  ) -> tf.Tensor:
    """Computes the logits of all dimensions of given tokens.

    Args:
      observation: Nest of `[B, ...]`, raw.
      tokens: `[B, A - 1]` int32 tokens of all dimensions but the last.
      dropout_seed: `[2]` int32, or None for no dropout.

    Returns:
      `[B, A, num_bins]`.
    """
    tf.debugging.assert_shapes([(tokens, ('B', self._action_size - 1))])
    # A matrix product, unlike a lookup, has a dense gradient.
    actions = tf.einsum(
        'bik,ikw->biw', tf.one_hot(tokens, self._num_bins), self._tables
    ) + self._positions[self.prefix_length :]
    x = tf.concat([self._read(observation), actions], axis=1)
    length = x.shape[1]
    x = tf.reshape(x, [-1, self._width])
    for i, block in enumerate(self._blocks):
      seed = None
      if dropout_seed is not None:
        seed = randomness.fold_in(dropout_seed, i)
      is_last = i == len(self._blocks) - 1
      num_outputs = self._action_size if is_last else None
      x, _ = block.read(x, length, seed, num_outputs)
    return self._logits(x, self._action_size)

  def generate(
      self,
      observation: types.Nest,
      num_samples: int,
      choose: Callable[[int, tf.Tensor], tf.Tensor],
  ) -> tf.Tensor:
    """Generates tokens one dimension at a time, reading each prefix once.

    The N samples of a state share the keys and values of its prefix. The graph
    has one copy of the blocks per dimension.

    Args:
      observation: Nest of `[B, ...]`, raw.
      num_samples: N, the number of actions per state.
      choose: Function of a dimension and its logits, which returns tokens
        `[B, N]` int32. The logits are `[B, 1, num_bins]` for the first
        dimension and `[B, N, num_bins]` for all others.

    Returns:
      `[B, N, A]` int32 tokens.
    """
    x = tf.reshape(self._read(observation), [-1, self._width])
    prefixes = []
    caches: List[Optional[causal_block.Cache]] = []
    for i, block in enumerate(self._blocks):
      num_outputs = 1 if i == len(self._blocks) - 1 else None
      x, prefix = block.read(x, self.prefix_length, num_outputs=num_outputs)
      prefixes.append(prefix)
      caches.append(None)
    tokens = [choose(0, self._logits(x, 1))]
    for i in range(1, self._action_size):
      x = tf.gather(self._tables[i - 1], tf.reshape(tokens[-1], [-1]))
      x += self._positions[self.prefix_length + i - 1]
      for j, block in enumerate(self._blocks):
        x, caches[j] = block.extend_prefix(x, prefixes[j], caches[j])
      tokens.append(choose(i, self._logits(x, num_samples)))
    return tf.stack(tokens, axis=-1)

  def _read(self, observation):
    """Returns the prefix tokens `[B, P, width]`."""
    tf.nest.assert_same_structure(observation, self._spec)
    observation = _by_name(observation)
    tokens: List[tf.Tensor] = []
    for name, layer in zip(self._image_names, self._patches):
      image = tf.cast(observation[name], tf.float32) / 127.5 - 1.0
      patches = layer(image)
      shape = [-1, patches.shape[1] * patches.shape[2], self._width]
      tokens.append(tf.reshape(patches, shape))
    for name in self._word_names:
      self._check_words(name, observation[name])
      words = tf.one_hot(
          tf.cast(observation[name], tf.int32), self._vocabulary_size
      )
      tokens.append(tf.einsum('blv,vw->blw', words, self._words))
    batch_size = tf.shape(next(iter(observation.values())))[0]
    last = tf.tile(self._begin[tf.newaxis], [batch_size, 1])
    if self._numbers is not None:
      last += self._numbers(
          self._encoder({k: observation[k] for k in self._number_names})
      )
    tokens.append(last[:, tf.newaxis])
    return tf.concat(tokens, axis=1) + self._positions[: self.prefix_length]

  def _check_words(self, name, words):
    """Raises `InvalidArgumentError` for an unknown word, except under XLA."""
    words = tf.reshape(tf.cast(words, tf.float32), [-1])
    is_known = (words >= 0) & (words < self._vocabulary_size)
    is_known &= words == tf.floor(words)
    # An exported policy returns no action for numbers that are not finite.
    is_known |= ~tf.math.is_finite(words)
    tf.debugging.Assert(
        tf.reduce_all(is_known),
        [
            f'The observation `{name}` must have tokens of the vocabulary,'
            f' integers in [0, {self._vocabulary_size - 1}]'
            ' (`VisionLanguageTransformer.vocabulary_size`), got',
            words[tf.argmin(tf.cast(is_known, tf.int32))],
        ],
    )

  def _logits(self, x, length):
    """Returns the logits `[B, length, num_bins]` of `B * length` tokens."""
    x = self._norm(tf.reshape(x, [-1, self._width]))
    return tf.reshape(self._head(x), [-1, length, self._num_bins])

  def _add_embedding(self, name, shape, seed):
    initializer = tf.keras.initializers.RandomNormal(stddev=0.02, seed=seed)
    return self.add_weight(name=name, shape=shape, initializer=initializer)


def _by_name(observation: types.Nest):
  if isinstance(observation, dict):
    return observation
  return {'observation': observation}


def _part(
    normalization: Optional[types.Normalization], names: Sequence[str]
) -> Optional[types.Normalization]:
  """Returns the statistics of some parts of an observation."""
  if normalization is None:
    return None
  mean = _by_name(normalization.mean)
  deviation = _by_name(normalization.standard_deviation)
  return types.Normalization(
      {name: mean[name] for name in names},
      {name: deviation[name] for name in names},
  )


def _num_patches(name, shape, patch_size):
  height, width, _ = shape
  if height % patch_size or width % patch_size:
    raise ValueError(
        f'`patch_size` must divide the height and width of image `{name}`, got '
        f'{patch_size} and {height} x {width}.'
    )
  return (height // patch_size) * (width // patch_size)


def _make_patch_layer(channels, patch_size, width, seed):
  layer = tf.keras.layers.Conv2D(
      width,
      patch_size,
      patch_size,
      kernel_initializer=tf.keras.initializers.GlorotUniform(seed),
  )
  layer.build([None, None, None, channels])
  return layer
