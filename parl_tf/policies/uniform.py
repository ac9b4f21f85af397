"""Uniform actions, from which a search without a learned policy starts."""

import math

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.policies import generative_policy


@gin.configurable(denylist=['spec'])
class UniformPolicy(generative_policy.GenerativePolicy):
  """Samples uniformly from [-1, 1]^A in every state; cannot be trained."""

  has_density = True

  def __init__(
      self,
      spec: types.ModelSpec,
  ):
    """Initializes the policy.

    Args:
      spec: Structure of observations and dimension of actions.
    """
    super().__init__()
    self._observation_spec = spec.observation
    self._action_size = spec.action_size

  @property
  def trainable_variables(self):
    return ()

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    return self.sample_with_log_prob(
        observation, num_samples, seed, averaged, temperature
    )[0]

  def sample_with_log_prob(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    del averaged
    tf.nest.assert_same_structure(observation, self._observation_spec)
    batch_size = tf.shape(tf.nest.flatten(observation)[0])[0]
    shape = [batch_size, num_samples, self._action_size]
    actions = temperature * randomness.uniform(seed, shape, -1.0, 1.0)
    log_prob = tf.fill(shape[:2], -self._action_size * math.log(2.0))
    return tf.clip_by_value(actions, -1.0, 1.0), log_prob

  def distillation_loss(self, observation, action, seed, mask=None):
    raise ValueError('A uniform policy cannot be trained.')
