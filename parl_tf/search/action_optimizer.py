"""Global and local action optimization of PA-RL."""

import copy
from typing import Callable, Optional

import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.search import selection

ValueFn = Callable[[tf.Tensor], tf.Tensor]

_ACCEPTANCE = ('best_iterate', 'reject')
_DATASET_ACTION = ('replace', 'append', None)


@gin.configurable
class ActionOptimizer(selection.CandidateSelection):
  """Global and local action optimization, Algorithm 1 of arXiv:2412.06685.

  Global optimization (4.1) keeps the K best of N candidates. Local optimization
  (4.2) takes T gradient steps a <- clip(a + eta grad_a Q(s, a), -1, 1) from
  each of them.

  Attributes:
    num_gradient_steps: T.
    step_size: eta, in action units per unit of the critic's gradient.
  """

  def __init__(
      self,
      num_candidates: int = 10,
      num_gradient_steps: int = 10,
      step_size: float = 3e-4,
      acceptance: str = 'best_iterate',
      temperature: float = 1.0,
      dataset_action: Optional[str] = 'replace',
  ):
    """Initializes the optimizer.

    Args:
      num_candidates: K, the number of candidates to keep after ranking.
      num_gradient_steps: T; with 0 the optimizer only ranks.
      step_size: eta, in action units per unit of the critic's gradient.
      acceptance: 'best_iterate' returns the best of the T + 1 iterates of each
        candidate, the latest on ties; 'reject' undoes a step that does not
        raise Q.
      temperature: Temperature of the softmax over the returned candidates
        (4.3).
      dataset_action: How a dataset action competes: 'replace' substitutes it
        for the worst kept candidate if K exceeds 1, 'append' adds it to the
        kept candidates, None ignores it.

    Raises:
      ValueError: If a number is out of range or an option is unknown.
    """
    super().__init__(num_candidates, temperature)
    if num_gradient_steps < 0:
      raise ValueError(
          '`num_gradient_steps` must not be negative, got '
          f'{num_gradient_steps}.'
      )
    if not step_size > 0:
      raise ValueError(f'`step_size` must be positive, got {step_size}.')
    if acceptance not in _ACCEPTANCE:
      raise ValueError(
          f'`acceptance` must be one of {_ACCEPTANCE}, got {acceptance!r}.'
      )
    if dataset_action not in _DATASET_ACTION:
      raise ValueError(
          f'`dataset_action` must be one of {_DATASET_ACTION}, got '
          f'{dataset_action!r}.'
      )
    self.num_gradient_steps = num_gradient_steps
    self.step_size = step_size
    self._acceptance = acceptance
    self._dataset_action = dataset_action

  def optimize(
      self,
      candidates: tf.Tensor,
      value_fn: ValueFn,
      dataset_action: Optional[tf.Tensor] = None,
      seed: Optional[tf.Tensor] = None,
  ) -> types.Candidates:
    """Keeps the best candidates and improves them by gradient ascent.

    Args:
      candidates: `[B, N, A]`. Only iterates are clipped, not these actions.
      value_fn: Differentiable function `[B, M, A]` -> `[B, M]`. If it has a
        method `value_and_gradient`, the ascent calls that method.
      dataset_action: `[B, A]`, or None.
      seed: Unused; other optimizers draw random numbers.

    Returns:
      K candidates (K + 1 with 'append') and their values under `value_fn`, best
      first. No gradient flows through actions or values.

    Raises:
      ValueError: If there are fewer than K candidates, or `value_fn` has no
        gradient or does not return `[B, M]`.
    """
    del seed
    tf.debugging.assert_shapes([(candidates, ('B', 'N', 'A'))])
    num_samples = candidates.shape[1]
    if num_samples is not None and num_samples < self.num_candidates:
      raise ValueError(
          f'`num_candidates` (K = {self.num_candidates}) must not exceed the '
          f'number of candidates (N = {num_samples}).'
      )
    candidates = tf.stop_gradient(candidates)
    actions, values = self.best(candidates, value_fn)
    actions, values = self._with_dataset_action(
        actions, values, dataset_action, value_fn
    )
    if self.num_gradient_steps:
      actions, values = self._climb(actions, value_fn)
    order = tf.argsort(values, direction='DESCENDING', stable=True)
    return types.Candidates(
        tf.stop_gradient(tf.gather(actions, order, batch_dims=1)),
        tf.stop_gradient(tf.gather(values, order, batch_dims=1)),
    )

  def without_gradient_steps(self) -> 'ActionOptimizer':
    ranking = copy.copy(self)
    ranking.num_gradient_steps = 0
    return ranking

  def _with_dataset_action(self, actions, values, dataset_action, value_fn):
    if dataset_action is None or self._dataset_action is None:
      return actions, values
    if self._dataset_action == 'replace':
      if self.num_candidates == 1:
        return actions, values
      actions, values = actions[:, :-1], values[:, :-1]
    added = tf.stop_gradient(dataset_action)[:, tf.newaxis]
    # The ascent, if there is one, evaluates the action.
    if not self.num_gradient_steps:
      values = tf.concat([values, value_fn(added)], axis=1)
    return tf.concat([actions, added], axis=1), values

  def _climb(self, actions, value_fn):
    """Takes T gradient steps with T + 1 evaluations of the critic.

    The evaluation of an iterate decides whether to keep it and, in the same
    pass, gives the gradient of the next step.
    """
    values, gradient = _value_and_gradient(actions, value_fn)
    is_reject = self._acceptance == 'reject'

    def move(actions, gradient):
      return tf.clip_by_value(actions + self.step_size * gradient, -1.0, 1.0)

    def keep(moved, moved_values, best, best_values):
      if is_reject:
        is_kept = moved_values > best_values
      else:
        is_kept = moved_values >= best_values
      return (
          is_kept[..., tf.newaxis],
          tf.where(is_kept[..., tf.newaxis], moved, best),
          tf.where(is_kept, moved_values, best_values),
      )

    def step(i, actions, gradient, best, best_values):
      moved = move(actions, gradient)
      moved_values, moved_gradient = _value_and_gradient(moved, value_fn)
      is_kept, best, best_values = keep(
          moved, moved_values, best, best_values
      )
      if is_reject:
        # A rejected candidate keeps its action and its gradient, so its next
        # step is rejected too.
        moved = best
        moved_gradient = tf.where(is_kept, moved_gradient, gradient)
      return i + 1, moved, moved_gradient, best, best_values

    best, best_values = actions, values
    num_loops = self.num_gradient_steps - 1
    if num_loops:  # A loop is traced even if it is never entered.
      _, actions, gradient, best, best_values = tf.while_loop(
          lambda i, *_: i < num_loops,
          step,
          (tf.constant(0), actions, gradient, best, best_values),
          maximum_iterations=num_loops,
      )
    moved = move(actions, gradient)  # The last iterate needs no gradient.
    _, best, best_values = keep(moved, value_fn(moved), best, best_values)
    return best, best_values


def _value_and_gradient(actions, value_fn):
  if hasattr(value_fn, 'value_and_gradient'):
    return value_fn.value_and_gradient(actions)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(actions)
    values = value_fn(actions)
  gradient = tape.gradient(values, actions)
  if gradient is None:
    raise ValueError(
        '`value_fn` must be differentiable with respect to the actions.'
    )
  return values, gradient
