"""The actions at a batch of states: the policy's own and optimized ones."""

import contextlib
from typing import Dict, NamedTuple, Optional, Union

import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.search import action_source


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
      search: action_source.Search,
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
      with_densities: bool = False,
  ) -> types.ActionSamples:
    """Returns actions of pi_opt by the search's selection.

    Returns the policy's own samples if `optimize_targets` is False or the
    search has no optimizer.

    Args:
      n: Number of actions; None for as many as the search draws.
      purpose: Name that distinguishes draws. Draws from pi_opt differ between
        purposes; the policy's own samples are the same for all.
      at_most: Whether fewer actions will do if the search draws fewer.
      with_densities: Whether the log densities are needed of a policy that has
        a density.

    Returns:
      `[B, m, A]` actions: the best one (m = 1) of pi_opt under 'argmax',
      otherwise m = n, unless fewer will do. They have log densities only if
      they are the policy's own samples at a temperature of 1, and the policy
      has a density.

    Raises:
      ValueError: If n exceeds the number of the policy's own samples, and fewer
        will not do; if densities are needed at a temperature other than 1.
    """
    num_samples = self._search.num_samples
    if n is None:
      n = num_samples
    if not self._search.optimize_targets:
      if at_most:
        n = min(n, num_samples)
      if n > num_samples:
        raise ValueError(
            f'`Search.num_samples` must be at least {n}, the number of '
            f'{purpose} actions, got {num_samples}.'
        )
      if with_densities:
        check_densities(self._search, self.policy)
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


def check_densities(search: action_source.Search, policy) -> None:
  """Checks that a search's draws of a policy have the densities they may need.

  Args:
    search: Settings of the search.
    policy: `GenerativePolicy`; without a density nothing is checked.

  Raises:
    ValueError: If the temperature of the policy's own samples is not 1.
  """
  if not policy.has_density or search.optimize_targets:
    return
  if search.temperature != 1.0:
    raise ValueError(
        '`Search.temperature` must be 1 in training for a loss that reads'
        f" densities of the policy's own actions, got {search.temperature}."
    )


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
    search: action_source.Search,
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
