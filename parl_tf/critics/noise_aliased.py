"""TD learning of Q(s, a), and its value of the noise of a flow policy: DSRL."""

import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import td


@gin.configurable(denylist=['spec'])
class NoiseAliasedCritic(td.TDCritic):
  """Adds Q_w(s, w), fitted to Q(s, pi(s, w)), to a TD critic.

  Implements the noise-aliased critics of DSRL, Wagenmaker et al. (2025),
  arXiv:2506.15799: Q(s, a) learns from all data, whatever noise led to its
  actions, and Q_w from w ~ N(0, I) transported by the policy.
  """

  def __init__(self, spec: types.ModelSpec, **kwargs):
    """Initializes the ensembles of Q, its target copy, and Q_w.

    Args:
      spec: See `types.ModelSpec`.
      **kwargs: Arguments of `TDCritic`.
    """
    super().__init__(spec, **kwargs)
    self._noise_network = self._network_ctor(
        self._encoder.size, spec.action_size, 1, spec.seed + 1
    )
    if self._initial_value is not None:
      self.start_at(self._initial_value)

  def start_at(self, value):
    super().start_at(value)
    self._noise_network.set_head_bias(np.array([value]))

  @property
  def trainable_variables(self):
    return (
        *super().trainable_variables,
        *self._noise_network.trainable_variables,
    )

  def noise_value(
      self, observation: types.Nest, noise: tf.Tensor
  ) -> tf.Tensor:
    """Returns Q_w `[B, N]` of noise `[B, N, A]`, aggregated over members."""
    values = self._noise_members(self.encode(observation), noise)
    return self._aggregate(values, axis=0)

  def loss(self, transition, source, seed) -> types.CriticLoss:
    observation = transition.time_step.observation
    features = self.encode(observation)
    td_loss, metrics = self._td_loss(features, transition, source, seed)
    action = transition.action_step.action
    noise = randomness.normal(
        randomness.fold_in(seed, 'noise'),
        [tf.shape(action)[0], 1, action.shape[-1]],
    )
    # Q and the policy are held fixed: only Q_w follows.
    actions = tf.stop_gradient(
        source.here.policy.transport(observation, noise)
    )
    target = tf.stop_gradient(self.bind_features(features)(actions))
    values = self._noise_members(features, noise)  # [E, B, 1]
    error = tf.square(values - target[tf.newaxis])[:, :, 0]
    noise_loss = tf.reduce_mean(error, axis=0)
    metrics = {**metrics, 'losses/value': tf.reduce_mean(noise_loss)}
    return types.CriticLoss(td_loss + noise_loss, metrics)

  def _noise_members(self, features, noise):
    return self._noise_network.context(features)(noise)[..., 0]
