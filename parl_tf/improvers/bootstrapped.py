"""Policy improvement of IBRL: the critic's gradient through the actor."""

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.improvers import improver
from parl_tf.policies import bootstrapped


@gin.configurable
class BootstrappedImprover(improver.PolicyImprover):
  """Trains the actor of a `BootstrappedPolicy`; imitation stays as it is.

  Implements Hu et al. (2023), arXiv:2311.02198: the actor, with dropout and
  noise, maximizes the least value of the critic's members, as in the program
  of the authors.
  """

  def trained_variables(self, policy):
    if not isinstance(policy, bootstrapped.BootstrappedPolicy):
      raise TypeError(
          '`BootstrappedImprover` needs a `BootstrappedPolicy`, got '
          f'{type(policy).__name__}.'
      )
    return policy.improver_variables

  def update_average(self, policy):
    policy.update_actor_average()

  def loss(self, transition, policy, critic, source, seed):
    del source  # The loss differentiates the actor's own sample.
    observation = transition.time_step.observation
    action = policy.act(
        observation,
        1,
        randomness.fold_in(seed, 'actor'),
        averaged=False,
        dropout_seed=randomness.fold_in(seed, 'dropout'),
    )
    members = critic.bind(observation).members(action)  # [E, B, 1]
    value = tf.reduce_min(members, axis=0)[:, 0]
    metrics = {
        'losses/reparameterized': -tf.reduce_mean(value),
        'values/policy': tf.reduce_mean(value),
    }
    return types.ImproverLoss(-value, metrics)
