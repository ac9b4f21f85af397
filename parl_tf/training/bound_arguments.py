"""Checks that the settings of a run come from gin."""

import inspect
from typing import Any, Callable, Mapping

import gin

_PLAIN = (bool, int, float, str, tuple, list, type(None))


def check(configurable: Callable[..., Any], given: Mapping[str, Any]) -> None:
  """Checks that no setting was given in Python only.

  A run's directory stores gin's configuration, which a later session must
  repeat and which other processes of the run share.

  Args:
    configurable: A function that gin configures.
    given: Its keyword-only arguments; numbers, texts and sequences are checked.

  Raises:
    ValueError: If an argument is neither the bound value nor the default.
  """
  bound = gin.get_bindings(configurable)
  for name, parameter in inspect.signature(configurable).parameters.items():
    value = given.get(name)
    wanted = bound.get(name, parameter.default)
    is_checked = (
        parameter.kind == parameter.KEYWORD_ONLY
        and isinstance(value, _PLAIN)
        and isinstance(wanted, _PLAIN)
    )
    if is_checked and value != wanted:
      raise ValueError(
          f'`{configurable.__name__}.{name}` must be bound in gin, where later'
          f' sessions and other processes find it; it is {wanted!r} there, got'
          f' the argument {value!r}.'
      )
