"""The cross-entropy method, PA-RL's ablation of its action optimizer."""

from typing import Callable, Optional

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.search import selection


@gin.configurable
class CrossEntropyMethod(selection.CandidateSelection):
  """Repeatedly fits a diagonal Gaussian to the best candidates.

  Section 5 of arXiv:2412.06685 compares PA-RL with this method, which starts
  from samples of the policy: a uniform policy or a fixed cloned one.
  """

  def __init__(
      self,
      num_candidates: int = 6,
      population_size: int = 64,
      num_iterations: int = 4,
      min_std: float = 0.01,
      temperature: float = 1.0,
  ):
    """Initializes the optimizer.

    Args:
      num_candidates: K, the number of elites to fit and to return.
      population_size: Number of actions to draw from each Gaussian.
      num_iterations: Number of Gaussians to fit; with 0 the method only ranks.
      min_std: Minimum standard deviation of a Gaussian, in action units.
      temperature: Temperature of the softmax over the returned candidates
        (4.3).

    Raises:
      ValueError: If a number is out of range.
    """
    super().__init__(num_candidates, temperature)
    if population_size < num_candidates:
      raise ValueError(
          f'`population_size` must be at least `num_candidates`, got '
          f'{population_size} and {num_candidates}.'
      )
    if num_iterations < 0:
      raise ValueError(
          f'`num_iterations` must not be negative, got {num_iterations}.'
      )
    if not min_std > 0:
      raise ValueError(f'`min_std` must be positive, got {min_std}.')
    self._population_size = population_size
    self._num_iterations = num_iterations
    self._min_std = min_std

  def optimize(
      self,
      candidates: tf.Tensor,
      value_fn: Callable[[tf.Tensor], tf.Tensor],
      dataset_action: Optional[tf.Tensor] = None,
      seed: Optional[tf.Tensor] = None,
  ) -> types.Candidates:
    """Improves candidates by the cross-entropy method.

    Args:
      candidates: `[B, N, A]`, the first population.
      value_fn: Function `[B, M, A]` -> `[B, M]`.
      dataset_action: Unused; other optimizers let it compete.
      seed: `[2]` int32.

    Returns:
      The K best actions of the last population, best first. No gradient flows
      through actions or values.

    Raises:
      ValueError: If there are fewer than K candidates, or no seed.
    """
    del dataset_action
    tf.debugging.assert_shapes([(candidates, ('B', 'N', 'A'))])
    if candidates.shape[1] is not None:
      if candidates.shape[1] < self.num_candidates:
        raise ValueError(
            f'`num_candidates` (K = {self.num_candidates}) must not exceed the '
            f'number of candidates (N = {candidates.shape[1]}).'
        )
    if seed is None:
      raise ValueError('The cross-entropy method needs a `seed`, got None.')
    candidates = tf.stop_gradient(candidates)
    # Use a static batch size if possible: the loop needs constant shapes.
    batch_size = candidates.shape[0] or tf.shape(candidates)[0]
    shape = [batch_size, self._population_size, candidates.shape[2]]

    def step(i, elites, _):
      mean = tf.reduce_mean(elites, axis=1, keepdims=True)
      std = tf.math.reduce_std(elites, axis=1, keepdims=True)
      noise = randomness.normal(randomness.fold_in(seed, i), shape)
      population = mean + tf.maximum(std, self._min_std) * noise
      population = tf.clip_by_value(population, -1.0, 1.0)
      elites, values = self.best(population, value_fn)
      return (
          i + 1,
          tf.ensure_shape(elites, first.shape),
          tf.ensure_shape(values, first_values.shape),
      )

    first, first_values = self.best(candidates, value_fn)
    _, elites, values = tf.while_loop(
        lambda i, *_: i < self._num_iterations,
        step,
        (tf.constant(0), first, first_values),
        maximum_iterations=self._num_iterations,
    )
    return types.Candidates(tf.stop_gradient(elites), tf.stop_gradient(values))
