"""A vision-language-action policy, and its fine-tuning by low-rank adapters."""

import functools
from typing import Callable, Optional, Sequence, Union

import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import low_rank
from parl_tf.networks import vision_language_transformer
from parl_tf.policies import generative_policy
from parl_tf.policies import transformer


class RangeTokenizer(tf.Module):
  """Discretizes actions into equally spaced bins, different by dimension.

  Checkpoints contain the bins.
  """

  def __init__(self, num_bins: int, low: np.ndarray, high: np.ndarray):
    """Initializes the bins.

    Args:
      num_bins: Number of bins, including both ends.
      low: `[A]` values of the first bin.
      high: `[A]` values of the last bin.

    Raises:
      ValueError: If there are fewer than two bins, or a `low` is not below its
        `high`.
    """
    super().__init__()
    if num_bins < 2:
      raise ValueError(f'`num_bins` must be at least 2, got {num_bins}.')
    if not np.all(low < high):
      raise ValueError(
          f'`low` must be below `high` in each dimension, got {low} and {high}.'
      )
    self.num_bins = num_bins
    self._low = tf.Variable(low, trainable=False, dtype=tf.float32)
    self._high = tf.Variable(high, trainable=False, dtype=tf.float32)

  def encode(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns the int32 tokens of the nearest bins to `actions` `[..., A]`.

    Ties go to the lower bin. Numbers out of range go to the nearest end.
    """
    share = (actions - self._low) / (self._high - self._low)
    nearest = tf.math.ceil(share * (self.num_bins - 1) - 0.5)
    return tf.cast(
        tf.clip_by_value(nearest, 0.0, self.num_bins - 1.0), tf.int32
    )

  def decode(self, tokens: tf.Tensor) -> tf.Tensor:
    """Returns the float32 values of the bins `tokens` `[..., A]`."""
    share = tf.cast(tokens, tf.float32) / (self.num_bins - 1)
    actions = self._low + share * (self._high - self._low)
    return tf.minimum(actions, self._high)  # Rounding may exceed it.


@gin.configurable(denylist=['spec'])
class VLAPolicy(generative_policy.GenerativePolicy):
  """Samples action tokens given pictures, an instruction and numbers.

  Follows OpenVLA (Kim et al., 2024, arXiv:2406.09246), which PA-RL fine-tunes,
  at sizes that learn on CPUs: an action is a sequence of tokens, one per
  dimension, and the loss is their cross entropy. The N samples of a state read
  its pictures and words once. Samples come from the trained weights.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      num_bins: int = 256,
      low: Union[float, Sequence[Optional[float]], None] = None,
      high: Union[float, Sequence[Optional[float]], None] = None,
      network_ctor: Callable[
          ..., vision_language_transformer.VisionLanguageTransformer
      ] = vision_language_transformer.VisionLanguageTransformer,
  ):
    """Initializes the network.

    Args:
      spec: See `types.ModelSpec`.
      num_bins: Number of bins of each action dimension.
      low: Action of the first bin: a number for all dimensions, or `[A]`
        numbers. In a dimension where it is None, the bins start at the data's
        1st percentile, as OpenVLA's do, or at -1 if the dimension is like a
        gripper (see `datasets.episodes.action_range`) or there are no data.
      high: Action of the last bin, as `low`; None takes the 99th percentile, or
        1.
      network_ctor: Makes the `VisionLanguageTransformer`.

    Raises:
      ValueError: If a number is out of range, or `low` or `high` has a wrong
        number of them.
    """
    super().__init__()
    statistics = spec.normalization
    found = None if statistics is None else statistics.action_range
    lows, highs = (-1.0, 1.0) if found is None else found
    self._tokenizer = RangeTokenizer(
        num_bins,
        _ends('low', low, lows, spec),
        _ends('high', high, highs, spec),
    )
    self.network = network_ctor(spec, num_bins=num_bins)

  @property
  def vocabulary_sizes(self):
    return self.network.vocabulary_sizes

  @property
  def trainable_variables(self):
    return self.network.trainable_variables

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    """Draws actions; see `TransformerPolicy.sample`."""
    del averaged  # There is no average.
    batch_size = tf.shape(tf.nest.flatten(observation)[0])[0]
    shape = [batch_size, num_samples, self._tokenizer.num_bins]
    tokens = self.network.generate(
        observation,
        num_samples,
        functools.partial(transformer.choose, seed, shape, temperature),
    )
    return self._tokenizer.decode(tokens)

  def distillation_loss(self, observation, action, seed, mask=None):
    tokens = self._tokenizer.encode(action)
    logits = self.network(
        observation,
        tokens[:, :-1],
        dropout_seed=randomness.fold_in(seed, 'dropout'),
    )
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tokens, logits
    )  # [B, A]
    return generative_policy.sum_of_costs(cross_entropy, mask)


def _ends(name, bound, found, spec) -> np.ndarray:
  """Returns the ends of the bins `[H * A]`: as bound, else as found."""
  (size,) = spec.action.shape
  if not isinstance(bound, (list, tuple, np.ndarray)):
    bound = [bound] * size
  if len(bound) != size:
    raise ValueError(
        f'`{name}` must be a number, or one for each of the {size} action'
        f' dimensions, got {bound}.'
    )
  step = np.array([
      end if own is None else own
      for own, end in zip(bound, np.broadcast_to(found, [size]))
  ], np.float32)
  if not np.all(np.abs(step) <= 1.0):
    raise ValueError(
        f'`{name}` must be in [-1, 1], the bounds of actions, got {bound}.'
    )
  return np.tile(step, spec.chunk_length)


@gin.configurable(denylist=['spec'])
class LowRankPolicy(generative_policy.GenerativePolicy):
  """A policy that is fine-tuned by adapters of its linear layers alone.

  Behavior cloning trains the base policy. From then on its weights are frozen,
  and improvers train the adapters (Hu et al., 2022, arXiv:2106.09685), which
  change nothing at first. If the base policy draws actions from averaged
  weights, these have the same adapters. With `trains_rest`, only the kernels of
  layers are frozen.

  Attributes:
    base: The base policy.
    adapters: `low_rank.Adapters`, which can be saved alone.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      base_ctor: Callable[..., generative_policy.GenerativePolicy] = VLAPolicy,
      rank: int = 32,
      alpha: float = 16.0,
      trains_rest: bool = False,
  ):
    """Initializes the base policy and attaches adapters to it.

    Args:
      spec: See `types.ModelSpec`.
      base_ctor: Makes the base policy.
      rank: Rank of the adapters.
      alpha: Scale of the adapters, which is divided by `rank`.
      trains_rest: Whether to train the weights that are no kernels of layers,
        such as embeddings, biases and layer norms, too. They are few.

    Raises:
      ValueError: If a number is not positive, or the base policy has no layers
        that can be adapted.
    """
    super().__init__()
    self._make_base = lambda: base_ctor(spec)
    self.base = base_ctor(spec)
    self.adapters = low_rank.Adapters(
        self.base,
        spec.seed + 1,
        rank=rank,
        alpha=alpha,
        trains_rest=trains_rest,
    )

  @property
  def vocabulary_sizes(self):
    return self.base.vocabulary_sizes

  @property
  def trainable_variables(self):
    return self.adapters.trainable_variables

  @property
  def cloned(self):
    return self.base

  @property
  def acting_encoder(self):
    return self.base.acting_encoder

  def sample(self, *args, **kwargs):
    return self.base.sample(*args, **kwargs)

  def distillation_loss(self, *args, **kwargs):
    return self.base.distillation_loss(*args, **kwargs)

  def update_average(self):
    self.base.update_average()

  def deployed(self):
    """Returns a copy of the base policy with the adapters in its kernels."""
    merged = self._make_base()
    for new, old in zip(merged.variables, self.base.variables, strict=True):
      new.assign(old)
    self.adapters.merge_into(merged)
    return merged
