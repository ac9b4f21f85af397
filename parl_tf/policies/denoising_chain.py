"""The denoising chain of a diffusion policy as a decision process."""

import math
from typing import NamedTuple, Optional, Tuple

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.policies import diffusion


class Chain(NamedTuple):
  """The fine-tuned steps of denoising chains, in the order of denoising.

  The last column is step t = 0.

  Attributes:
    inputs: `[B, K, A]`, the noisy action before each step.
    draws: `[B, K, A]`, the action that each step drew, before clipping.
    log_probs: `[B, K]` log densities of `draws`.
  """

  inputs: tf.Tensor
  draws: tf.Tensor
  log_probs: tf.Tensor


@gin.configurable(denylist=['policy'])
class DenoisingChain:
  """Samples from the trained weights and keeps the density of every step.

  Implements the inner decision process of Ren et al. (2024), arXiv:2409.00588.
  A step's state is (s, x, t), its action is the draw u ~ N(mean(s, x, t),
  std_t^2), and the next state is clip(u, -1, 1). Clipping belongs to the
  process, not to the policy: the likelihood is that of u, so its gradient is
  exact even if u is clipped.

  std_t is the standard deviation of the policy's sampler, sqrt(beta_t) or 0 for
  the last step, but at least `min_sampling_std`.

  Note: The steps before the fine-tuned ones use the current weights, as in a
  deployed policy. The paper keeps a second network for them.
  """

  def __init__(
      self,
      policy: diffusion.DiffusionPolicy,
      *,
      num_fine_tuned_steps: Optional[int] = None,
      min_sampling_std: float = 0.1,
      min_log_prob_std: float = 0.1,
  ):
    """Initializes the chain.

    Args:
      policy: Diffusion policy to sample from.
      num_fine_tuned_steps: Number of denoising steps to fine-tune, counted from
        the last one; None for all.
      min_sampling_std: Minimum standard deviation of draws, for exploration.
      min_log_prob_std: Minimum standard deviation in likelihoods.

    Raises:
      TypeError: If `policy` is not a `DiffusionPolicy`.
      ValueError: If a number is out of range.
    """
    if not isinstance(policy, diffusion.DiffusionPolicy):
      raise TypeError(
          '`policy` must be a `DiffusionPolicy`, got '
          f'{type(policy).__name__}.'
      )
    self._policy = policy
    self._num_steps = policy.betas.shape[0]
    if num_fine_tuned_steps is None:
      num_fine_tuned_steps = self._num_steps
    if not 1 <= num_fine_tuned_steps <= self._num_steps:
      raise ValueError(
          f'`num_fine_tuned_steps` must be in [1, {self._num_steps}], the '
          f'number of denoising steps, got {num_fine_tuned_steps}.'
      )
    if min_sampling_std < 0.0 or min_log_prob_std <= 0.0:
      raise ValueError(
          '`min_sampling_std` must not be negative and `min_log_prob_std` must '
          f'be positive, got {min_sampling_std} and {min_log_prob_std}.'
      )
    self.num_fine_tuned_steps = num_fine_tuned_steps
    own = tf.concat([[0.0], tf.sqrt(policy.betas[1:])], axis=0)
    self._sampling_stds = tf.maximum(own, min_sampling_std)
    self._log_prob_stds = tf.maximum(own, min_log_prob_std)

  def sample(
      self, observation: types.Nest, seed: tf.Tensor
  ) -> Tuple[tf.Tensor, Chain]:
    """Draws one action per state.

    Args:
      observation: Nest of `[B, ...]`, raw.
      seed: `[2]` int32. With `min_sampling_std` 0 the actions equal those that
        the policy samples with this seed.

    Returns:
      Actions `[B, A]` in [-1, 1], and their fine-tuned denoising steps.
    """
    features = self._encode(observation)
    shape = [tf.shape(features)[0], self._policy.action_size]
    x = randomness.normal(randomness.fold_in(seed, self._num_steps), shape)
    steps = []
    for t in reversed(range(self._num_steps)):
      column = tf.fill(shape[:1], t)
      mean = self._mean(features, x, column)
      noise = randomness.normal(randomness.fold_in(seed, t), shape)
      draw = mean + self._sampling_stds[t] * noise
      if t < self.num_fine_tuned_steps:
        steps.append((x, draw, self._log_density(mean, draw, column)))
      x = tf.clip_by_value(draw, -1.0, 1.0)
    return x, Chain(*(tf.stack(part, axis=1) for part in zip(*steps)))

  def log_prob(
      self,
      observation: types.Nest,
      inputs: tf.Tensor,
      draws: tf.Tensor,
      t: tf.Tensor,
  ) -> tf.Tensor:
    """Computes the log densities of steps under the trained weights.

    Args:
      observation: Nest of `[B, ...]`, raw.
      inputs: `[B, A]`, noisy actions before the steps.
      draws: `[B, A]`, actions that the steps drew, not clipped.
      t: `[B]` int32 denoising steps; 0 is the last one.

    Returns:
      `[B]` log densities, summed over action dimensions.
    """
    tf.debugging.assert_shapes(
        [(inputs, ('B', 'A')), (draws, ('B', 'A')), (t, ('B',))]
    )
    mean = self._mean(self._encode(observation), inputs, t)
    return self._log_density(mean, draws, t)

  def start_from_average(self) -> None:
    """Sets the trained weights to their moving average."""
    self._policy.networks.start_from_average()

  def _encode(self, observation):
    return self._policy.networks.encode(observation, averaged=False)

  def _mean(self, features, x, t):
    noise = self._policy.networks.trained(features, x, t)
    return diffusion.denoise_mean(x, noise, t, self._policy.betas)

  def _log_density(self, mean, draw, t):
    std = tf.gather(self._log_prob_stds, t)[:, tf.newaxis]
    costs = tf.square((draw - mean) / std) + 2.0 * tf.math.log(std)
    return -0.5 * tf.reduce_sum(costs + math.log(2.0 * math.pi), axis=-1)
