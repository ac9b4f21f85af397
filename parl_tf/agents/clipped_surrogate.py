"""The clipped surrogate loss of a diffusion policy's denoising steps."""

from typing import Callable

import gin
import tensorflow as tf

from parl_tf import losses
from parl_tf import types
from parl_tf.policies import denoising_chain
from parl_tf.policies import diffusion


@gin.configurable(denylist=['policy'])
class ClippedSurrogate:
  """PPO's policy loss, for the denoising steps of decisions (DPPO).

  Implements Ren et al. (2024), arXiv:2409.00588. All denoising steps t of a
  decision share its advantage A(s, a), discounted for earlier steps:

    L = E[-min(ratio_t A_t, clip(ratio_t, 1 - epsilon_t, 1 + epsilon_t) A_t)],
    A_t = denoising_gamma^t A(s, a).

  Attributes:
    chain: The policy's denoising chain.
  """

  def __init__(
      self,
      policy: diffusion.DiffusionPolicy,
      *,
      chain_ctor: Callable[..., denoising_chain.DenoisingChain] = (
          denoising_chain.DenoisingChain
      ),
      denoising_gamma: float = 0.99,
      clip_ratio: float = 0.1,
      denoising_clip_decay: float = 1.0,
  ):
    """Initializes the loss.

    Args:
      policy: Policy to train.
      chain_ctor: Makes a `DenoisingChain` from the policy.
      denoising_gamma: Factor on the advantage for each denoising step before
        the last one.
      clip_ratio: epsilon of the last denoising step. Ratios are those of whole
        actions, so it clips more with longer chunks.
      denoising_clip_decay: Factor on epsilon for each step before the last one.

    Raises:
      TypeError: If `policy` is not a `DiffusionPolicy`.
      ValueError: If a number is not in [0, 1].
    """
    fractions = dict(
        denoising_gamma=denoising_gamma,
        clip_ratio=clip_ratio,
        denoising_clip_decay=denoising_clip_decay,
    )
    for name, value in fractions.items():
      if not 0.0 <= value <= 1.0:
        raise ValueError(f'`{name}` must be in [0, 1], got {value}.')
    self.chain = chain_ctor(policy)
    self._denoising_gamma = denoising_gamma
    self._clip_ratio = clip_ratio
    self._denoising_clip_decay = denoising_clip_decay

  def __call__(
      self,
      observation: types.Nest,
      steps: denoising_chain.Chain,
      t: tf.Tensor,
      advantage: tf.Tensor,
  ) -> types.ImproverLoss:
    """Computes the loss of single denoising steps.

    Args:
      observation: Nest of `[B, ...]`, raw, before the decisions.
      steps: Chains of one step, without the axis of steps.
      t: `[B]` int32 denoising steps; 0 is the last one.
      advantage: `[B]` advantages of the decisions.
    """
    log_probs = self.chain.log_prob(observation, steps.inputs, steps.draws, t)
    log_ratio = log_probs - steps.log_probs
    t = tf.cast(t, tf.float32)
    clip_ratio = self._clip_ratio * self._denoising_clip_decay**t
    per_example = losses.clipped_surrogate(
        log_ratio, self._denoising_gamma**t * advantage, clip_ratio
    )
    ratio = tf.exp(log_ratio)
    is_clipped = tf.abs(ratio - 1.0) > clip_ratio
    metrics = {
        'losses/surrogate': tf.reduce_mean(per_example),
        # Less noisy than the mean of -log_ratio, and never negative.
        'policy/kl': tf.reduce_mean(ratio - 1.0 - log_ratio),
        'policy/clipped': tf.reduce_mean(tf.cast(is_clipped, tf.float32)),
    }
    return types.ImproverLoss(per_example, metrics)
