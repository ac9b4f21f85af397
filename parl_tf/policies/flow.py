"""Flow policy: a velocity field that transports noise to actions."""

from typing import Callable, Optional

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import averaged_network
from parl_tf.networks import denoising_network
from parl_tf.policies import generative_policy


def interpolate(action: tf.Tensor, noise: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
  """Computes the points x_t = (1 - t) noise + t action of straight paths.

  Implements Liu et al. (2023), arXiv:2209.03003, equation (1), with noise as
  X_0 and actions as X_1. The velocity along a path is action - noise.

  Args:
    action: `[B, A]` ends of the paths.
    noise: `[B, A]` starts of the paths.
    t: `[B]` times in [0, 1].

  Returns:
    `[B, A]` points.
  """
  tf.debugging.assert_shapes(
      [(action, ('B', 'A')), (noise, ('B', 'A')), (t, ('B',))]
  )
  t = t[:, tf.newaxis]
  return (1.0 - t) * noise + t * action


@gin.configurable(denylist=['spec'])
class FlowPolicy(generative_policy.GenerativePolicy):
  """Flow matching on straight paths from noise to actions.

  Implements Liu et al. (2023), arXiv:2209.03003, with the network of the
  diffusion policy. Samples come from a moving average of the weights.

  Note:
    Points of a path may leave [-1, 1], because the noise does. The policy clips
    only the end of a path.
  """

  jit_compile_sampling = True
  has_equal_samples = True

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      num_steps: int = 10,
      averaging_rate: Optional[float] = 0.002,
      network_ctor: Callable[..., denoising_network.DenoisingNetwork] = (
          denoising_network.DenoisingNetwork
      ),
  ):
    """Initializes the network and an average with the same weights.

    Args:
      spec: See `types.ModelSpec`.
      num_steps: Number of equal Euler steps from noise to action.
      averaging_rate: Step size of the averaged weights at every update; None
        samples from the trained weights.
      network_ctor: Makes the `DenoisingNetwork`.

    Raises:
      ValueError: If a number is out of range.
    """
    super().__init__()
    if num_steps < 1:
      raise ValueError(f'`num_steps` must be positive, got {num_steps}.')
    self._action_size = spec.action_size
    self._num_steps = num_steps
    self._networks = averaged_network.AveragedNetwork(
        spec, network_ctor, averaging_rate
    )

  @property
  def acting_encoder(self):
    return self._networks.acting_encoder

  @property
  def trainable_variables(self):
    return self._networks.trainable_variables

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    """Draws actions; `temperature` scales the initial noise.

    Temperature 0 follows the path that starts at 0, which need not end at a
    mode.
    """
    batch_size = tf.shape(tf.nest.flatten(observation)[0])[0]
    shape = [batch_size, num_samples, self._action_size]
    noise = temperature * randomness.normal(seed, shape)
    return self.transport(observation, noise, averaged)

  def transport(
      self, observation: types.Nest, noise: tf.Tensor, averaged: bool = True
  ) -> tf.Tensor:
    """Follows the velocity from noise `[B, N, A]` to actions `[B, N, A]`."""
    network = self._networks.select(averaged)
    features = self._networks.encode(observation, averaged)
    # [B, F] -> [B N, F]
    features = tf.repeat(features, tf.shape(noise)[1], axis=0)

    def step(i, x):
      t = tf.cast(i, tf.float32) / self._num_steps
      velocity = network(features, x, tf.reshape(t, [1]))
      return i + 1, x + velocity / self._num_steps

    _, x = tf.while_loop(
        lambda i, _: i < self._num_steps,
        step,
        (tf.constant(0), tf.reshape(noise, [-1, self._action_size])),
        # TensorFlow infers a static batch size for the initial value only.
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, self._action_size]),
        ),
        maximum_iterations=self._num_steps,
    )
    return tf.reshape(tf.clip_by_value(x, -1.0, 1.0), tf.shape(noise))

  def distillation_loss(self, observation, action, seed, mask=None):
    t = randomness.uniform(
        randomness.fold_in(seed, 'time'), [tf.shape(action)[0]]
    )
    noise = randomness.normal(
        randomness.fold_in(seed, 'noise'), tf.shape(action)
    )
    velocity = self._networks.trained(
        self._networks.encode(observation, averaged=False),
        interpolate(action, noise, t),
        t,
        dropout_seed=randomness.fold_in(seed, 'dropout'),
    )
    return generative_policy.sum_of_costs(
        tf.square(velocity - (action - noise)), mask
    )

  def update_average(self):
    self._networks.update()
