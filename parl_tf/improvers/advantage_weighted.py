"""Imitation of the dataset actions, weighted by their advantages."""

import math

import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.improvers import improver


@gin.configurable
class AdvantageWeightedImprover(improver.PolicyImprover):
  """Weights the supervised loss by min(exp(beta * advantage), max_weight).

  Implements advantage-weighted regression, Peng et al. (2019),
  arXiv:1910.00177, in the form that IQL uses, Kostrikov et al. (2021),
  arXiv:2110.06169, equation (7). The critic defines the advantage; no gradient
  flows from the critic.
  """

  def __init__(self, beta: float = 3.0, max_weight: float = 100.0):
    """Initializes the improver.

    Args:
      beta: Inverse temperature, in units of 1 / return.
      max_weight: Upper bound of the weights.

    Raises:
      ValueError: If a number is not positive.
    """
    super().__init__()
    if not beta > 0 or not max_weight > 0:
      raise ValueError(
          '`beta` and `max_weight` must be positive, got '
          f'{beta} and {max_weight}.'
      )
    self._beta = beta
    self._max_weight = max_weight

  def loss(self, transition, policy, critic, source, seed):
    observation = transition.time_step.observation
    action = transition.action_step.action
    advantage = tf.stop_gradient(
        critic.advantage(observation, action, source, seed)
    )
    # Clip before the exponential, which would overflow.
    weight = tf.exp(
        tf.minimum(self._beta * advantage, math.log(self._max_weight))
    )
    loss = improver.supervised_loss(policy, transition, seed)
    metrics = {
        'losses/advantage_weighted': tf.reduce_mean(weight * loss),
        'losses/imitation': tf.reduce_mean(loss),
        'values/advantage': tf.reduce_mean(advantage),
        'policy/weight': tf.reduce_mean(weight),
    }
    return types.ImproverLoss(weight * loss, metrics)
