"""Settings of an action search."""

from typing import Any, Callable, Dict, Optional

import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import critic as critic_lib
from parl_tf.critics import value_layouts
from parl_tf.search import compiled_sampling
from parl_tf.search import compiled_search
from parl_tf.search import xla

_PRECISIONS = ('float32', 'bfloat16')
_RANKINGS = ('critic', 'target')
_SELECTIONS = ('argmax', 'sample')
# Batches of up to this size, or of unknown size, come from acting.
_FEW_STATES = 16


@gin.configurable
class Search:
  """Settings of an action search: samples, optimizer and selection.

  Training, acting and evaluation each have their own search.
  """

  def __init__(
      self,
      num_samples: int = 32,
      optimizer: Any = None,
      selection: str = 'argmax',
      optimize_targets: bool = True,
      jit_compile: bool = True,
      precision: str = 'float32',
      temperature: float = 1.0,
      ranking: str = 'critic',
      local_optimization: bool = True,
  ):
    """Initializes the settings.

    Args:
      num_samples: N, the number of actions to draw from the policy.
      optimizer: Action optimizer, or None to use the policy's own actions.
      selection: 'argmax', or 'sample' to draw from pi_opt (4.3). Selects the
        action to take when acting, and the critic's target and penalty actions
        in training.
      optimize_targets: Whether target and penalty actions are optimized; False
        takes them from the base policy.
      jit_compile: Whether XLA may compile sampling, if the policy requests it;
        the search for large batches in training; acting with small networks;
        and, on a GPU, whole updates of the critic and of the policy.
      precision: 'float32', or 'bfloat16' for the matrix products of ranking and
        ascent. 'bfloat16' is faster on processors that support it (AVX-512
        BF16, AMX), but makes the candidates' values less precise.
      temperature: Temperature of the policy's samples, as in its `sample`.
        Below 1, samples are closer to the most likely actions, which removes
        noise that the policy has cloned from the dataset.
      ranking: 'critic' values candidates by the critic, with its aggregation
        over all members; 'target' by the minimum over the members of its target
        copy that it draws anew, as EXPO and IBRL do.
      local_optimization: Whether the optimizer may take gradient steps. False
        ranks only, whatever `ActionOptimizer.num_gradient_steps` is.

    Raises:
      ValueError: If a number is out of range or an option is unknown.
    """
    if num_samples < 1:
      raise ValueError(f'`num_samples` must be positive, got {num_samples}.')
    if selection not in _SELECTIONS:
      raise ValueError(
          f'`selection` must be one of {_SELECTIONS}, got {selection!r}.'
      )
    if ranking not in _RANKINGS:
      raise ValueError(
          f'`ranking` must be one of {_RANKINGS}, got {ranking!r}.'
      )
    if precision not in _PRECISIONS:
      raise ValueError(
          f'`precision` must be one of {_PRECISIONS}, got {precision!r}.'
      )
    if not temperature >= 0.0:
      raise ValueError(
          f'`temperature` must not be negative, got {temperature}.'
      )
    if optimizer is not None and not local_optimization:
      optimizer = optimizer.without_gradient_steps()
    if optimizer is not None and optimizer.num_candidates > num_samples:
      raise ValueError(
          f'`num_candidates` (K = {optimizer.num_candidates}) must not exceed '
          f'`num_samples` (N = {num_samples}).'
      )
    self.num_samples = num_samples
    self.optimizer = optimizer
    self.temperature = temperature
    self.is_greedy = selection == 'argmax'
    self.ranks_by_target = ranking == 'target'
    self.optimize_targets = optimize_targets and optimizer is not None
    on_gpu = xla.is_on_gpu()
    self.jit_compile = jit_compile and xla.is_available()
    # Launching the operations of an update takes a GPU several times as long as
    # their arithmetic.
    self.compiles_updates = self.jit_compile and on_gpu
    self._sampling = compiled_sampling.CompiledSampling(
        num_samples,
        temperature,
        in_parts=not on_gpu,
        jit_compile=self.jit_compile,
    )
    self._is_half = precision == 'bfloat16'
    self._compiled = compiled_search.CompiledSearch(
        optimizer, in_parts=not on_gpu
    )
    self._settings = dict(
        num_samples=num_samples,
        selection=selection,
        optimize_targets=optimize_targets,
        jit_compile=jit_compile,
        precision=precision,
        temperature=temperature,
        ranking=ranking,
        optimizer=type(optimizer),
        optimizer_settings=getattr(optimizer, '__dict__', {}),
    )

  def equals(self, other: 'Search') -> bool:
    """Returns whether both have the same settings, so that one is enough."""
    return _are_equal(self._settings, other._settings)

  def without_search(self) -> 'Search':
    """Returns a search that takes one policy sample at the same temperature."""
    return Search(
        num_samples=1,
        optimizer=None,
        selection='sample',
        temperature=self.temperature,
        jit_compile=self.jit_compile,
    )

  def for_loss(self, num_actions: Optional[int]) -> 'Search':
    """Returns the search of a critic's loss, which may need fewer samples.

    Optimization needs all samples; the policy's own actions only as many as the
    loss reads.

    Args:
      num_actions: Number of actions of the policy that the loss reads at a
        state; None for all that the search draws.
    """
    if self.optimize_targets or num_actions is None:
      return self
    if num_actions >= self.num_samples:
      return self
    settings: Dict[str, Any] = {
        name: value
        for name, value in self._settings.items()
        if name not in ('optimizer', 'optimizer_settings')
    }
    # The optimizer is given, too, or gin would bind it.
    settings.update(num_samples=num_actions, optimizer=None)
    return Search(**settings)

  def sample(self, policy, observation: types.Nest, seed: tf.Tensor):
    """Draws N actions `[B, N, A]`, under XLA if the policy requests it."""
    return self._sampling.draw(policy, observation, seed)

  def optimize(
      self,
      candidates: tf.Tensor,
      value_fn: Callable[[tf.Tensor], tf.Tensor],
      dataset_action: Optional[tf.Tensor],
      seed: tf.Tensor,
  ) -> types.Candidates:
    """Runs the optimizer's `optimize` in the fastest way for this batch."""
    optimize = self.optimizer.optimize
    if isinstance(value_fn, critic_lib.ValueFunction):
      if self._is_half:
        value_fn = value_layouts.in_half_precision(value_fn)
      elif self.jit_compile and self._compiled.is_for(candidates, value_fn):
        optimize = self._compiled.optimize
      elif (candidates.shape[0] or 1) <= _FEW_STATES:
        value_fn = value_layouts.for_few_actions(value_fn)
    return optimize(candidates, value_fn, dataset_action, seed)


def _are_equal(a, b):
  """Returns whether settings are surely equal; no array equals another."""
  if isinstance(a, dict) and isinstance(b, dict):
    return a.keys() == b.keys() and all(_are_equal(a[k], b[k]) for k in a)
  return a is b or (isinstance(a, (bool, int, float, str)) and a == b)
