"""Action searches to compare, and how rounds of episodes choose the best one.

This is successive halving (Jamieson and Talwalkar, 2016, arXiv:1502.07943): all
searches play a few episodes, the better half as many further ones, and so on.
"""

import itertools
import math
from typing import (
    AbstractSet,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
)

from parl_tf.training import setbacks

ONE_STANDARD_ERROR = 0.16
"""Chance of a difference of one standard error, one-sided."""

_NUM_SAMPLES = (1, 2, 4, 8, 16, 32)
_NUM_LEFT = 2  # Two searches need no further round: both have played it.


class Setting(NamedTuple):
  """One search. With one sample and no step, it is the policy alone.

  Attributes:
    num_samples: N.
    temperature: Temperature of the samples.
    num_candidates: K.
    num_gradient_steps: T.
    step_size: In action units per unit of the critic's gradient; 0 if T is 0.
  """

  num_samples: int
  temperature: float
  num_candidates: int
  num_gradient_steps: int
  step_size: float

  @property
  def cost(self) -> int:
    """Evaluations of the critic per state; a gradient step is two."""
    return self.num_samples + 2 * self.num_candidates * self.num_gradient_steps

  @property
  def is_alone(self) -> bool:
    """Whether the critic chooses nothing."""
    return self.num_samples == 1 and not self.num_gradient_steps

  def describe(self) -> str:
    """Returns the search in words."""
    samples = 'one sample'
    if self.num_samples > 1:
      samples = f'{self.num_samples} samples'
    text = f'{samples} at temperature {self.temperature:g}'
    if self.num_gradient_steps:
      text += (
          f', the best {self.num_candidates} of which climb'
          f' {self.num_gradient_steps} steps of {self.step_size:g}'
      )
    return text


class Axes(NamedTuple):
  """What a grid combines; None takes what suits the run."""

  num_samples: Optional[Sequence[int]] = None
  temperatures: Optional[Sequence[float]] = None
  num_candidates: Optional[Sequence[int]] = None
  num_gradient_steps: Optional[Sequence[int]] = None
  step_sizes: Optional[Sequence[float]] = None


class Climb(NamedTuple):
  """Gradient steps of a run.

  Attributes:
    num_gradient_steps: T of its searches.
    step_size: Also if each T is 0; None if no optimizer has one.
  """

  num_gradient_steps: AbstractSet[int]
  step_size: Optional[float]


class Scores(NamedTuple):
  """Results of the episodes of one search.

  Attributes:
    outcomes: A 1 or a 0 for each episode, success or failure. Searches of a
      round meet the same starts.
    mean_return: Mean undiscounted return.
  """

  outcomes: str
  mean_return: float

  @property
  def num_episodes(self) -> int:
    """Number of episodes."""
    return len(self.outcomes)

  @property
  def success_rate(self) -> float:
    """Share of successful episodes, 0 to 1."""
    return self.outcomes.count('1') / len(self.outcomes)


class Choice(NamedTuple):
  """Result of `halve`.

  Attributes:
    finalists: The searches of the last round, best first.
    scores: Of all episodes of each search, by search.
  """

  finalists: List[Setting]
  scores: Dict[Setting, Scores]


def make_settings(
    num_samples: Sequence[int],
    temperatures: Sequence[float],
    num_candidates: Sequence[int],
    num_gradient_steps: Sequence[int],
    step_sizes: Sequence[float],
) -> List[Setting]:
  """Returns all different combinations, in the order of the arguments."""
  found: Dict[Setting, None] = {}
  for n, temperature, k, steps, size in itertools.product(
      num_samples, temperatures, num_candidates, num_gradient_steps, step_sizes
  ):
    # Ranking takes no steps, so it needs neither a size nor more candidates.
    k, size = (min(k, n), size) if steps else (1, 0.0)
    found[Setting(n, temperature, k, steps, size)] = None
  return list(found)


def make_grid(
    axes: Axes, own: Setting, num_candidates: int, climb: Climb
) -> List[Setting]:
  """Returns the searches to compare.

  Args:
    axes: What the user has chosen.
    own: The run's search.
    num_candidates: K of the run, also if its T is 0.
    climb: Gradient steps of the run.

  Raises:
    ValueError: If a choice has no effect, or a step size is missing.
  """
  counts = axes.num_samples or sorted({*_NUM_SAMPLES, own.num_samples})
  steps = axes.num_gradient_steps or sorted({0, *climb.num_gradient_steps})
  for name in ('num_candidates', 'step_sizes'):
    if getattr(axes, name) and not any(steps):
      raise ValueError(
          f'--{name} has no effect without gradient steps: give'
          f' --num_gradient_steps, got {list(steps)}.'
      )
  for k in axes.num_candidates or ():
    if k > max(counts):
      raise ValueError(
          f'--num_candidates (K = {k}) must not exceed the largest of'
          f' --num_samples (N = {max(counts)}).'
      )
  own_sizes = [] if climb.step_size is None else [climb.step_size]
  sizes = axes.step_sizes or own_sizes
  if any(steps) and not sizes:
    raise ValueError(
        "--step_sizes must be given: the run's search takes no gradient steps."
    )
  return make_settings(
      counts,
      axes.temperatures or [own.temperature],
      axes.num_candidates or [num_candidates],
      steps,
      sizes or [0.0],
  )


def pool(scores: Sequence[Scores]) -> Scores:
  """Returns the results of all episodes together."""
  outcomes = ''.join(x.outcomes for x in scores)
  # Exact sums, so that equal episodes tie in any order.
  returns = math.fsum(x.mean_return * x.num_episodes for x in scores)
  return Scores(outcomes, returns / len(outcomes))


def rank(scores: Mapping[Setting, Scores]) -> List[Setting]:
  """Sorts searches, best first: by success rate, then by mean return.

  Of equal ones the cheaper comes first: fewer gradient steps, then fewer
  samples.
  """
  return sorted(
      scores,
      key=lambda x: (
          -scores[x].success_rate,
          -scores[x].mean_return,
          x.num_gradient_steps,
          x.num_samples,
      ),
  )


def cheapest_of_best(choice: Choice) -> Setting:
  """Returns the cheapest finalist that is hardly worse than the best one.

  Among searches that the episodes do not distinguish, more samples and gradient
  steps find larger errors of the critic, and take more time.
  """
  best, *others = choice.finalists
  outcomes = choice.scores[best].outcomes
  if len(set(outcomes)) == 1:  # All succeed or all fail: returns have decided.
    return best
  close = [
      x
      for x in others
      if not setbacks.is_worse(
          choice.scores[x].outcomes, outcomes, ONE_STANDARD_ERROR
      )
  ]
  return min([best, *close], key=lambda x: x.cost)


def halve(
    settings: Sequence[Setting],
    num_rounds: int,
    play: Callable[[int, Sequence[Setting]], Mapping[Setting, Scores]],
) -> Choice:
  """Plays rounds of episodes until one or two searches or no rounds are left.

  Args:
    settings: The searches.
    num_rounds: Largest number of rounds.
    play: Takes the number of a round, from 1, and its searches; returns the
      results of the round's own episodes.
  """
  played: Dict[Setting, List[Scores]] = {x: [] for x in settings}
  scores: Dict[Setting, Scores] = {}
  remaining = list(settings)
  for number in range(1, num_rounds + 1):
    for setting, found in play(number, remaining).items():
      played[setting].append(found)
      scores[setting] = pool(played[setting])
    remaining = rank({x: scores[x] for x in remaining})
    if number == num_rounds or len(remaining) <= _NUM_LEFT:
      break
    remaining = remaining[: (len(remaining) + 1) // 2]
  return Choice(remaining, scores)
