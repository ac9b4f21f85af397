"""Checks that the settings of a run come from gin."""

import inspect
from typing import Any, Callable, Mapping

import gin


def check(configurable: Callable[..., Any], given: Mapping[str, Any]) -> None:
  """Checks that no setting was given in Python only.

  A run's directory stores gin's configuration, which a later session must
  repeat and which other processes of the run share.

  Args:
    configurable: A function that gin configures.
    given: Its keyword-only arguments.

  Raises:
    ValueError: If an argument is neither the bound value nor the default.
  """
  bound = gin.get_bindings(configurable)
  for name, parameter in inspect.signature(configurable).parameters.items():
    if parameter.kind != parameter.KEYWORD_ONLY:
      continue
    value, wanted = given[name], bound.get(name, parameter.default)
    if _comparable(value) != _comparable(wanted):
      raise ValueError(
          f'`{configurable.__name__}.{name}` must be bound in gin, where later'
          f' sessions and other processes find it; it is {wanted!r} there, got'
          f' the argument {value!r}.'
      )


def _comparable(value):
  # Gin may wrap a class or function again for each reference.
  if inspect.isclass(value) or inspect.isfunction(value):
    return value.__module__, value.__qualname__
  return tuple(value) if isinstance(value, list) else value
