"""Settings of an action search, and its actions at a batch of states."""

import contextlib
import functools
from typing import Any, Callable, NamedTuple, Optional, Union

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import replicas
from parl_tf import types
from parl_tf.critics import critic as critic_lib
from parl_tf.critics import value_layouts
from parl_tf.networks import observation_encoder
from parl_tf.search import compiled_search

_PRECISIONS = ('float32', 'bfloat16')
_SELECTIONS = ('argmax', 'sample')
# Batches of up to this size, or of unknown size, come from acting.
_FEW_STATES = 16
# Samples for a large batch are drawn in parts that run in parallel. The number
# of parts is the same on all machines, and with it the rounding.
_NUM_PARTS = 2
_MIN_PART_SAMPLES = 256


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
      jit_compile: Whether XLA may compile on a CPU: sampling, if the policy
        requests it; the search for large batches in training; and acting with
        small networks.
      precision: 'float32', or 'bfloat16' for the matrix products of ranking and
        ascent. 'bfloat16' is faster on processors that support it (AVX-512
        BF16, AMX), but makes the candidates' values less precise.
      temperature: Temperature of the policy's samples, as in its `sample`.
        Below 1, samples are closer to the most likely actions, which removes
        noise that the policy has cloned from the dataset.

    Raises:
      ValueError: If a number is out of range or an option is unknown.
    """
    if num_samples < 1:
      raise ValueError(f'`num_samples` must be positive, got {num_samples}.')
    if selection not in _SELECTIONS:
      raise ValueError(
          f'`selection` must be one of {_SELECTIONS}, got {selection!r}.'
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
    self.optimize_targets = optimize_targets and optimizer is not None
    self._on_cpu = not tf.config.list_physical_devices('GPU')
    # XLA on a GPU needs compilers that TensorFlow does not install.
    self.jit_compile = jit_compile and self._on_cpu
    self._samplers = {}
    self._is_half = precision == 'bfloat16'
    self._compiled = compiled_search.CompiledSearch(optimizer)

  def without_search(self) -> 'Search':
    """Returns a search that takes one policy sample at the same temperature."""
    return Search(
        num_samples=1,
        optimizer=None,
        selection='sample',
        temperature=self.temperature,
    )

  def sample(self, policy, observation: types.Nest, seed: tf.Tensor):
    """Draws N actions `[B, N, A]`, under XLA if the policy requests it.

    Does not compile policies with image observations, because XLA makes
    convolutions several times slower on a CPU. Large batches are drawn in parts
    that run in parallel.
    """
    batch_size = tf.nest.flatten(observation)[0].shape[0]
    if tf.executing_eagerly():
      return self._draw(policy, observation, seed)
    num_parts = self._num_parts(batch_size)
    if num_parts == 1 and not self._compiles(policy, observation):
      return self._draw(policy, observation, seed)
    # All calls with the same policy share one traced function.
    if policy not in self._samplers:
      self._samplers[policy] = tf.function(
          functools.partial(self._draw_part, policy),
          autograph=False,
          jit_compile=self._compiles(policy, observation) or None,
      )
    run = self._samplers[policy]
    if num_parts == 1:
      return run(observation, seed)
    size = batch_size // num_parts
    parts = [
        run(
            tf.nest.map_structure(lambda x: x[i : i + size], observation),  # pylint: disable=cell-var-from-loop
            seed,
            tf.constant(i),
            batch_size,
        )
        for i in range(0, batch_size, size)
    ]
    return tf.concat(parts, axis=0)

  def _draw(self, policy, observation, seed):
    return policy.sample(
        observation, self.num_samples, seed, temperature=self.temperature
    )

  def _draw_part(self, policy, observation, seed, start=None, batch_size=None):
    if start is None:
      return self._draw(policy, observation, seed)
    with randomness.part_of_batch(start, batch_size):
      return self._draw(policy, observation, seed)

  def _compiles(self, policy, observation):
    return (
        self.jit_compile
        and policy.jit_compile_sampling
        and not observation_encoder.has_images(observation, num_batch_axes=1)
    )

  def _num_parts(self, batch_size):
    """Returns the number of equal parts in which to draw for a batch."""
    if batch_size is None or batch_size % _NUM_PARTS or not self._on_cpu:
      return 1
    if batch_size * self.num_samples < _MIN_PART_SAMPLES * _NUM_PARTS:
      return 1
    return 1 if replicas.are_several() else _NUM_PARTS

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


class StateActions:
  """The policy's own and optimized actions at a batch of states.

  Samples and searches on first use and caches the results, so actions that no
  loss requests cost nothing. Computes actions outside the tape, so no gradient
  flows through them.
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
    self._policy = policy
    self._critic = critic
    self._observation = observation
    self._seed = seed
    self._samples = samples
    self._tape = tape
    self._index = index
    self._drawn: Optional[types.ActionSamples] = None
    self._candidates = {}

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
            self._critic.bind(self._observation),
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

  def optimized(self, n: int, purpose: str = 'target') -> types.ActionSamples:
    """Returns actions of pi_opt by the search's selection.

    Returns the policy's own samples if `optimize_targets` is False or the
    search has no optimizer.

    Args:
      n: Number of actions.
      purpose: Name that distinguishes draws. Draws from pi_opt differ between
        purposes; the policy's own samples are the same for all.

    Returns:
      `[B, m, A]` actions: the best one (m = 1) of pi_opt under 'argmax',
      otherwise m = n. They have log densities only if they are the policy's own
      samples and the policy has a density.

    Raises:
      ValueError: If n exceeds the number of the policy's own samples.
    """
    if not self._search.optimize_targets:
      if n > self._search.num_samples:
        raise ValueError(
            f'`Search.num_samples` must be at least {n}, the number of '
            f'{purpose} actions, got {self._search.num_samples}.'
        )
      drawn = self._draw()
      log_probs = drawn.log_probs
      return types.ActionSamples(
          drawn.actions[:, :n],
          None if log_probs is None else log_probs[:, :n],
      )
    candidates = self.candidates()
    if self._search.is_greedy:
      return types.ActionSamples(candidates.actions[:, :1])
    picks = [
        self.select(candidates, False, f'{purpose} {self._index} {i}')
        for i in range(n)
    ]
    return types.ActionSamples(tf.stack(picks, axis=1))

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
    if not self._policy.has_density or self._search.optimize_targets:
      return types.ActionSamples(
          self._search.sample(self._policy, self._observation, seed)
      )
    if self._search.temperature != 1.0:
      raise ValueError(
          '`Search.temperature` must be 1 for samples with densities, got'
          f' {self._search.temperature}.'
      )
    return types.ActionSamples(
        *self._policy.sample_with_log_prob(
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
