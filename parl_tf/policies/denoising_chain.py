"""The denoising chain of a diffusion policy, as a chain of decisions."""

import math
from typing import NamedTuple, Optional, Tuple

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.policies import diffusion


class Chain(NamedTuple):
  """The steps of denoising chains that are fine-tuned, the first taken first.

  The last column is step t = 0.

  Attributes:
    inputs: `[B, K, A]`, the noisy action before each step.
    draws: `[B, K, A]`, what the step drew, before it was clipped.
    log_probs: `[B, K]` log densities of `draws`.
  """

  inputs: tf.Tensor
  draws: tf.Tensor
  log_probs: tf.Tensor


@gin.configurable(denylist=['policy'])
class DenoisingChain:
  """Draws actions step by step from the trained weights, with likelihoods.

  The inner decision process of Ren et al. (2024), arXiv:2409.00588: a step's
  state is (s, x, t), its action the draw u ~ N(mean(s, x, t), std_t^2) and the
  next state clip(u, -1, 1). The sampler clips after every step; here
  clipping belongs to the process that is acted in, not to the policy. The
  likelihood is that of u, so that its gradient is exact where u was clipped.

  std_t is the sampler's own, sqrt(beta_t) and 0 for the last step, but at least
  `min_sampling_std`.

  Note: The first, not fine-tuned steps of a chain are drawn from the weights as
  they become, like those of a deployed policy. The paper keeps a second network
  for them.
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
      policy: Whose steps are taken.
      num_fine_tuned_steps: The last denoising steps that are fine-tuned; all
        where None.
      min_sampling_std: Least standard deviation of a draw: exploration.
      min_log_prob_std: Least standard deviation in a likelihood.

    Raises:
      TypeError: If `policy` is no `DiffusionPolicy`.
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
    """Draws one action a state.

    Args:
      observation: Nest of `[B, ...]`, raw.
      seed: `[2]` int32. Without a floor the draws are those of the policy.

    Returns:
      Actions `[B, A]` in [-1, 1], and how they came about.
    """
    features = self._policy.encoder(observation)
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
    """Computes log densities of steps under the trained weights.

    Args:
      observation: Nest of `[B, ...]`, raw.
      inputs: `[B, A]`, noisy actions before the steps.
      draws: `[B, A]`, what the steps drew, not clipped.
      t: `[B]` int32, which step each is; 0 is the last one.

    Returns:
      `[B]`, summed over an action's numbers.
    """
    tf.debugging.assert_shapes(
        [(inputs, ('B', 'A')), (draws, ('B', 'A')), (t, ('B',))]
    )
    mean = self._mean(self._policy.encoder(observation), inputs, t)
    return self._log_density(mean, draws, t)

  def start_from_average(self) -> None:
    """Sets the trained weights to their average, which was evaluated."""
    self._policy.networks.start_from_average()

  def _mean(self, features, x, t):
    noise = self._policy.networks.trained(features, x, t)
    return diffusion.denoise_mean(x, noise, t, self._policy.betas)

  def _log_density(self, mean, draw, t):
    std = tf.gather(self._log_prob_stds, t)[:, tf.newaxis]
    costs = tf.square((draw - mean) / std) + 2.0 * tf.math.log(std)
    return -0.5 * tf.reduce_sum(costs + math.log(2.0 * math.pi), axis=-1)
