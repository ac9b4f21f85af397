"""A policy beside its clone, which proposes actions to searches."""

import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.policies import composite_policy
from parl_tf.policies import generative_policy


class PolicyWithClone(composite_policy.CompositePolicy):
  """A policy and its copy from the beginning of the phase.

  A policy that learns from a search narrows, also to actions that the critic
  overrates. The copy, online the clone, still proposes what the data did, so
  that a search (`Search.clone_share`) is not confined to what was learned.

  Attributes:
    base: The policy, which is trained.
    clone: The copy.
  """

  def __init__(self, spec: types.ModelSpec, base_ctor):
    """Initializes both.

    Args:
      spec: See `types.ModelSpec`.
      base_ctor: Makes the policy.

    Raises:
      ValueError: If the policy is served by another process or trains adapters.
    """
    super().__init__(spec, base_ctor)
    if self.base.is_served or self.base.adapters is not None:
      raise ValueError(
          '`Search.clone_share` must be 0 for a policy that is served or '
          f'trains adapters, such as {type(self.base).__name__}.'
      )
    self.has_density = self.base.has_density
    self.clone: generative_policy.GenerativePolicy = base_ctor(spec)

  @property
  def cloned(self):
    return self.base.cloned

  @property
  def without_clone(self):
    return self.base

  @property
  def improver_variables(self):
    return self.base.improver_variables

  def keep_clone(self):
    for kept, variable in zip(
        self.clone.variables, self.base.variables, strict=True
    ):
      kept.assign(variable)

  def sample(
      self,
      observation,
      num_samples,
      seed,
      averaged=True,
      temperature=1.0,
      clone_share=0.0,
  ):
    """Draws actions; see `GenerativePolicy`.

    Args:
      observation: Nest of `[B, ...]`, raw.
      num_samples: N, the number of actions per state.
      seed: `[2]` int32.
      averaged: Whether to use the moving average of the weights, if it exists.
      temperature: Scale of the noise.
      clone_share: Fraction of the samples, rounded down, that the clone draws.

    Returns:
      `[B, N, A]` actions in [-1, 1], the policy's own first.
    """
    num_cloned = int(clone_share * num_samples)
    drawn = self.base.sample(
        observation, num_samples - num_cloned, seed, averaged, temperature
    )
    if not num_cloned:
      return drawn
    seed = randomness.fold_in(seed, 'clone')
    cloned = self.clone.sample(
        observation, num_cloned, seed, averaged, temperature
    )
    return tf.concat([drawn, cloned], axis=1)

  def sample_with_log_prob(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    return self.base.sample_with_log_prob(
        observation, num_samples, seed, averaged, temperature
    )
