"""Checks the types of bound values against the annotations of parameters."""

import collections.abc
import inspect
import typing
from typing import Any, Mapping, Tuple

import gin

_NUMBERS = (int, float, bool)
_COLLECTIONS = (
    tuple, list, dict, collections.abc.Sequence, collections.abc.Mapping,
    collections.abc.Iterable, collections.abc.Collection,
)
_BOUND_COLLECTIONS = (list, tuple, dict)
# What to do instead of binding a collection.
_REMEDIES = {
    'run_experiment.dataset_path': (
        ' It must be one path: join the datasets with `parl-data convert a.hdf5'
        ' b.hdf5 --output all.hdf5`, and bind the output.'
    ),
}


def check(bindings: Mapping[Tuple[str, str], Mapping[str, Any]]) -> None:
  """Checks that no text or None is bound to a number, nor the reverse.

  Also, that neither is bound to a tuple, a dict, a function, or an object of
  this package, that none of these is bound to a number or text, and that no
  float, such as `1e3`, is bound to an integer.

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
      is_collection = isinstance(value, _BOUND_COLLECTIONS)
      if value is not None and not is_collection and not isinstance(
          value, (str, *_NUMBERS)
      ):
        continue
      if hints is None:
        hints = _hints(gin.get_configurable(name))
      allowed = _alternatives(hints.get(parameter, Any))
      if not any(_may_be(x, value) for x in allowed):
        label = f'{name.rpartition(".")[2]}.{parameter}'
        wanted = f'of type {" or ".join(map(_name, allowed))}'
        if isinstance(value, str) and any(map(_is_made, allowed)):
          wanted = 'a reference to a name, such as `@Name` or `@Name()`'
        remedy = _REMEDIES.get(label, '') if is_collection else ''
        raise ValueError(
            f'`{label}` must be {wanted}, got {value!r}.{remedy}'
        )


def _hints(configurable: Any) -> Mapping[str, Any]:
  function = inspect.unwrap(configurable)
  if inspect.isclass(function):
    function = function.__init__
  return getattr(inspect.unwrap(function), '__annotations__', {})


def _may_be(hint: Any, value: Any) -> bool:
  """Returns whether a value may have a type, as far as is known.

  Args:
    hint: The type.
    value: Number, text, collection or None.
  """
  if value is None:
    return hint not in (str, *_NUMBERS)
  if isinstance(value, _BOUND_COLLECTIONS):
    return hint not in (str, *_NUMBERS, type(None))
  if hint is type(None) or (typing.get_origin(hint) or hint) in _COLLECTIONS:
    return False
  if hint is str:
    return isinstance(value, str)
  if _is_made(hint):
    return False
  if hint in _NUMBERS:
    is_float = isinstance(value, float)
    return not isinstance(value, str) and (hint is float or not is_float)
  return True


def _is_made(hint: Any) -> bool:
  """Returns whether a type is a function's, or that of a parl_tf object."""
  if (typing.get_origin(hint) or hint) is collections.abc.Callable:
    return True
  return inspect.isclass(hint) and hint.__module__.startswith('parl_tf.')


def _name(hint: Any) -> str:
  if hint is type(None):
    return 'None'
  if typing.get_origin(hint) is None:
    return getattr(hint, '__name__', str(hint))
  return str(hint).replace('typing.', '')


def _alternatives(hint: Any) -> Tuple[Any, ...]:
  """Returns the members of a union, or the hint alone."""
  if typing.get_origin(hint) is typing.Union:
    return typing.get_args(hint)
  return (hint,)
