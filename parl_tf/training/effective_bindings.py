"""The bindings of a gin configuration without those that change nothing."""

import ast
import inspect
import re
from typing import Dict, List, Sequence

import gin

_MACRO = re.compile(r'%([\w./]+)')


def effective(lines: Sequence[str]) -> List[str]:
  """Replaces macros by their values, and drops bindings to defaults.

  A setting that a later version of the library binds to its default then does
  not tell a run from one that began before. Scoped bindings are kept: without
  one, the binding without its scope would hold.

  Args:
    lines: Bindings and macros, `name = value`, one per line, and comments. The
      modules that they configure are imported.

  Returns:
    The other bindings, and the comments, in their order.
  """
  macros: Dict[str, str] = {}
  bindings = []
  for line in lines:
    name, _, value = line.partition(' = ')
    if line.startswith('#') or '.' in name:
      bindings.append(line)
    else:
      macros[name] = value
  bindings = [_replace_macros(line, macros) for line in bindings]
  return [line for line in bindings if not _is_default(line)]


def _replace_macros(line: str, macros: Dict[str, str]) -> str:
  for _ in macros:  # A macro may be bound to another one.
    replaced = _MACRO.sub(lambda x: macros.get(x[1], x[0]), line)
    if replaced == line:
      break
    line = replaced
  return line


def _is_default(line: str) -> bool:
  name, _, text = line.partition(' = ')
  selector, _, parameter = name.rpartition('.')
  if line.startswith('#') or '/' in selector:
    return False
  try:
    parameters = inspect.signature(gin.get_configurable(selector)).parameters
    value = ast.literal_eval(text)
  except (KeyError, ValueError, SyntaxError):
    # The name is unknown or ambiguous in this version, or a reference.
    return False
  if parameter not in parameters:
    return False
  default = parameters[parameter].default
  return type(value) is type(default) and value == default
