"""Imitation of the data's actions: behaviour cloning."""

from typing import Optional

import gin
import tensorflow as tf

from parl_tf import replicas
from parl_tf import types
from parl_tf.improvers import improver


@gin.configurable
class ImitationImprover(improver.PolicyImprover):
  """The policy's own supervised loss on the data's actions."""

  def __init__(self, min_return: Optional[float] = None):
    """Initializes the improver.

    Args:
      min_return: Least Monte-Carlo return of a step that is imitated (filtered
        behaviour cloning), in scaled rewards; None imitates every step. Where a
        domain gives episodes that never succeed the return of one that goes on
        for ever, a number just above that keeps those that succeed.
    """
    super().__init__()
    self._min_return = min_return

  def loss(self, transition, policy, critic, source, seed):
    del critic, source
    per_example = improver.supervised_loss(policy, transition, seed)
    metrics = {}
    if self._min_return is not None:
      returns = transition.action_step.info['monte_carlo_return']
      is_kept = tf.cast(returns >= self._min_return, tf.float32)
      share = replicas.mean(tf.reduce_mean(is_kept))
      metrics['policy/kept'] = share
      # A mean over the steps that are kept, however few they are.
      per_example *= is_kept / tf.maximum(share, 1e-6)
    metrics['losses/imitation'] = tf.reduce_mean(per_example)
    return types.ImproverLoss(per_example, metrics)
