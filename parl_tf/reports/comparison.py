"""Comparison of methods: the table of scores and all pairwise tests."""

import itertools
from typing import (
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from parl_tf import proportion
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics

ALL_DOMAINS = 'all domains'
PHASES = ('behavior_cloning', 'offline', 'online')
"""The phases of a run in their order."""

_Results = Mapping[int, runs_lib.PhaseResult]


class Group(NamedTuple):
  """The seeds of one method in one phase.

  Attributes:
    domain: A domain, or `ALL_DOMAINS`.
    phase: The phase.
    method: The method.
    results: Results by seed, one mapping for each domain of the group.
  """

  domain: str
  phase: str
  method: str
  results: Tuple[_Results, ...]

  def matrix(self, field: str) -> Optional[np.ndarray]:
    """Returns `[R, D]` values of a result field, or None.

    Only seeds with a finite value in each of the D domains count; None if there
    are none.
    """
    seeds = set.intersection(*(set(results) for results in self.results))
    rows = [
        [getattr(results[seed], field) for results in self.results]
        for seed in sorted(seeds)
    ]
    rows = [row for row in rows if np.all(np.isfinite(row))]
    return np.array(rows) if rows else None

  def scores(self) -> np.ndarray:
    """Returns `[R, D]` scores.

    Raises:
      ValueError: If no seed has a score in each of the D domains.
    """
    matrix = self.matrix('score')
    if matrix is None:
      raise ValueError(f'{self.method} must have scores in {self.domain}.')
    return matrix

  def flat(self) -> List[runs_lib.PhaseResult]:
    """Returns the results of the seeds that all domains have."""
    seeds = set.intersection(*(set(results) for results in self.results))
    return [
        results[seed] for results in self.results for seed in sorted(seeds)
    ]


class Row(NamedTuple):
  """One row of the table.

  Attributes:
    domain: A domain, or `ALL_DOMAINS`.
    phase: The phase.
    method: The method.
    num_seeds: Number of seeds in `score`.
    num_partial: Number of runs that stopped within the phase.
    score: Interquartile mean over seeds.
    seed_scores: `[R]` scores of the seeds, averaged over domains.
    score_without_search: Same as `score`, without search; None if not logged.
    success_rate: Rate over all episodes of all seeds; None if not logged.
    success_rate_without_search: Same, without search.
    steps_to_success: Mean environment steps to success, over the successful
      episodes of all seeds; None if there are none.
    steps_to_success_without_search: Same, without search.
    mean_return: Mean undiscounted return over all seeds; None if not logged.
    mean_return_without_search: Same, without search.
    num_episodes: Number of episodes behind each rate, over all seeds.
    env_steps: Mean environment steps of the phase.
    minutes: Mean duration of the phase in minutes.
  """

  domain: str
  phase: str
  method: str
  num_seeds: int
  num_partial: int
  score: statistics.Estimate
  seed_scores: np.ndarray
  score_without_search: Optional[statistics.Estimate]
  success_rate: Optional[statistics.Estimate]
  success_rate_without_search: Optional[statistics.Estimate]
  steps_to_success: Optional[float]
  steps_to_success_without_search: Optional[float]
  mean_return: Optional[float]
  mean_return_without_search: Optional[float]
  num_episodes: int
  env_steps: float
  minutes: float


class Pair(NamedTuple):
  """Comparison of the scores of two methods in one phase of one domain."""

  domain: str
  phase: str
  first: str
  second: str
  comparison: statistics.Comparison


def make_groups(runs: Sequence[runs_lib.Run]) -> List[Group]:
  """Groups results by domain, phase and method.

  Domains and methods are in the order of the runs, phases in that of a run.

  If there are several domains, methods with runs in all of them also get
  groups of `ALL_DOMAINS`, at the end.
  """
  results: Dict[Tuple[str, str, str], Dict[int, runs_lib.PhaseResult]] = {}
  for run in runs:
    for phase in dict.fromkeys(run.metrics.phases.tolist()):
      result = runs_lib.phase_result(run, phase)
      if result is not None:
        own = results.setdefault((run.domain, phase, run.method), {})
        own[run.seed] = result
  domains = list(dict.fromkeys(run.domain for run in runs))
  methods = list(dict.fromkeys(run.method for run in runs))
  # Stable: a phase that is not listed comes last.
  phases = sorted(
      dict.fromkeys(phase for _, phase, _ in results),
      key=lambda x: PHASES.index(x) if x in PHASES else len(PHASES),
  )
  groups = [
      Group(*key, (results[key],))
      for key in itertools.product(domains, phases, methods)
      if key in results
  ]
  for phase, method in itertools.product(phases, methods):
    keys = [(domain, phase, method) for domain in domains]
    if len(domains) > 1 and all(key in results for key in keys):
      group = Group(
          ALL_DOMAINS, phase, method, tuple(results[key] for key in keys)
      )
      if group.matrix('score') is not None:
        groups.append(group)
  return groups


def make_row(
    group: Group, *, num_resamples: int = statistics.NUM_RESAMPLES
) -> Row:
  """Returns the table row of one group."""
  matrix = group.scores()
  without_search = group.matrix('score_without_search')
  results = group.flat()
  return Row(
      domain=group.domain,
      phase=group.phase,
      method=group.method,
      num_seeds=len(matrix),
      num_partial=sum(result.is_partial for result in results),
      score=statistics.estimate(matrix, num_resamples=num_resamples),
      seed_scores=matrix.mean(axis=1),
      score_without_search=None
      if without_search is None
      else statistics.estimate(without_search, num_resamples=num_resamples),
      success_rate=_pooled_rate(results, 'success_rate'),
      success_rate_without_search=_pooled_rate(
          results, 'success_rate_without_search'
      ),
      **{
          f'{name}{ending}': _pooled_mean(results, name, ending)
          for name in ('steps_to_success', 'mean_return')
          for ending in ('', '_without_search')
      },
      num_episodes=sum(result.num_episodes for result in results),
      env_steps=float(np.mean([result.env_steps for result in results])),
      minutes=float(np.mean([x.wall_seconds for x in results])) / 60.0,
  )


def make_pairs(
    groups: Sequence[Group],
    baseline: Optional[str] = None,
    *,
    num_resamples: int = statistics.NUM_RESAMPLES,
    progress: Callable[[int], None] = lambda num_done: None,
) -> List[Pair]:
  """Compares methods within each phase of each domain.

  Phases that runs took over from others are left out: their networks may be the
  same.

  Args:
    groups: Result of `make_groups`.
    baseline: Method to compare all others with. None compares every pair, the
      method with the higher score first.
    num_resamples: Number of bootstrap resamples.
    progress: Called with the number of comparisons done.

  Raises:
    ValueError: If `baseline` is not a method of the groups.
  """
  couples = _couples(groups, baseline)
  pairs = []
  for first, second in couples:
    pairs.append(
        Pair(
            first.domain,
            first.phase,
            first.method,
            second.method,
            statistics.compare(
                first.scores(),
                second.scores(),
                num_resamples=num_resamples,
            ),
        )
    )
    progress(len(pairs))
  return pairs


def num_pairs(
    groups: Sequence[Group], baseline: Optional[str] = None
) -> int:
  """Returns the number of pairs of `make_pairs`; raises the same errors."""
  return len(_couples(groups, baseline))


def verdict(pair: Pair) -> str:
  """Returns which method scores higher, or that the order is not resolved."""
  found = pair.comparison
  if found.is_resolved:
    words = 'above' if found.mean_difference > 0 else 'below'
    return f'{pair.first} is {words} {pair.second}'
  text = f'not resolved; by chance in {found.by_chance:.0%} of studies'
  if found.num_needed_seeds is not None:
    text += (
        '; with the observed variance a resolution would need'
        f' {found.num_needed_seeds} seeds each'
    )
  return text


def as_text(estimate: statistics.Estimate, style: str) -> str:
  """Formats a number, followed by its interval in brackets if there is one.

  Args:
    estimate: Estimate of a scalar.
    style: Number format, such as '.1f'.
  """
  value, low, high = (format(x, style) for x in estimate)
  return f'{value} [{low}, {high}]' if estimate.has_interval else value


def _couples(
    groups: Sequence[Group], baseline: Optional[str]
) -> List[Tuple[Group, Group]]:
  methods = list(dict.fromkeys(group.method for group in groups))
  if baseline is not None and baseline not in methods:
    raise ValueError(
        f'`baseline` must be one of {methods}, got {baseline!r}.'
    )
  couples: List[Tuple[Group, Group]] = []
  for _, kin in itertools.groupby(groups, key=lambda x: (x.domain, x.phase)):
    own = [x for x in kin if not any(y.is_taken_over for y in x.flat())]
    if baseline is None:
      own.sort(key=_mean_score, reverse=True)
      couples += itertools.combinations(own, 2)
      continue
    references = [group for group in own if group.method == baseline]
    couples += [
        (group, reference)
        for reference in references
        for group in own
        if group is not reference
    ]
  return couples


def _mean_score(group: Group) -> float:
  return float(statistics.interquartile_mean(group.scores()))


def _pooled_rate(
    results: Sequence[runs_lib.PhaseResult], field: str
) -> Optional[statistics.Estimate]:
  """Returns the rate over all episodes; None unless every result has it."""
  if not all(
      np.isfinite(getattr(result, field)) and result.num_episodes
      for result in results
  ):
    return None
  num_episodes = sum(result.num_episodes for result in results)
  num_successes = sum(
      round(getattr(x, field) * x.num_episodes) for x in results
  )
  rate = num_successes / num_episodes
  return statistics.Estimate(
      rate, *proportion.wilson_interval(rate, num_episodes)
  )


def _pooled_mean(
    results: Sequence[runs_lib.PhaseResult], name: str, ending: str
) -> Optional[float]:
  """Returns a mean over the episodes of all seeds; None if not logged.

  Steps to success are averaged over successful episodes, returns over all.
  """
  total = weights = 0.0
  for result in results:
    value = getattr(result, name + ending)
    weight = result.num_episodes
    if name == 'steps_to_success':
      weight *= getattr(result, f'success_rate{ending}')
    if np.isfinite(value) and weight > 0:
      total += weight * value
      weights += weight
  return total / weights if weights else None
