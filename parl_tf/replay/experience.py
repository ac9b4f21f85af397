"""What one training step asks of the tables."""

from typing import List, Mapping, NamedTuple, Optional

from parl_tf import types

TABLE_NAMES = ('offline', 'online')


class ExperienceRequest(NamedTuple):
  """Numbers of rows of the parts of one `types.Experience`.

  Each part has slices times batch size rows, slice by slice. Within a slice
  the offline rows come first, then the online rows. A part with no rows is
  `()`.

  Attributes:
    critic_slices: Critic updates in one training step.
    critic_batch_size: Rows of each.
    critic_offline_fraction: Exact share of each slice from table `offline`; 1
      never touches `online`.
    policy_slices: Policy updates in one training step.
    policy_batch_size: Rows of each.
    policy_offline_fraction: Likewise; None draws uniformly from the union of
      both tables, in no order of tables.
    cloning_batch_size: Rows of the pre-training part, from `offline` only.
  """

  critic_slices: int = 0
  critic_batch_size: int = 0
  critic_offline_fraction: Optional[float] = 1.0
  policy_slices: int = 0
  policy_batch_size: int = 0
  policy_offline_fraction: Optional[float] = None
  cloning_batch_size: int = 0


class PartRequest(NamedTuple):
  """Rows of one part.

  Attributes:
    name: Field of `types.Experience`.
    num_slices: Slices, each drawn on its own.
    offline_rows: Rows of a slice from table `offline`; None where each row is
      drawn uniformly from the union of both tables.
    batch_size: Rows of a slice.
  """

  name: str
  num_slices: int
  offline_rows: Optional[int]
  batch_size: int


def requested_parts(request: ExperienceRequest) -> types.Experience:
  """Splits a request into its parts.

  Args:
    request: Rows wanted.

  Returns:
    `types.Experience` of `PartRequest`, or `()` for a part without rows.

  Raises:
    ValueError: If a number of rows is negative, or a fraction of a batch is not
      a whole number of rows.
  """
  parts = types.Experience(
      critic=_part(
          'critic',
          request.critic_slices,
          request.critic_batch_size,
          request.critic_offline_fraction,
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
    raise ValueError(f'A request must ask for some rows, got {request}.')
  return parts


class EmptyTableError(ValueError):
  """A table has no transition that rows could be made of."""


def needed_tables(part: PartRequest, sizes: Mapping[str, int]) -> List[str]:
  """Returns the tables that rows of a part come from.

  Args:
    part: Rows wanted.
    sizes: Transitions in `offline` and `online`.

  Returns:
    Their names, `offline` first.

  Raises:
    EmptyTableError: If one of them is empty.
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
  for name in needed:
    if not sizes[name]:
      raise EmptyTableError(
          f'`{part.name}` needs rows of table `{name}`, which is empty.'
      )
  return needed


def _part(
    name: str, num_slices: int, batch_size: int, fraction: Optional[float]
):
  """Returns the `PartRequest`, or `()` where there are no rows."""
  if num_slices < 0 or batch_size < 0:
    raise ValueError(
        f'`{name}` slices and batch size must not be negative, got '
        f'{num_slices} and {batch_size}.'
    )
  if not num_slices * batch_size:
    return ()
  if fraction is None:
    return PartRequest(name, num_slices, None, batch_size)
  if not 0.0 <= fraction <= 1.0:
    raise ValueError(
        f'`{name}_offline_fraction` must be in [0, 1], got {fraction}.'
    )
  offline_rows = round(fraction * batch_size)
  # The tolerance admits the rounding of a decimal such as 0.1 * 30.
  if abs(fraction * batch_size - offline_rows) > 1e-6 * batch_size:
    raise ValueError(
        f'`{name}_offline_fraction` times `{name}_batch_size` must be a whole '
        f'number of rows, got {fraction} * {batch_size} = '
        f'{fraction * batch_size}.'
    )
  return PartRequest(name, num_slices, offline_rows, batch_size)
