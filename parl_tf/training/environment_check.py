"""Checks that environments are those that their domain promises."""

from typing import Any

from absl import logging
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import domain as domain_lib


def check(environment: Any, domain: domain_lib.Domain) -> None:
  """Checks the type and the specs of an environment; takes no step.

  Args:
    environment: What `domain.make_environment` returned.
    domain: `Domain`.

  Raises:
    TypeError: If it is no `domain.Environment`.
    ValueError: If observations or actions have other shapes or dtypes.
  """
  if not isinstance(environment, domain_lib.Environment):
    raise TypeError(
        f'`{domain.name}.make_environment` must return a `domain.Environment`,'
        f' got a {type(environment).__name__}. docs/your_task.md shows how to'
        ' adapt another environment.'
    )
  for name in ('observation_spec', 'action_spec'):
    wanted = _described(getattr(domain, name)())
    found = _described(getattr(environment, name)())
    if found != wanted:
      raise ValueError(
          f'`{name}` of the environment must have the shapes and dtypes of'
          f' `{domain.name}.{name}`, {wanted}, got {found}.'
      )


def check_observation(observation: types.Nest, spec: types.Nest) -> None:
  """Checks the observation after a reset.

  Args:
    observation: Nest of arrays.
    spec: The environment's spec.

  Raises:
    ValueError: If it has another structure, shape or dtype.
  """
  wanted, found = _described(spec), _described(observation)
  if found != wanted:
    raise ValueError(
        f'The observation after a reset must be {wanted}, as in'
        f' `observation_spec`, got {found}.'
    )


class TimeLimits:
  """Warns once if episodes end as failures where the time limit ends them."""

  def __init__(self, domain: domain_lib.Domain):
    """Initializes the object for the episodes of a domain."""
    self._limit = domain.max_episode_steps
    self._num_ended = 0

  def see(self, episode: types.Episode) -> None:
    """Looks at a whole episode."""
    if (
        episode.num_steps != self._limit
        or episode.discount[-1] != 0
        or episode.success[-1]
    ):
      return
    self._num_ended += 1
    if self._num_ended == 2:  # One may have failed just then.
      logging.warning(
          'Two episodes ended with discount 0 and without success in step %d,'
          ' at the time limit (`max_episode_steps`). A time limit must leave'
          ' the discount at 1: return `dm_env.truncation(reward, observation)`,'
          ' in gymnasium `truncated` instead of `terminated`.',
          self._limit,
      )


def _described(nest: types.Nest) -> str:
  """Describes the shapes and dtypes of arrays or specs."""

  def leaf(x):
    x = x if hasattr(x, 'dtype') else np.asarray(x)
    return f'{np.dtype(x.dtype).name} {list(x.shape)}'

  parts = tree.map_structure(leaf, nest)
  if isinstance(parts, str):
    return parts
  return ', '.join(
      f'{"/".join(map(str, path))}: {x}'
      for path, x in tree.flatten_with_path(parts)
  )
