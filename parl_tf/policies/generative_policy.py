"""The policy protocol: sampling actions and fitting given actions."""

import abc
from typing import Any, Mapping, Optional, Sequence, Tuple

import tensorflow as tf

from parl_tf import types
from parl_tf.networks import observation_encoder


def sum_of_costs(
    costs: tf.Tensor, mask: Optional[tf.Tensor]
) -> tf.Tensor:
  """Sums costs `[B, A]` over action dimensions, except those masked by 0."""
  return tf.reduce_sum(costs if mask is None else mask * costs, axis=-1)


class GenerativePolicy(tf.Module, abc.ABC):
  """A conditional generative model of actions.

  PA-RL requires only samples and the supervised loss of pre-training (section
  4.3 of arXiv:2412.06685).
  """

  has_density = False
  """Whether the policy implements `sample_with_log_prob`."""

  is_served = False
  """Whether another process draws the samples, which no graph can contain."""

  adapters: Any = None
  """`low_rank.Adapters` that are trained in place of the weights, if any."""

  jit_compile_sampling = False
  """Whether XLA should compile `sample`; set it if that is faster."""

  has_equal_samples = False
  """Whether N samples of a state equal N / 2 of each of two such states, drawn
  as one batch with the same seed. If so, both halves can run in parallel."""

  def __init_subclass__(cls, **kwargs):
    super().__init_subclass__(**kwargs)
    # Another `sample` need not have the property of the one that it replaces.
    if 'sample' in vars(cls) and 'has_equal_samples' not in vars(cls):
      cls.has_equal_samples = False

  @abc.abstractmethod
  def sample(
      self,
      observation: types.Nest,
      num_samples: int,
      seed: tf.Tensor,
      averaged: bool = True,
      temperature: float = 1.0,
  ) -> tf.Tensor:
    """Draws actions.

    Args:
      observation: Nest of `[B, ...]`, raw.
      num_samples: N, the number of actions per state.
      seed: `[2]` int32.
      averaged: Whether to use the moving average of the weights, if it exists.
      temperature: Scale of the noise; 0 returns the mode, if it is known.

    Returns:
      `[B, N, A]` actions in [-1, 1].
    """

  def sample_with_log_prob(
      self, observation, num_samples, seed, averaged=True, temperature=1.0
  ) -> Tuple[tf.Tensor, tf.Tensor]:
    """Draws actions `[B, N, A]` with their log densities `[B, N]`.

    Raises:
      ValueError: If the policy has no density.
    """
    raise ValueError(f'{type(self).__name__} has no density.')

  @abc.abstractmethod
  def distillation_loss(
      self,
      observation: types.Nest,
      action: tf.Tensor,
      seed: tf.Tensor,
      mask: Optional[tf.Tensor] = None,
  ) -> tf.Tensor:
    """Computes the supervised loss of given actions.

    Args:
      observation: Nest of `[B, ...]`, raw.
      action: `[B, A]` in [-1, 1].
      seed: `[2]` int32.
      mask: `[B, A]`, 0 for elements to ignore because a chunk extends past the
        end of an episode; None ignores no element.

    Returns:
      `[B]` per-example loss.
    """

  @property
  @abc.abstractmethod
  def trainable_variables(self) -> Sequence[tf.Variable]:
    """The variables that `distillation_loss` trains."""

  @property
  def vocabulary_sizes(self) -> Mapping[str, int]:
    """Number of different tokens, by the parts of observations that are tokens.

    Tokens are integers in [0, size).
    """
    return {}

  @property
  def cloned(self) -> 'GenerativePolicy':
    """The part that behavior cloning trains, which other runs may share."""
    return self

  @property
  def acting_encoder(self) -> Optional[observation_encoder.ObservationEncoder]:
    """The encoder with which the cloned policy acts; None if it has none.

    If the policy acts with averaged weights, the encoder has those.
    """
    return None

  @property
  def draws_alike(self) -> bool:
    """Whether n of N samples of a state are distributed as n samples are."""
    return True

  @property
  def improver_variables(self) -> Sequence[tf.Variable]:
    """Variables that an improver trains, but not `distillation_loss`."""
    return ()

  def deployed(self) -> 'GenerativePolicy':
    """Returns an equal policy to export, which need not be trainable."""
    return self

  def update_average(self) -> None:
    """Moves the averaged weights, if any, after an update."""
