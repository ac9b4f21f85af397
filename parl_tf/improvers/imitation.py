"""Imitation of the data's actions: behaviour cloning."""

import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.improvers import improver


@gin.configurable
class ImitationImprover(improver.PolicyImprover):
  """The policy's own supervised loss on the data's actions."""

  def loss(self, transition, policy, critic, source, seed):
    del critic, source
    per_example = policy.distillation_loss(
        transition.time_step.observation, transition.action_step.action, seed
    )
    metrics = {'losses/imitation': tf.reduce_mean(per_example)}
    return types.ImproverLoss(per_example, metrics)
