"""A base policy and a Gaussian that edits its actions."""

import math
from typing import Callable, Sequence, Tuple

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import blocks
from parl_tf.networks import observation_encoder
from parl_tf.policies import composite_policy
from parl_tf.policies import gaussian
from parl_tf.policies import generative_policy


@gin.configurable(denylist=['spec'])
class EditedPolicy(composite_policy.CompositePolicy):
  """Samples a base policy, and edits a' = a + beta tanh(mean + std z) of it.

  The policy of EXPO, Dong et al. (2025), arXiv:2507.07986: half of the samples
  are the base policy's, the others are their edits. Mean and standard deviation
  depend on the state and on the base action. Only the base policy is trained by
  `distillation_loss`; `EditImprover` trains both.

  Attributes:
    base: The base policy.
    scale: beta, the largest edit of an action's element.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      base_ctor: Callable[..., generative_policy.GenerativePolicy] = (
          gin.REQUIRED
      ),
      scale: float = 0.1,
      hidden_sizes: Sequence[int] = (256, 256, 256),
      min_log_std: float = -5.0,
      max_log_std: float = 2.0,
  ):
    """Initializes both parts.

    Args:
      spec: See `types.ModelSpec`.
      base_ctor: Makes the base policy.
      scale: beta, the largest edit of an action's element.
      hidden_sizes: Widths of the ReLU layers of the edits.
      min_log_std: Lower bound of the log standard deviation before tanh.
      max_log_std: Upper bound of the log standard deviation before tanh.

    Raises:
      ValueError: If `scale` is not positive, or `min_log_std` is not below
        `max_log_std`.
    """
    super().__init__(spec, base_ctor)
    if not scale > 0.0:
      raise ValueError(f'`scale` must be positive, got {scale}.')
    if not min_log_std < max_log_std:
      raise ValueError(
          '`min_log_std` must be below `max_log_std`, got '
          f'{min_log_std} and {max_log_std}.'
      )
    self.scale = scale
    self._bounds = (min_log_std, max_log_std)
    self._encoder = observation_encoder.ObservationEncoder(
        spec.observation, spec.normalization, spec.seed + 1
    )
    sizes = [self._encoder.size + spec.action_size, *hidden_sizes]
    self._hidden = [
        blocks.make_dense(sizes[i + 1], sizes[i], spec.seed + 1 + i, tf.nn.relu)
        for i in range(len(hidden_sizes))
    ]
    self._head = blocks.make_dense(
        2 * spec.action_size, sizes[-1], spec.seed + 1 + len(sizes)
    )

  @property
  def draws_alike(self):
    return False  # One half differs from the other.

  @property
  def improver_variables(self):
    layers = [*self._hidden, self._head, self._encoder]
    return tuple(v for layer in layers for v in layer.trainable_variables)

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    num_edits = num_samples // 2
    base = self.base.sample(
        observation,
        num_samples - num_edits,
        randomness.fold_in(seed, 'base'),
        averaged,
        temperature,
    )
    if not num_edits:
      return base
    edited, _ = self.edit(
        observation,
        base[:, :num_edits],
        randomness.fold_in(seed, 'edit'),
        temperature,
    )
    return tf.concat([base, edited], axis=1)

  def edit(
      self,
      observation: types.Nest,
      action: tf.Tensor,
      seed: tf.Tensor,
      temperature: float = 1.0,
  ) -> Tuple[tf.Tensor, tf.Tensor]:
    """Draws one edit of each action.

    Args:
      observation: Nest of `[B, ...]`, raw.
      action: `[B, N, A]` in [-1, 1].
      seed: `[2]` int32.
      temperature: Scale of the noise before tanh.

    Returns:
      Edited actions `[B, N, A]`, clipped to [-1, 1], and the log densities
      `[B, N]` of the edits before clipping, in the units of actions.
    """
    tf.debugging.assert_shapes([(action, ('B', 'N', 'A'))])
    shape = tf.shape(action)
    features = self._encoder(observation)[:, tf.newaxis]
    features = tf.tile(features, [1, shape[1], 1])  # [B, 1, F] -> [B, N, F]
    x = tf.concat([features, action], axis=-1)
    x = tf.reshape(x, [-1, self._encoder.size + action.shape[-1]])
    for layer in self._hidden:
      x = layer(x)
    mean, log_std = tf.split(
        tf.reshape(self._head(x), [*tf.unstack(shape[:2]), -1]), 2, axis=-1
    )
    noise = temperature * randomness.normal(seed, shape)
    change, log_prob = gaussian.squash(
        mean, tf.clip_by_value(log_std, *self._bounds), noise
    )
    edited = tf.clip_by_value(action + self.scale * change, -1.0, 1.0)
    # The density of beta x is that of x divided by beta in each dimension.
    return edited, log_prob - action.shape[-1] * math.log(self.scale)
