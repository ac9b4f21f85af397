"""Diffusion policy: a denoising diffusion model of actions."""

from typing import Callable, Optional

import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import averaged_network
from parl_tf.networks import denoising_network
from parl_tf.policies import generative_policy


def cosine_beta_schedule(num_steps: int) -> tf.Tensor:
  """Computes the noise variances of the cosine schedule.

  f(u) = cos^2(((u + s) / (1 + s)) pi / 2), s = 0.008, and
  beta_t = min(1 - f((t + 1) / K) / f(t / K), 0.999); Nichol and Dhariwal
  (2021), arXiv:2102.09672, section 3.2.

  Args:
    num_steps: Number of denoising steps.

  Returns:
    `[num_steps]` float32 variances, computed in float64.

  Raises:
    ValueError: If `num_steps` is not positive.
  """
  if num_steps < 1:
    raise ValueError(f'`num_steps` must be positive, got {num_steps}.')
  u = np.arange(num_steps + 1, dtype=np.float64) / num_steps
  f = np.cos((u + 0.008) / 1.008 * np.pi / 2.0) ** 2
  return tf.constant(np.minimum(1.0 - f[1:] / f[:-1], 0.999), tf.float32)


def variance_preserving_beta_schedule(num_steps: int) -> tf.Tensor:
  """Computes the noise variances of a discretized continuous-time diffusion.

  beta_t = 1 - exp(-b / K - (B - b) (2 t + 1) / (2 K^2)), b = 0.1, B = 10; Xiao
  et al. (2022), arXiv:2112.07804, as in Diffusion Q-learning.

  Args:
    num_steps: Number of denoising steps, K.

  Returns:
    `[num_steps]` float32 variances, computed in float64.

  Raises:
    ValueError: If `num_steps` is not positive.
  """
  if num_steps < 1:
    raise ValueError(f'`num_steps` must be positive, got {num_steps}.')
  t = np.arange(num_steps, dtype=np.float64)
  rate = 0.1 / num_steps + 9.9 * (2.0 * t + 1.0) / (2.0 * num_steps**2)
  return tf.constant(1.0 - np.exp(-rate), tf.float32)


SCHEDULES = {
    'cosine': cosine_beta_schedule,
    'variance_preserving': variance_preserving_beta_schedule,
}
"""Schedules of the noise variances, by name."""


def add_noise(
    action: tf.Tensor, noise: tf.Tensor, alpha_bar: tf.Tensor
) -> tf.Tensor:
  """Diffuses actions: sqrt(alpha_bar) a + sqrt(1 - alpha_bar) noise.

  Ho et al. (2020), arXiv:2006.11239, equation (4).

  Args:
    action: `[B, A]`.
    noise: `[B, A]` standard normal.
    alpha_bar: `[B]` remaining fraction of the signal's variance.

  Returns:
    `[B, A]` noisy actions.
  """
  tf.debugging.assert_shapes(
      [(action, ('B', 'A')), (noise, ('B', 'A')), (alpha_bar, ('B',))]
  )
  alpha_bar = alpha_bar[:, tf.newaxis]
  return tf.sqrt(alpha_bar) * action + tf.sqrt(1.0 - alpha_bar) * noise


def denoise_mean(
    x: tf.Tensor, predicted_noise: tf.Tensor, t: tf.Tensor, betas: tf.Tensor
) -> tf.Tensor:
  """Computes the mean of one denoising step, before noise and clipping.

  (x - (1 - alpha_t) / sqrt(1 - alpha_bar_t) noise) / sqrt(alpha_t); Ho et al.
  (2020), arXiv:2006.11239, equation (11).

  Args:
    x: `[B, A]` noisy actions.
    predicted_noise: `[B, A]`.
    t: `[B]` int32 denoising steps; 0 is the last one.
    betas: `[num_steps]` variances.

  Returns:
    `[B, A]` means.
  """
  tf.debugging.assert_shapes([
      (x, ('B', 'A')),
      (predicted_noise, ('B', 'A')),
      (t, ('B',)),
      (betas, ('K',)),
  ])
  alphas = 1.0 - betas
  alpha = tf.gather(alphas, t)[:, tf.newaxis]
  alpha_bar = tf.gather(tf.math.cumprod(alphas), t)[:, tf.newaxis]
  scale = (1.0 - alpha) / tf.sqrt(1.0 - alpha_bar)
  return (x - scale * predicted_noise) / tf.sqrt(alpha)


@gin.configurable(denylist=['spec'])
class DiffusionPolicy(generative_policy.GenerativePolicy):
  """DDPM over actions, with the architecture of IDQL.

  Implements the policy of Hansen-Estruch et al. (2023), arXiv:2304.10573, with
  loss (3.1) of PA-RL, arXiv:2412.06685. Samples come from a moving average of
  the weights.

  Attributes:
    betas: `[K_d]` float32 noise variances, starting with step t = 0.
    networks: The trained network and its average. Each maps features `[B, F]`,
      noisy actions `[B, A]` and steps `[B]` to predicted noise.
    action_size: A, the dimension of an action.
  """

  jit_compile_sampling = True
  has_equal_samples = True

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      num_denoising_steps: int = 5,
      schedule: str = 'cosine',
      averaging_rate: Optional[float] = 0.002,
      network_ctor: Callable[..., denoising_network.DenoisingNetwork] = (
          denoising_network.DenoisingNetwork
      ),
  ):
    """Initializes the network and an average with the same weights.

    Args:
      spec: See `types.ModelSpec`.
      num_denoising_steps: K_d, the number of denoising steps.
      schedule: Schedule of the noise variances, one of `SCHEDULES`.
      averaging_rate: Step size of the averaged weights at every update; None
        samples from the trained weights.
      network_ctor: Makes the `DenoisingNetwork`.

    Raises:
      ValueError: If a number is out of range.
    """
    super().__init__()
    if schedule not in SCHEDULES:
      raise ValueError(
          f'`schedule` must be one of {list(SCHEDULES)}, got {schedule!r}.'
      )
    self.action_size = spec.action_size
    self._num_steps = num_denoising_steps
    self.betas = SCHEDULES[schedule](num_denoising_steps)
    self._alpha_bars = tf.math.cumprod(1.0 - self.betas)
    self.networks = averaged_network.AveragedNetwork(
        spec, network_ctor, averaging_rate
    )

  @property
  def acting_encoder(self):
    return self.networks.acting_encoder

  @property
  def trainable_variables(self):
    return self.networks.trainable_variables

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    network = self.networks.select(averaged)
    features = self.networks.encode(observation, averaged)
    batch_size = tf.shape(features)[0]
    shape = [batch_size, num_samples, self.action_size]
    features = tf.repeat(features, num_samples, axis=0)  # [B, F] -> [B N, F]

    def draw(t):
      noise = randomness.normal(randomness.fold_in(seed, t), shape)
      return tf.reshape(noise, [-1, self.action_size])

    def step(i, x):
      t = self._num_steps - 1 - i
      noise = network(features, x, tf.reshape(t, [1]))
      steps = tf.fill([tf.shape(x)[0]], t)
      x = denoise_mean(x, noise, steps, self.betas)
      deviation = tf.where(t > 0, tf.sqrt(self.betas[t]), 0.0)
      x += deviation * temperature * draw(t)
      return i + 1, tf.clip_by_value(x, -1.0, 1.0)

    _, x = tf.while_loop(
        lambda i, _: i < self._num_steps,
        step,
        (tf.constant(0), draw(self._num_steps)),
        # TensorFlow infers a static batch size for the initial value only.
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, self.action_size]),
        ),
        maximum_iterations=self._num_steps,
    )
    return tf.reshape(x, shape)

  def distillation_loss(self, observation, action, seed, mask=None):
    batch_size = tf.shape(action)[0]
    t = randomness.integers(
        randomness.fold_in(seed, 'time'), [batch_size], self._num_steps
    )
    noise = randomness.normal(
        randomness.fold_in(seed, 'noise'), tf.shape(action)
    )
    noisy = add_noise(action, noise, tf.gather(self._alpha_bars, t))
    predicted = self.networks.trained(
        self.networks.encode(observation, averaged=False),
        noisy,
        t,
        dropout_seed=randomness.fold_in(seed, 'dropout'),
    )
    return generative_policy.sum_of_costs(tf.square(predicted - noise), mask)

  def update_average(self):
    self.networks.update()
