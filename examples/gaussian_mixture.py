"""A Gaussian mixture policy, which can represent several modes per state."""

import math

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf.networks import blocks
from parl_tf.networks import observation_encoder
from parl_tf.policies import generative_policy


@gin.configurable(denylist=['spec'])
class GaussianMixturePolicy(generative_policy.GenerativePolicy):
  """Draws a component, then an action around its mean."""

  def __init__(
      self,
      spec,
      *,
      num_components=5,
      hidden_sizes=(256, 256),
      min_log_std=-4.0,
  ):
    super().__init__()
    self._shape = (num_components, spec.action_size)
    self._min_log_std = min_log_std
    self._encoder = observation_encoder.ObservationEncoder(
        spec.observation, spec.normalization, spec.seed
    )
    sizes = [self._encoder.size, *hidden_sizes]
    self._layers = [
        blocks.make_dense(sizes[i + 1], sizes[i], spec.seed + i, tf.nn.relu)
        for i in range(len(hidden_sizes))
    ]
    num_outputs = num_components * (1 + 2 * spec.action_size)
    self._head = blocks.make_dense(
        num_outputs, sizes[-1], spec.seed + len(sizes)
    )

  @property
  def trainable_variables(self):
    layers = [*self._layers, self._head, self._encoder]
    return tuple(v for layer in layers for v in layer.trainable_variables)

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    # N rows per state, [B N, ...].
    logits, mean, log_std = (
        tf.repeat(x, num_samples, axis=0)
        for x in self._components(observation)
    )
    component = randomness.categorical(
        randomness.fold_in(seed, 'component'), logits
    )
    mean, log_std = (
        tf.gather(x, component, batch_dims=1) for x in (mean, log_std)
    )
    noise = randomness.normal(
        randomness.fold_in(seed, 'noise'), tf.shape(mean)
    )
    actions = mean + temperature * tf.exp(log_std) * noise
    actions = tf.clip_by_value(actions, -1.0, 1.0)
    return tf.reshape(actions, [-1, num_samples, self._shape[1]])

  def distillation_loss(self, observation, action, seed, mask=None):
    del seed  # The likelihood is exact.
    logits, mean, log_std = self._components(observation)
    z = (action[:, tf.newaxis] - mean) * tf.exp(-log_std)
    log_normal = -0.5 * (tf.square(z) + math.log(2.0 * math.pi)) - log_std
    if mask is not None:  # Masks steps after the end of an episode.
      log_normal *= mask[:, tf.newaxis]
    log_weight = tf.nn.log_softmax(logits)
    return -tf.reduce_logsumexp(
        log_weight + tf.reduce_sum(log_normal, axis=-1), axis=-1
    )

  def _components(self, observation):
    """Returns logits `[B, M]`, and means and log deviations `[B, M, A]`."""
    x = self._encoder(observation)
    for layer in self._layers:
      x = layer(x)
    num_components, action_size = self._shape
    outputs = self._head(x)
    logits, others = outputs[:, :num_components], outputs[:, num_components:]
    others = tf.reshape(others, [-1, num_components, 2 * action_size])
    mean, log_std = tf.split(others, 2, axis=-1)
    return logits, tf.tanh(mean), tf.maximum(log_std, self._min_log_std)
