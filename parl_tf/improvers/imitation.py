"""Imitation of the dataset actions: behavior cloning."""

from typing import Optional

import gin
import tensorflow as tf

from parl_tf import replicas
from parl_tf import types
from parl_tf.improvers import improver


@gin.configurable
class ImitationImprover(improver.PolicyImprover):
  """Applies the policy's supervised loss to the dataset actions."""

  def __init__(self, min_return: Optional[float] = None):
    """Initializes the improver.

    Args:
      min_return: Minimum Monte-Carlo return, in scaled rewards, of the steps to
        imitate (filtered behavior cloning). None imitates every step. If a
        domain gives unsuccessful episodes the return of an infinite episode,
        a value just above that return keeps the successful episodes.
    """
    super().__init__()
    self._min_return = min_return

  def loss(self, transition, policy, critic, source, seed):
    del critic, source
    per_example = improver.supervised_loss(policy, transition, seed)
    metrics = {}
    if self._min_return is not None:
      returns = types.stored(transition.action_step.info, 'monte_carlo_return')
      is_kept = tf.cast(returns >= self._min_return, tf.float32)
      share = replicas.mean(tf.reduce_mean(is_kept))
      metrics['policy/kept'] = share
      # The batch mean becomes the mean over the kept steps.
      per_example *= is_kept / tf.maximum(share, 1e-6)
    metrics['losses/imitation'] = tf.reduce_mean(per_example)
    return types.ImproverLoss(per_example, metrics)
