"""Names the element of an observation in which failed starts differ most.

A policy that fails in some of its episodes may fail by chance, or always from
certain starts: a goal that the data never reached, for example.
"""

import math
from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np
import tree

from parl_tf import types

_LEAST = 5  # Episodes of either kind that are needed.
_LEVEL = 0.01  # Of the test, for all elements together.


class Difference(NamedTuple):
  """An element of the first observation that tells failures from successes.

  Attributes:
    element: Its name, such as `desired_goal[2]`.
    failed: Its mean over failed episodes.
    succeeded: Its mean over successful ones.
    separation: Share of pairs of a failed and a successful episode in which the
      failed one has the larger element, ties counted half: 0.5 if it tells
      nothing, 0 or 1 if it tells everything.
  """

  element: str
  failed: float
  succeeded: float
  separation: float

  def describe(self) -> str:
    """Returns a sentence."""
    share = max(self.separation, 1.0 - self.separation)
    comparison = 'higher' if self.separation > 0.5 else 'lower'
    return (
        f'Failed episodes start with {comparison} {self.element}:'
        f' {self.failed:.3g} on average, where successful ones have'
        f' {self.succeeded:.3g} ({comparison} in {100 * share:.0f} % of pairs).'
    )


def find(
    episodes: Sequence[types.Episode], successes: np.ndarray
) -> Optional[Difference]:
  """Returns the element that separates best, if that is hardly chance.

  By the rank-sum test of Wilcoxon (1945), at a level of 1 percent for all
  elements together. Images are left out.

  Args:
    episodes: Episodes that were played.
    successes: `[num_episodes]` bool.
  """
  successes = np.asarray(successes, bool)
  num_failed = int(np.sum(~successes))
  num_succeeded = len(successes) - num_failed
  if min(num_failed, num_succeeded) < _LEAST:
    return None
  columns = _columns(episodes)
  best = None
  for name, values in columns.items():
    failed, succeeded = values[~successes], values[successes]
    pairs = failed[:, np.newaxis] - succeeded
    separation = float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    if best is None or abs(separation - 0.5) > abs(best.separation - 0.5):
      best = Difference(
          name, float(failed.mean()), float(succeeded.mean()), separation
      )
  deviation = math.sqrt(
      (len(successes) + 1) / (12 * num_failed * num_succeeded)
  )
  if best is None or _chance(
      abs(best.separation - 0.5) / deviation
  ) * len(columns) > _LEVEL:
    return None
  return best


def _columns(episodes) -> Dict[str, np.ndarray]:
  """Returns each element of the first observations, `[num_episodes]`."""
  columns = {}
  # Each leaf has the parts of all episodes, `[T + 1, ...]`.
  leaves = zip(*(tree.flatten_with_path(x.observation) for x in episodes))
  for parts in leaves:
    path, part = parts[0]
    if part.ndim > 2 or part.dtype == np.uint8:
      continue  # An image.
    first = np.stack([part[0] for _, part in parts]).astype(np.float64)
    name = '.'.join(map(str, path)) or 'observation'
    for i, values in enumerate(first.reshape([len(first), -1]).T):
      columns[f'{name}[{i}]'] = values
  return columns


def _chance(deviations: float) -> Any:
  """Returns the two-sided probability of a normal number as far from 0."""
  return math.erfc(deviations / math.sqrt(2.0))
