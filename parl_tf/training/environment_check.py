"""Checks that environments are those that their domain promises."""

from typing import Any

import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import closing
from parl_tf.domains import domain as domain_lib


def make(
    domain: domain_lib.Domain, seed: int, evaluation: bool
) -> domain_lib.Environment:
  """Makes an environment, and checks its type and specs without a step.

  Args:
    domain: `Domain`.
    seed: See `Domain.make_environment`.
    evaluation: See `Domain.make_environment`.

  Raises:
    TypeError: If it is no `domain.Environment`.
    ValueError: If observations or actions have other shapes or dtypes.
  """
  environment: Any = domain.make_environment(seed, evaluation)
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
      closing.close(domain, [environment])
      raise ValueError(
          f'`{name}` of the environment must have the shapes and dtypes of'
          f' `{domain.name}.{name}`, {wanted}, got {found}.'
      )
  return environment


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
