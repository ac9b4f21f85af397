"""How actions are searched for, and the actions at the states of a batch."""

import contextlib
from typing import Any, Callable, NamedTuple, Optional, Union

import gin
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import value_function
from parl_tf.networks import observation_encoder
from parl_tf.search import compiled_search

_PRECISIONS = ('float32', 'bfloat16')
_SELECTIONS = ('argmax', 'sample')
# Of a robot or some. An unknown number is taken for few: they act.
_FEW_STATES = 16


@gin.configurable
class Search:
  """How actions are searched for: how many, by what, and which is taken.

  Training, acting and evaluation have one each.
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
      num_samples: N, actions drawn from the policy.
      optimizer: An action optimizer, or None for the policy's own actions.
      selection: 'argmax', or 'sample' from pi_opt (4.3): the action taken when
        acting, and the critic's target and penalty actions in training.
      optimize_targets: False takes those from the unoptimised policy.
      jit_compile: Whether XLA may compile, on a CPU: samples of policies that
        want it, the search for a large batch in training, and all of acting
        with small networks.
      precision: 'float32', or 'bfloat16' for the matrix products of ranking
        and ascent, which pays where a processor has them (AVX-512 BF16, AMX).
        The values of candidates are then as coarse.
      temperature: Of the actions drawn from the policy, as its `sample` takes
        it. Below 1 they are nearer to its likeliest ones: noise of the data
        that the policy has cloned is left out.

    Raises:
      ValueError: If a number is out of range or an option unknown.
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
    # XLA on a GPU needs compilers that are not installed with TensorFlow.
    self.jit_compile = jit_compile and not tf.config.list_physical_devices(
        'GPU'
    )
    self._samplers = {}
    self._is_half = precision == 'bfloat16'
    self._compiled = compiled_search.CompiledSearch(optimizer)

  def without_search(self) -> 'Search':
    """Returns one of the policy's own draws, at the same temperature."""
    return Search(
        num_samples=1,
        optimizer=None,
        selection='sample',
        temperature=self.temperature,
    )

  def sample(self, policy, observation: types.Nest, seed: tf.Tensor):
    """Draws N actions `[B, N, A]`, compiled where the policy wants it.

    Not where it reads pictures: XLA's convolutions take several times as long.
    """
    def draw(observation, seed):
      return policy.sample(
          observation, self.num_samples, seed, temperature=self.temperature
      )

    if (
        not self.jit_compile
        or not policy.jit_compile_sampling
        or tf.executing_eagerly()
        or observation_encoder.has_pictures(observation, num_batch_axes=1)
    ):
      return draw(observation, seed)
    # One for each policy: its calls share what is compiled.
    if policy not in self._samplers:
      self._samplers[policy] = tf.function(
          draw, autograph=False, jit_compile=True
      )
    return self._samplers[policy](observation, seed)

  def optimize(
      self,
      candidates: tf.Tensor,
      value_fn: Callable[[tf.Tensor], tf.Tensor],
      dataset_action: Optional[tf.Tensor],
      seed: tf.Tensor,
  ) -> types.Candidates:
    """Runs the optimizer, compiled where that pays; see its `optimize`."""
    optimize = self.optimizer.optimize
    if isinstance(value_fn, value_function.ValueFunction):
      if self._is_half:
        value_fn = value_fn.in_half_precision()
      elif self.jit_compile and self._compiled.is_for(candidates, value_fn):
        optimize = self._compiled.optimize
      elif (candidates.shape[0] or 1) <= _FEW_STATES:
        value_fn = value_fn.for_few_actions()
    return optimize(candidates, value_fn, dataset_action, seed)


class StateActions:
  """The policy's actions at one batch of states, searched at most once.

  Draws and searches when first asked and keeps the result, so that a critic
  that asks for nothing costs nothing. All actions it returns are
  gradient-stopped and computed outside the tape.
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
    """Initializes the actions; nothing is computed yet.

    Args:
      search: Settings.
      policy: `GenerativePolicy`.
      critic: `Critic` that ranks; None if the search has no optimizer.
      observation: Nest of `[B, ...]`, raw and without augmentation.
      seed: `[2]` int32.
      samples: `[B, N, A]` actions drawn earlier (an action cache), or None.
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
    """Returns the policy's own actions `[B, N, A]`."""
    return self._draw().actions

  def candidates(
      self, dataset_action: Optional[tf.Tensor] = None
  ) -> types.Candidates:
    """Returns optimised candidates, best first.

    Args:
      dataset_action: `[B, A]` action that competes with the policy's.

    Raises:
      ValueError: If the search has no optimizer.
    """
    if self._search.optimizer is None:
      raise ValueError('`Search.optimizer` must be given to have candidates.')
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
    """Picks one candidate a row, `[B, A]`; `greedy` is a bool or bool `[B]`."""
    seed = randomness.fold_in(self._seed, 'select', purpose)
    with self._outside_tape():
      return self._search.optimizer.select(candidates, seed, greedy)

  def optimized(self, n: int, purpose: str = 'target') -> types.ActionSamples:
    """Returns actions that represent the policy, by the search's selection.

    Args:
      n: How many are wanted.
      purpose: What they are for. Each purpose draws its own candidates; all
        share the policy's own actions.

    Returns:
      `[B, m, A]`, with m = 1 under argmax, else n. Log densities only if the
      actions are the policy's own and it has a density.

    Raises:
      ValueError: If n of the policy's own actions are wanted and fewer drawn.
    """
    if not self._search.optimize_targets:
      if n > self._search.num_samples:
        raise ValueError(
            f'`Search.num_samples` must be at least the {n} actions the '
            f'{purpose} needs, got {self._search.num_samples}.'
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
          '`Search.temperature` must be 1 where densities are wanted, got'
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

  It lives for one update. One search at s' therefore serves both the TD target
  and the conservative penalty.

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
    search: Settings.
    policy: `GenerativePolicy`.
    critic: `Critic` that ranks; None if the search has no optimizer.
    transition: TF-Agents `Transition` of `[B, ...]`, observations raw and
      without augmentation.
    seed: `[2]` int32.
    samples: `[B, 2, N, A]` actions drawn earlier at s and s' (an action cache),
      or None.
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
