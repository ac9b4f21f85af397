"""One-step policy that a flow policy teaches: the policy of FQL."""

from typing import Callable

import gin
import tensorflow as tf

from parl_tf import losses
from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import flow_network
from parl_tf.networks import observation_encoder
from parl_tf.policies import flow
from parl_tf.policies import generative_policy


@gin.configurable(denylist=['spec'])
class OneStepFlowPolicy(generative_policy.GenerativePolicy):
  """Draws actions mu(s, z) with one pass through a network, z ~ N(0, I).

  Implements the policies of FQL, Park et al. (2025), arXiv:2502.02538. A flow
  policy clones the dataset. The one-step policy learns to map each noise to the
  action to which the flow transports it, which costs many passes. Gradients of
  a critic through samples therefore never pass the flow.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      num_steps: int = 10,
      distillation_weight: float = 1.0,
      network_ctor: Callable[..., flow_network.FlowNetwork] = (
          flow_network.FlowNetwork
      ),
  ):
    """Initializes the flow and the one-step network.

    Args:
      spec: See `types.ModelSpec`.
      num_steps: Number of Euler steps of the flow.
      distillation_weight: alpha, the weight of the distance from the flow. Both
        networks have their own variables, so it matters only beside another
        loss of the one-step policy, such as minus its value.
      network_ctor: Makes both `FlowNetwork`s.

    Raises:
      ValueError: If a number is out of range.
    """
    super().__init__()
    if not distillation_weight > 0:
      raise ValueError(
          '`distillation_weight` must be positive, got '
          f'{distillation_weight}.'
      )
    self._action_size = spec.action_size
    self._weight = distillation_weight
    self._flow = flow.FlowPolicy(
        spec,
        num_steps=num_steps,
        averaging_rate=None,
        network_ctor=network_ctor,
    )
    self._encoder = observation_encoder.ObservationEncoder(
        spec.observation, spec.normalization, spec.seed
    )
    self._network = network_ctor(
        self._encoder.size, spec.action_size, spec.seed + 1, has_time=False
    )

  @property
  def acting_encoder(self):
    return self._encoder

  @property
  def trainable_variables(self):
    return (
        *self._network.trainable_variables,
        *self._encoder.trainable_variables,
        *self._flow.trainable_variables,
    )

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    """Draws actions; `temperature` scales the noise.

    Temperature 0 returns the action of noise 0, which need not be a mode.
    """
    del averaged  # The policy has no average.
    batch_size = tf.shape(tf.nest.flatten(observation)[0])[0]
    shape = [batch_size, num_samples, self._action_size]
    noise = temperature * randomness.normal(seed, shape)
    return tf.clip_by_value(self._act(observation, noise), -1.0, 1.0)

  def distillation_loss(self, observation, action, seed, mask=None):
    """Computes the flow's loss on actions plus alpha times the distance.

    The distance includes elements past the end of an episode: nothing else
    restrains the one-step policy there.
    """
    imitation = self._flow.distillation_loss(
        observation, action, randomness.fold_in(seed, 'flow'), mask
    )
    shape = [tf.shape(action)[0], 1, self._action_size]
    noise = randomness.normal(randomness.fold_in(seed, 'one step'), shape)
    distance = losses.one_step_distillation(
        self._act(observation, noise)[:, 0],
        self._flow.transport(observation, noise)[:, 0],
    )
    if mask is not None:  # A row without any element is no example.
      distance *= tf.reduce_max(mask, axis=-1)
    return imitation + self._weight * distance

  def _act(self, observation, noise):
    """Maps noise `[B, N, A]` to actions `[B, N, A]`, which are not clipped."""
    features = self._encoder(observation)
    features = tf.repeat(features, tf.shape(noise)[1], axis=0)
    rows = tf.reshape(noise, [-1, self._action_size])
    return tf.reshape(self._network(features, rows), tf.shape(noise))
