"""Settings of an action search, and its actions at a batch of states."""

import contextlib
import math
from typing import Any, Callable, Dict, NamedTuple, Optional, Union

import gin
import tensorflow as tf

from parl_tf import randomness
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
        copy that it draws for targets, as EXPO and IBRL do.

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


class StateActions:
  """The policy's own and optimized actions at a batch of states.

  Samples and searches on first use and caches the results, so actions that no
  loss requests cost nothing. Computes actions outside the tape, so no gradient
  flows through them.

  Attributes:
    policy: `GenerativePolicy` that draws the samples.
  """

  def __init__(
      self,
      search: Search,
      policy,
      critic,
      observation: types.Nest,
      seed: tf.Tensor,
      *,
      samples: Optional[tf.Tensor] = None,
      tape: Optional[tf.GradientTape] = None,
      index: int = 0,
  ):
    """Initializes the object; computes no actions yet.

    Args:
      search: Settings of the search.
      policy: `GenerativePolicy`.
      critic: `Critic` of the actions; None if the search has no optimizer.
      observation: Nest of `[B, ...]`, raw and without augmentation.
      seed: `[2]` int32.
      samples: `[B, N, A]` cached samples to use instead of new ones, or None.
      tape: Tape that must not record the search.
      index: Distinguishes the draws of several batches that share a seed.
    """
    self._search = search
    self.policy = policy
    self._critic = critic
    self._observation = observation
    self._seed = seed
    self._samples = samples
    self._tape = tape
    self._index = index
    self._drawn: Optional[types.ActionSamples] = None
    self._candidates: Dict[bool, types.Candidates] = {}

  def base(self) -> tf.Tensor:
    """Returns N samples of the policy, `[B, N, A]`."""
    return self._draw().actions

  def candidates(
      self, dataset_action: Optional[tf.Tensor] = None
  ) -> types.Candidates:
    """Returns the optimized candidates, best first.

    Args:
      dataset_action: `[B, A]` action that competes with the policy's samples,
        or None. The cache assumes the same action in every call.

    Raises:
      ValueError: If the search has no optimizer.
    """
    if self._search.optimizer is None:
      raise ValueError('Candidates need a `Search.optimizer`, got None.')
    key = dataset_action is not None
    if key not in self._candidates:
      base = self.base()
      with self._outside_tape():
        self._candidates[key] = self._search.optimize(
            base,
            self._value_fn(),
            dataset_action,
            randomness.fold_in(self._seed, 'optimizer', self._index),
        )
    return self._candidates[key]

  def select(
      self,
      candidates: types.Candidates,
      greedy: Union[bool, tf.Tensor],
      purpose: str,
  ) -> tf.Tensor:
    """Selects one candidate per row, `[B, A]`; see `CandidateSelection`."""
    seed = randomness.fold_in(self._seed, 'select', purpose)
    with self._outside_tape():
      return self._search.optimizer.select(candidates, seed, greedy)

  def optimized(
      self,
      n: Optional[int],
      purpose: str = 'target',
      at_most: bool = False,
  ) -> types.ActionSamples:
    """Returns actions of pi_opt by the search's selection.

    Returns the policy's own samples if `optimize_targets` is False or the
    search has no optimizer.

    Args:
      n: Number of actions; None for as many as the search draws.
      purpose: Name that distinguishes draws. Draws from pi_opt differ between
        purposes; the policy's own samples are the same for all.
      at_most: Whether fewer actions will do if the search draws fewer. Their
        number then divides n.

    Returns:
      `[B, m, A]` actions: the best one (m = 1) of pi_opt under 'argmax',
      otherwise m = n, unless fewer will do. They have log densities only if
      they are the policy's own samples and the policy has a density.

    Raises:
      ValueError: If n exceeds the number of the policy's own samples, and fewer
        will not do; if they need densities at a temperature other than 1.
    """
    num_samples = self._search.num_samples
    if n is None:
      n = num_samples
    if not self._search.optimize_targets:
      if n > num_samples and at_most:
        n = math.gcd(n, num_samples)
      if n > num_samples:
        raise ValueError(
            f'`Search.num_samples` must be at least {n}, the number of '
            f'{purpose} actions, got {num_samples}.'
        )
      if self.policy.has_density and self._search.temperature != 1.0:
        raise ValueError(
            '`training/Search.temperature` must be 1 for actions with '
            f'densities, got {self._search.temperature}.'
        )
      drawn = self._draw()
      return types.ActionSamples(
          *(x if x is None else x[:, :n] for x in drawn)
      )
    candidates = self.candidates()
    if self._search.is_greedy:
      return types.ActionSamples(candidates.actions[:, :1])
    picks = [
        self.select(candidates, False, f'{purpose} {self._index} {i}')
        for i in range(n)
    ]
    return types.ActionSamples(tf.stack(picks, axis=1))

  def _value_fn(self):
    if not self._search.ranks_by_target:
      return self._critic.bind(self._observation)
    seed = randomness.fold_in(self._seed, 'ranking', self._index)
    return self._critic.bind_target(self._observation, seed)

  def _draw(self) -> types.ActionSamples:
    if self._drawn is None:
      with self._outside_tape():
        actions, log_probs = self._sample()
        self._drawn = types.ActionSamples(
            tf.stop_gradient(actions),
            None if log_probs is None else tf.stop_gradient(log_probs),
        )
    return self._drawn

  def _sample(self):
    if self._samples is not None:
      return types.ActionSamples(self._samples)
    seed = randomness.fold_in(self._seed, 'base', self._index)
    has_density = self.policy.has_density and self._search.temperature == 1.0
    if not has_density or self._search.optimize_targets:
      return types.ActionSamples(
          self._search.sample(self.policy, self._observation, seed)
      )
    return types.ActionSamples(
        *self.policy.sample_with_log_prob(
            self._observation, self._search.num_samples, seed
        )
    )

  def _outside_tape(self):
    if self._tape is None:
      return contextlib.nullcontext()
    return self._tape.stop_recording()


class ActionSource(NamedTuple):
  """The policy's actions at both states of a batch of transitions.

  An update makes one source and passes it to its loss, so that one search at s'
  serves both the TD target and the conservative penalty.

  Attributes:
    here: Actions at s.
    next: Actions at s'.
  """

  here: StateActions
  next: StateActions


def make_source(
    search: Search,
    policy,
    critic,
    transition,
    seed: tf.Tensor,
    *,
    samples: Optional[tf.Tensor] = None,
    tape: Optional[tf.GradientTape] = None,
) -> ActionSource:
  """Makes the action source of a batch of transitions.

  Args:
    search: Settings of the search.
    policy: `GenerativePolicy`.
    critic: `Critic` of the actions; None if the search has no optimizer.
    transition: TF-Agents `Transition` of `[B, ...]`, with observations that are
      raw and without augmentation.
    seed: `[2]` int32.
    samples: `[B, 2, N, A]` cached samples at s and s' to use instead of new
      ones, or None.
    tape: Tape that must not record the search.
  """
  states = (transition.time_step, transition.next_time_step)
  return ActionSource(*(
      StateActions(
          search,
          policy,
          critic,
          time_step.observation,
          seed,
          samples=None if samples is None else samples[:, index],
          tape=tape,
          index=index,
      )
      for index, time_step in enumerate(states)
  ))
