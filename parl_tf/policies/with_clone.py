"""A policy beside its clone: both propose actions."""

import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.policies import composite_policy
from parl_tf.policies import generative_policy


class PolicyWithClone(composite_policy.CompositePolicy):
  """Proposes actions of a policy and of its copy from when the phase began.

  A policy that learns from the search narrows, also where the critic is wrong.
  The copy, in the online phase usually the clone, keeps proposing what the data
  did, so that the search is not confined to what the policy has learned.

  Attributes:
    base: The policy, which is trained. Alone, it draws the first sample.
    clone: The copy.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      base_ctor,
      share: float,
  ):
    """Initializes both.

    Args:
      spec: See `types.ModelSpec`.
      base_ctor: Makes the policy.
      share: Fraction in (0, 1) of the samples, rounded down, that the clone
        draws.

    Raises:
      ValueError: If the policy is served by another process or trains adapters.
    """
    super().__init__(spec, base_ctor)
    if self.base.is_served or self.base.adapters is not None:
      raise ValueError(
          'A policy that is served or trains adapters cannot be kept beside '
          f'its clone, got {type(self.base).__name__}.'
      )
    self.clone: generative_policy.GenerativePolicy = base_ctor(spec)
    self._share = share

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
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ):
    num_cloned = int(self._share * num_samples)
    drawn = self.base.sample(
        observation,
        num_samples - num_cloned,
        randomness.fold_in(seed, 'base'),
        averaged,
        temperature,
    )
    if not num_cloned:
      return drawn
    cloned = self.clone.sample(
        observation,
        num_cloned,
        randomness.fold_in(seed, 'clone'),
        averaged,
        temperature,
    )
    return tf.concat([drawn, cloned], axis=1)
