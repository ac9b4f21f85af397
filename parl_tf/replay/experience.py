"""Requests for the rows of one training step."""

import math
from typing import Dict, List, Mapping, NamedTuple, Optional

import gin
import numpy as np

from parl_tf import types

TABLE_NAMES = ('offline', 'online')


class ExperienceRequest(NamedTuple):
  """The number of rows in each part of one `types.Experience`.

  A part has (slices * batch size) rows, ordered by slice. Within a slice, the
  offline rows come first if their fraction is exact. A part without rows is
  `()`.

  Attributes:
    critic_slices: Critic updates in one training step.
    critic_batch_size: Rows per critic update.
    critic_offline_fraction: Exact fraction of each slice from table `offline`.
      If it is 1, `online` is never read.
    policy_slices: Policy updates in one training step.
    policy_batch_size: Rows per policy update.
    policy_offline_fraction: Same as `critic_offline_fraction`. If it is None,
      rows are sampled uniformly from the union of both tables, and their order
      does not depend on the table.
    cloning_batch_size: Rows of the pre-training part, from `offline` only.
    critic_max_online_weight: How many times as often a transition of `online`
      may be drawn as one of `offline`. The fraction from `offline` is then at
      least that above, on average: larger while `online` is small. None sets no
      limit. Without a fraction, all transitions are equally likely.
  """

  critic_slices: int = 0
  critic_batch_size: int = 0
  critic_offline_fraction: Optional[float] = 1.0
  policy_slices: int = 0
  policy_batch_size: int = 0
  policy_offline_fraction: Optional[float] = None
  cloning_batch_size: int = 0
  critic_max_online_weight: Optional[float] = None


class PartRequest(NamedTuple):
  """Rows of one part.

  Attributes:
    name: Field of `types.Experience`.
    num_slices: Number of slices; each is sampled independently.
    offline_rows: Rows per slice from table `offline`. None if each row is
      sampled uniformly from the union of both tables.
    batch_size: Rows per slice.
    max_online_weight: How many times as often a transition of `online` may be
      drawn as one of `offline`; with it, `offline_rows` is the least number on
      average. None sets no limit.
  """

  name: str
  num_slices: int
  offline_rows: Optional[int]
  batch_size: int
  max_online_weight: Optional[float] = None

  @property
  def exact_offline_rows(self) -> Optional[int]:
    """Rows per slice from table `offline`; None if their number varies."""
    return self.offline_rows if self.max_online_weight is None else None


def requested_parts(request: ExperienceRequest) -> types.Experience:
  """Splits a request into its parts.

  Args:
    request: The requested rows.

  Returns:
    `types.Experience` of `PartRequest`; a part without rows is `()`.

  Raises:
    ValueError: If a number of rows is negative, if no rows are requested, if a
      fraction of a batch is not a whole number of rows, or if the weight of
      online transitions is not positive.
  """
  parts = types.Experience(
      critic=_part(
          'critic',
          request.critic_slices,
          request.critic_batch_size,
          request.critic_offline_fraction,
          request.critic_max_online_weight,
      ),
      policy=_part(
          'policy',
          request.policy_slices,
          request.policy_batch_size,
          request.policy_offline_fraction,
      ),
      cloning=_part(
          'cloning',
          1 if request.cloning_batch_size else 0,
          request.cloning_batch_size,
          1.0,
      ),
  )
  if not any(parts):
    raise ValueError(f'A request must have at least one row, got {request}.')
  return parts


@gin.configurable('n_step_returns', denylist=['chunk_length'])
def row_offsets(
    chunk_length: int, online_steps: int = 1
) -> Dict[str, np.ndarray]:
  """Returns the steps of a row, counted from its first, for each table.

  A critic regresses on an n-step return if its row spans n steps: the sum of
  gamma^k r_k over these, and then the value of the state that they lead to. A
  row of `online` spans `online_steps`. The later actions of a dataset may be
  far worse than the policy's, so a row of `offline` spans one step. Chunks of H
  actions make both at least H. So that all rows have one shape, those of
  `offline` repeat their last step.

  Args:
    chunk_length: H, the number of actions in a chunk.
    online_steps: n of the n-step returns of online episodes.

  Returns:
    `[max(H, n) + 1]` integers for each table.

  Raises:
    ValueError: If a number is not a positive integer.
  """
  for name, value in (
      ('build_agent.chunk_length', chunk_length),
      ('n_step_returns.online_steps', online_steps),
  ):
    if not isinstance(value, int) or value < 1:
      raise ValueError(f'`{name}` must be a positive integer, got {value!r}.')
  offsets = np.arange(max(chunk_length, online_steps) + 1)
  return {'offline': np.minimum(offsets, chunk_length), 'online': offsets}


class EmptyTableError(ValueError):
  """A table has no transition to sample rows from."""


def needed_tables(part: PartRequest, sizes: Mapping[str, int]) -> List[str]:
  """Returns the tables that the rows of a part come from.

  Args:
    part: The requested rows.
    sizes: Transitions in `offline` and `online`.

  Returns:
    The table names, `offline` first.

  Raises:
    EmptyTableError: If one of these tables is empty.
  """
  if part.offline_rows is None:
    needed = [name for name in TABLE_NAMES if sizes[name]]
    if not needed:
      raise EmptyTableError(
          f'`{part.name}` needs a transition, but tables {list(TABLE_NAMES)} '
          'are empty.'
      )
    return needed
  rows = (part.offline_rows, part.batch_size - part.offline_rows)
  needed = [name for name, count in zip(TABLE_NAMES, rows) if count]
  if part.max_online_weight is not None and sizes['offline']:
    # Rows of `offline` may take the place of those of `online`.
    is_drawn = 'online' in needed and sizes['online']
    needed = list(TABLE_NAMES) if is_drawn else ['offline']
  for name in needed:
    if not sizes[name]:
      raise EmptyTableError(
          f'`{part.name}` needs rows from table `{name}`, which is empty.'
      )
  return needed


def counted_online(part: PartRequest, sizes: Mapping[str, int]) -> float:
  """Returns how many transitions the table `online` counts as.

  A row comes from one of both tables with a probability in proportion to the
  size of `offline` and this number.

  Args:
    part: The requested rows, without `exact_offline_rows`.
    sizes: Transitions in `offline` and `online`.
  """
  if part.offline_rows is None or part.max_online_weight is None:
    return float(sizes['online'])
  counted = part.max_online_weight * sizes['online']
  if not part.offline_rows:
    return counted
  online_rows = part.batch_size - part.offline_rows
  return min(counted, sizes['offline'] * online_rows / part.offline_rows)


def _part(
    name: str,
    num_slices: int,
    batch_size: int,
    fraction: Optional[float],
    max_online_weight: Optional[float] = None,
):
  """Returns the `PartRequest`, or `()` if it has no rows."""
  if num_slices < 0 or batch_size < 0:
    raise ValueError(
        f'`{name}` slices and batch size must not be negative, got '
        f'{num_slices} and {batch_size}.'
    )
  if not num_slices * batch_size:
    return ()
  if max_online_weight is not None and not 0.0 < max_online_weight < math.inf:
    raise ValueError(
        f'`{name}_max_online_weight` must be positive and finite, or None, got'
        f' {max_online_weight}.'
    )
  if fraction is None:
    return PartRequest(name, num_slices, None, batch_size)
  if not 0.0 <= fraction <= 1.0:
    raise ValueError(
        f'`{name}_offline_fraction` must be in [0, 1], got {fraction}.'
    )
  offline_rows = round(fraction * batch_size)
  # The tolerance allows for rounding errors, as in 0.1 * 30.
  if abs(fraction * batch_size - offline_rows) > 1e-6 * batch_size:
    raise ValueError(
        f'`{name}_offline_fraction` times `{name}_batch_size` must be a whole '
        f'number of rows, got {fraction} * {batch_size} = '
        f'{fraction * batch_size}.'
    )
  return PartRequest(
      name, num_slices, offline_rows, batch_size, max_online_weight
  )
