"""An imitation policy and an actor that both propose actions: IBRL."""

from typing import Callable, Optional, Sequence

import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import averaged_network
from parl_tf.networks import blocks
from parl_tf.policies import composite_policy
from parl_tf.policies import generative_policy


class Actor(tf.keras.layers.Layer):
  """Maps features to an action: ReLU layers with dropout, then tanh."""

  def __init__(
      self,
      feature_size: int,
      action_size: int,
      seed: int,
      *,
      hidden_sizes: Sequence[int],
      dropout_rate: float,
  ):
    """Initializes the layers.

    Args:
      feature_size: Width of the observation features.
      action_size: A, the dimension of an action.
      seed: Integer seed of the initial weights.
      hidden_sizes: Widths of the hidden layers.
      dropout_rate: Fraction of each hidden layer's outputs to drop.
    """
    super().__init__()
    sizes = [feature_size, *hidden_sizes]
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes)).tolist()
    self._hidden = [
        blocks.make_dense(sizes[i + 1], sizes[i], seeds[i], tf.nn.relu)
        for i in range(len(hidden_sizes))
    ]
    self._output = blocks.make_dense(
        action_size, sizes[-1], seeds[-1], tf.nn.tanh
    )
    self._dropout = blocks.StatelessDropout(dropout_rate)

  def call(
      self, features: tf.Tensor, dropout_seed: Optional[tf.Tensor] = None
  ) -> tf.Tensor:
    """Returns actions `[B, A]`; drops nothing without a seed."""
    x = features
    for i, layer in enumerate(self._hidden):
      seed = None
      if dropout_seed is not None:
        seed = randomness.fold_in(dropout_seed, i)
      x = self._dropout(layer(x), seed)
    return self._output(x)


@gin.configurable(denylist=['spec'])
class BootstrappedPolicy(composite_policy.CompositePolicy):
  """Proposes actions of an imitation policy and of an actor.

  The policies of IBRL, Hu et al. (2023), arXiv:2311.02198: half of the samples
  are the imitation policy's, the others the deterministic actor's plus noise. A
  search chooses between them. `distillation_loss` trains the imitation policy,
  `BootstrappedImprover` the actor.

  Attributes:
    base: The imitation policy.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      base_ctor: Callable[..., generative_policy.GenerativePolicy] = (
          gin.REQUIRED
      ),
      hidden_sizes: Sequence[int] = (1024, 1024, 1024),
      dropout_rate: float = 0.5,
      averaging_rate: Optional[float] = 0.01,
      noise_std: float = 0.1,
      max_noise: float = 0.3,
  ):
    """Initializes both policies.

    Args:
      spec: See `types.ModelSpec`.
      base_ctor: Makes the imitation policy.
      hidden_sizes: Widths of the actor's hidden layers.
      dropout_rate: Dropout of the actor, in its loss only.
      averaging_rate: Step size of the actor's averaged weights, which act and
        make targets; None uses the trained weights.
      noise_std: Standard deviation of the actor's noise, in action units.
      max_noise: Bound of the actor's noise, in action units.

    Raises:
      ValueError: If a number is out of range.
    """
    super().__init__(spec, base_ctor)
    if not noise_std >= 0.0 or not max_noise >= 0.0:
      raise ValueError(
          '`noise_std` and `max_noise` must not be negative, got '
          f'{noise_std} and {max_noise}.'
      )
    self._noise_std = noise_std
    self._max_noise = max_noise

    def make_actor(feature_size, action_size, seed):
      return Actor(
          feature_size,
          action_size,
          seed,
          hidden_sizes=hidden_sizes,
          dropout_rate=dropout_rate,
      )

    self._actor = averaged_network.AveragedNetwork(
        spec._replace(seed=spec.seed + 1), make_actor, averaging_rate
    )

  @property
  def draws_alike(self):
    return False  # One half differs from the other.

  @property
  def improver_variables(self):
    return self._actor.trainable_variables

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    num_acted = num_samples // 2
    base = self.base.sample(
        observation,
        num_samples - num_acted,
        randomness.fold_in(seed, 'base'),
        averaged,
        temperature,
    )
    if not num_acted:
      return base
    acted = self.act(
        observation,
        num_acted,
        randomness.fold_in(seed, 'actor'),
        averaged=averaged,
        temperature=temperature,
    )
    return tf.concat([base, acted], axis=1)

  def act(
      self,
      observation: types.Nest,
      num_samples: int,
      seed: tf.Tensor,
      *,
      averaged: bool,
      temperature: float = 1.0,
      dropout_seed: Optional[tf.Tensor] = None,
  ) -> tf.Tensor:
    """Draws actions `[B, N, A]` of the actor.

    Args:
      observation: Nest of `[B, ...]`, raw.
      num_samples: N, which differ by their noise.
      seed: `[2]` int32.
      averaged: Whether to use the averaged weights.
      temperature: Scale of the noise.
      dropout_seed: `[2]` int32; None drops nothing.
    """
    mean = self._actor.select(averaged)(
        self._actor.encode(observation, averaged), dropout_seed
    )
    shape = [tf.shape(mean)[0], num_samples, mean.shape[-1]]
    noise = temperature * self._noise_std * randomness.normal(seed, shape)
    noise = tf.clip_by_value(noise, -self._max_noise, self._max_noise)
    return tf.clip_by_value(mean[:, tf.newaxis] + noise, -1.0, 1.0)

  def update_actor_average(self) -> None:
    """Moves the actor's averaged weights, if any, after an update."""
    self._actor.update()
