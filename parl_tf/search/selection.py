"""Which of a search's candidates is taken: the best, or a draw of pi_opt."""

from typing import Union

import tensorflow as tf

from parl_tf import randomness
from parl_tf import types


class CandidateSelection:
  """What action optimizers share: K candidates and pi_opt (4.3) over them.

  Attributes:
    num_candidates: K.
  """

  def __init__(self, num_candidates: int, temperature: float):
    """Initializes the selection.

    Args:
      num_candidates: K, kept after ranking.
      temperature: Of the softmax over the kept candidates.

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

  def select(
      self,
      candidates: types.Candidates,
      seed: tf.Tensor,
      greedy: Union[bool, tf.Tensor],
  ) -> tf.Tensor:
    """Picks one action a row, the best or one drawn from pi_opt (4.3).

    Args:
      candidates: Best first.
      seed: `[2]` int32; each row its own draw.
      greedy: Whether to take the best; a bool, or bool `[B]`.

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
