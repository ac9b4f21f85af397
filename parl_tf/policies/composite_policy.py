"""Base class of policies that build on a base policy."""

from typing import Callable

from parl_tf import types
from parl_tf.policies import generative_policy


class CompositePolicy(generative_policy.GenerativePolicy):
  """A base policy, which imitates, and a part that only an improver trains.

  Subclasses add that part, its `improver_variables`, and `sample`.

  Attributes:
    base: The base policy, which behavior cloning and `distillation_loss` train.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      base_ctor: Callable[..., generative_policy.GenerativePolicy],
  ):
    """Initializes the base policy.

    Args:
      spec: See `types.ModelSpec`.
      base_ctor: Makes the base policy.
    """
    super().__init__()
    self.base = base_ctor(spec)
    self.jit_compile_sampling = self.base.jit_compile_sampling

  @property
  def cloned(self):
    return self.base.cloned

  @property
  def acting_encoder(self):
    return self.base.acting_encoder

  @property
  def adapters(self):
    """Adapters of the base policy, or None. Exports do not merge them."""
    return self.base.adapters

  @property
  def vocabulary_sizes(self):
    return self.base.vocabulary_sizes

  @property
  def trainable_variables(self):
    return self.base.trainable_variables

  def distillation_loss(self, observation, action, seed, mask=None):
    options = {} if mask is None else {'mask': mask}
    return self.base.distillation_loss(observation, action, seed, **options)

  def update_average(self):
    self.base.update_average()
