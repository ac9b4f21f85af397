"""Finds bindings of a user for parts that the agent does not have.

Gin accepts a setting of any class, such as one of IQL's critic in a run that
has Cal-QL's.
"""

from typing import Callable, List, Sequence, Set

import gin

from parl_tf.binaries import gin_syntax

_PARTS = ('agents', 'critics', 'improvers', 'networks', 'policies', 'search')
_USED = '# Parameters for '


def warnings(
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    find: Callable[[str], str],
    is_own: Callable[[str], bool],
) -> List[str]:
  """Returns a sentence for each class whose bindings have no effect.

  Call it once the agent is made: what gin has called until then is used.

  Args:
    gin_files: Names of the gin files that have been parsed.
    gin_bindings: Bindings that have been parsed.
    find: Returns the path of a file.
    is_own: Whether a path is that of a user's file.
  """
  used = _used_names()
  found = {}
  sources = [(gin_syntax.read(find(name)), name) for name in gin_files]
  for text, name in (*sources, *((text, '') for text in gin_bindings)):
    for file, statement in gin_syntax.bindings(text, name, find):
      selector = statement.selector
      part = selector.rpartition('.')[2]
      if file and not is_own(find(file)):
        continue
      if statement.arg_name and part not in used and _is_part(selector):
        source = file or '--gin_bindings'
        found[part] = (
            f'{source}: {part}.{statement.arg_name} has no effect, because the'
            f' agent has no {part}. `operative_config.gin` in the directory of'
            ' the run lists what it has.'
        )
  return list(found.values())


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
