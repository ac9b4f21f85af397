"""Ranking of the policy's samples, without a change of any action."""

from typing import Callable, Optional

import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.search import selection


@gin.configurable
class Ranking(selection.CandidateSelection):
  """Keeps the best of the candidates under the critic.

  Equals an `ActionOptimizer` without gradient steps and without the dataset
  action, for methods whose definition has no local optimization.
  """

  def __init__(self, num_candidates: int = 1, temperature: float = 1.0):
    """Initializes the ranking.

    Args:
      num_candidates: K, the number of candidates to keep.
      temperature: Temperature of the softmax over the kept candidates.

    Raises:
      ValueError: If a number is not positive.
    """
    super().__init__(num_candidates, temperature)

  def optimize(
      self,
      candidates: tf.Tensor,
      value_fn: Callable[[tf.Tensor], tf.Tensor],
      dataset_action: Optional[tf.Tensor] = None,
      seed: Optional[tf.Tensor] = None,
  ) -> types.Candidates:
    """Keeps the best candidates.

    Args:
      candidates: `[B, N, A]`.
      value_fn: Function `[B, N, A]` -> `[B, N]`.
      dataset_action: Unused; other optimizers let it compete.
      seed: Unused; other optimizers draw random numbers.

    Returns:
      The K best candidates and their values, best first. No gradient flows
      through them.

    Raises:
      ValueError: If the values do not have two axes.
    """
    del dataset_action, seed
    tf.debugging.assert_shapes([(candidates, ('B', 'N', 'A'))])
    actions, values = self.best(tf.stop_gradient(candidates), value_fn)
    return types.Candidates(actions, tf.stop_gradient(values))
