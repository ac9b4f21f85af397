"""Self-distillation: imitation of the policy's own samples."""

import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.improvers import improver


@gin.configurable
class SelfDistillationImprover(improver.PolicyImprover):
  """Applies the policy's supervised loss to one of its own samples.

  This is `DistillationImprover` with N = 1 and T = 0, which no critic can
  influence. Samples of a low temperature remove noise from the policy. It is a
  control: what it reaches is not due to the critic.
  """

  def check_policy(self, policy):
    """Accepts any policy: this control imitates the policy's own samples."""

  def loss(self, transition, policy, critic, source, seed):
    del critic
    observation = transition.time_step.observation
    action = tf.stop_gradient(source.here.base()[:, 0])
    per_example = policy.distillation_loss(observation, action, seed)
    return types.ImproverLoss(
        per_example, {'losses/distillation': tf.reduce_mean(per_example)}
    )
