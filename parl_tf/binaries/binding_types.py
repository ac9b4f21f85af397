"""Checks the types of bound values against the annotations of parameters."""

import inspect
import typing
from typing import Any, Mapping, Tuple

import gin

_NUMBERS = (int, float, bool)


def check(bindings: Mapping[Tuple[str, str], Mapping[str, Any]]) -> None:
  """Checks that no text is bound to a number, nor the reverse.

  Also, that no float, such as `1e3`, is bound to an integer.

  Args:
    bindings: Values by `(scope, configurable)`, then by parameter.

  Raises:
    ValueError: If one is. The message names the parameter.
  """
  for (_, name), values in bindings.items():
    if name == 'gin.macro':
      continue
    hints = None
    for parameter, value in values.items():
      if not isinstance(value, (str, *_NUMBERS)):
        continue
      if hints is None:
        hints = _hints(gin.get_configurable(name))
      allowed = _alternatives(hints.get(parameter, Any))
      if isinstance(value, float):
        is_wrong = all(x in (int, bool, str, type(None)) for x in allowed)
      elif isinstance(value, str):
        is_wrong = all(x in (*_NUMBERS, type(None)) for x in allowed)
      else:
        is_wrong = all(x in (str, type(None)) for x in allowed)
      if is_wrong:
        wanted = ' or '.join(getattr(x, '__name__', str(x)) for x in allowed)
        raise ValueError(
            f'`{name.rpartition(".")[2]}.{parameter}` must be of type'
            f' {wanted.replace("NoneType", "None")}, got {value!r}.'
        )


def _hints(configurable: Any) -> Mapping[str, Any]:
  function = inspect.unwrap(configurable)
  if inspect.isclass(function):
    function = function.__init__
  return getattr(inspect.unwrap(function), '__annotations__', {})


def _alternatives(hint: Any) -> Tuple[Any, ...]:
  """Returns the members of a union, or the hint alone."""
  if typing.get_origin(hint) is typing.Union:
    return typing.get_args(hint)
  return (hint,)
