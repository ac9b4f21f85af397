"""A fixed flow policy whose noise an actor chooses: DSRL."""

from typing import Callable, Sequence, Tuple

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.policies import composite_policy
from parl_tf.policies import flow
from parl_tf.policies import gaussian


@gin.configurable(denylist=['spec'])
class SteeredPolicy(composite_policy.CompositePolicy):
  """Draws noise from an actor, and transports it to actions by a fixed flow.

  The policy of DSRL, Wagenmaker et al. (2025), arXiv:2506.15799: an action is a
  function pi(s, w) of state and noise, and RL chooses w. `distillation_loss`
  trains the flow, `SteeringImprover` the actor. Until the actor's first update,
  w ~ N(0, I), so that the cloned policy acts.

  Attributes:
    base: The flow policy.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      base_ctor: Callable[..., flow.FlowPolicy] = flow.FlowPolicy,
      max_noise: float = 1.5,
      hidden_sizes: Sequence[int] = (256, 256, 256),
  ):
    """Initializes the flow and the actor.

    Args:
      spec: See `types.ModelSpec`.
      base_ctor: Makes the flow policy.
      max_noise: Bound of |w| in each dimension.
      hidden_sizes: Widths of the actor's ReLU layers.

    Raises:
      ValueError: If `max_noise` is not positive.
      TypeError: If the base policy has no `transport`.
    """
    super().__init__(spec, base_ctor)
    if not hasattr(self.base, 'transport'):
      raise TypeError(
          '`base_ctor` of a SteeredPolicy must make a flow policy, whose'
          ' `transport` maps noise to actions, got a'
          f' {type(self.base).__name__}.'
      )
    if not max_noise > 0.0:
      raise ValueError(f'`max_noise` must be positive, got {max_noise}.')
    self._max_noise = max_noise
    self._action_size = spec.action_size
    self._actor = gaussian.GaussianPolicy(
        spec._replace(seed=spec.seed + 1), hidden_sizes=hidden_sizes
    )
    # A number, as weights that are sent to collectors are.
    self._is_steered = tf.Variable(
        0.0,
        trainable=False,
        aggregation=tf.VariableAggregation.MEAN,
        name='is_steered',
    )

  @property
  def improver_variables(self):
    return self._actor.trainable_variables

  def sample(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    chosen, _ = self.choose_noise(observation, num_samples, seed, temperature)
    own = temperature * randomness.normal(
        randomness.fold_in(seed, 'own'), tf.shape(chosen)
    )
    noise = tf.where(self._is_steered.read_value() > 0.0, chosen, own)
    return self.transport(observation, noise, averaged)

  def choose_noise(
      self,
      observation: types.Nest,
      num_samples: int,
      seed: tf.Tensor,
      temperature: float = 1.0,
  ) -> Tuple[tf.Tensor, tf.Tensor]:
    """Draws the actor's noise.

    Args:
      observation: Nest of `[B, ...]`, raw.
      num_samples: N.
      seed: `[2]` int32.
      temperature: Scale of the actor's own noise before tanh.

    Returns:
      Noise `[B, N, A]` and the log densities `[B, N]` of noise / bound.
    """
    action, log_prob = self._actor.sample_with_log_prob(
        observation, num_samples, seed, temperature=temperature
    )
    return self._max_noise * action, log_prob

  def transport(
      self, observation: types.Nest, noise: tf.Tensor, averaged: bool = True
  ) -> tf.Tensor:
    """Returns the flow's actions `[B, N, A]` of noise `[B, N, A]`."""
    return self.base.transport(observation, noise, averaged)

  def begin_steering(self) -> None:
    """Draws all further noise from the actor."""
    self._is_steered.assign(1.0)
