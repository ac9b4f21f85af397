"""Finds bindings of a user for parts that the agent does not have.

Gin accepts a setting of any class, such as one of IQL's critic in a run that
has Cal-QL's.
"""

import os
from typing import Any, Callable, Dict, Iterator, List, Sequence, Set, Tuple

import gin

from parl_tf.binaries import gin_syntax

_PARTS = ('agents', 'critics', 'improvers', 'networks', 'policies', 'search')
_USED = '# Parameters for '
_RUN = 'config.gin'


def warnings(
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    find: Callable[[str], str],
    is_own: Callable[[str], bool],
) -> List[str]:
  """Returns a sentence for each file and class without effect.

  Call it once the agent is made: what gin has called until then is used.

  Args:
    gin_files: Names of the gin files that have been parsed.
    gin_bindings: Bindings that have been parsed.
    find: Returns the path of a file.
    is_own: Whether a path is that of a user's file.
  """
  used = _used_names()
  found: Dict[Tuple[str, str], Dict[str, None]] = {}
  for source, statement in own_statements(
      gin_files, gin_bindings, find, is_own
  ):
    part = statement.selector.rpartition('.')[2]
    if part not in used and _is_part(statement.selector):
      names = found.setdefault((source, part), {})
      names[f'{part}.{statement.arg_name}'] = None
  return [
      f'{source}: {", ".join(names)} {"have" if len(names) > 1 else "has"} no'
      f' effect, because the agent has no {part}. `operative_config.gin` in the'
      ' directory of the run lists what it has.'
      for (source, part), names in found.items()
  ]


def own_statements(
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    find: Callable[[str], str],
    is_own: Callable[[str], bool],
) -> Iterator[Tuple[str, Any]]:
  """Yields source and statement of each binding of the user, but for macros.

  Args:
    gin_files: See `warnings`.
    gin_bindings: See `warnings`.
    find: See `warnings`.
    is_own: See `warnings`.
  """
  sources = [(gin_syntax.read(find(name)), name) for name in gin_files]
  for text, name in (*sources, *((text, '') for text in gin_bindings)):
    for file, statement in gin_syntax.bindings(text, name, find):
      # A run's own configuration holds what the library's files bound.
      if file and (os.path.basename(file) == _RUN or not is_own(find(file))):
        continue
      if statement.arg_name:
        yield file or '--gin_bindings', statement


def is_of_agent(statement: Any) -> bool:
  """Returns whether a binding is for a class or function that the agent has."""
  name = statement.selector.rpartition('.')[2]
  return _is_part(statement.selector) and name in _used_names()


def _used_names() -> Set[str]:
  lines = gin.operative_config_str().splitlines()
  return {
      line[len(_USED) : -1].rpartition('/')[2].rpartition('.')[2]
      for line in lines
      if line.startswith(_USED)
  }


def _is_part(selector: str) -> bool:
  package, _, rest = gin.get_configurable(selector).__module__.partition('.')
  return package == 'parl_tf' and rest.partition('.')[0] in _PARTS
