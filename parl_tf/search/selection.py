"""Selection of one candidate: the best, or a sample of pi_opt."""

from typing import Callable, Union

import tensorflow as tf

from parl_tf import randomness
from parl_tf import types


class CandidateSelection:
  """Base class of action optimizers: selects from K candidates by pi_opt (4.3).

  Attributes:
    num_candidates: K, the number of candidates to keep.
  """

  def __init__(self, num_candidates: int, temperature: float):
    """Initializes the selection.

    Args:
      num_candidates: K, the number of candidates to keep.
      temperature: Temperature of the softmax over the kept candidates.

    Raises:
      ValueError: If a number is out of range.
    """
    if num_candidates < 1:
      raise ValueError(
          f'`num_candidates` must be positive, got {num_candidates}.'
      )
    if not temperature > 0:
      raise ValueError(f'`temperature` must be positive, got {temperature}.')
    self.num_candidates = num_candidates
    self._temperature = temperature

  def best(
      self, candidates: tf.Tensor, value_fn: Callable[[tf.Tensor], tf.Tensor]
  ) -> types.Candidates:
    """Returns the K best of candidates `[B, N, A]`, best first.

    Args:
      candidates: `[B, N, A]`.
      value_fn: Function `[B, N, A]` -> `[B, N]`.

    Raises:
      ValueError: If the values do not have two axes.
    """
    values = value_fn(candidates)
    if values.shape.rank not in (None, 2):
      raise ValueError(
          '`value_fn` must return values `[B, N]` of candidates `[B, N, A]`,'
          f' got the shape {values.shape} for {candidates.shape}.'
      )
    values, order = tf.math.top_k(values, self.num_candidates)
    return types.Candidates(
        tf.gather(candidates, order, batch_dims=1), values
    )

  def without_gradient_steps(self) -> 'CandidateSelection':
    """Returns an optimizer that only ranks; most take no such steps anyway."""
    return self

  def select(
      self,
      candidates: types.Candidates,
      seed: tf.Tensor,
      greedy: Union[bool, tf.Tensor],
  ) -> tf.Tensor:
    """Selects one action per row: the best, or a sample of pi_opt (4.3).

    Args:
      candidates: Candidates, best first.
      seed: `[2]` int32; rows draw independently.
      greedy: Whether to select the best; a bool, or a bool `[B]`.

    Returns:
      `[B, A]`.
    """
    best = candidates.actions[:, 0]
    if isinstance(greedy, bool) and greedy:
      return best
    index = randomness.categorical(seed, self.log_probs(candidates))
    drawn = tf.gather(candidates.actions, index, batch_dims=1)
    if isinstance(greedy, bool):
      return drawn
    return tf.where(greedy[:, tf.newaxis], best, drawn)

  def log_probs(self, candidates: types.Candidates) -> tf.Tensor:
    """Returns log pi_opt `[B, K]`: log softmax of values / temperature."""
    return tf.nn.log_softmax(candidates.values / self._temperature, axis=-1)
