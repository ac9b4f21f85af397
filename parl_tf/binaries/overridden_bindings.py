"""Finds bindings of a user's gin files that the library's files override.

Of several bindings of a name, gin takes the last one without a word. A task's
file that comes before those of its method then loses what it says.
"""

from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

from parl_tf.binaries import gin_syntax


class Binding(NamedTuple):
  """The binding of a parameter.

  Attributes:
    file: Name of the gin file.
    text: For example `Critic.gamma = 0.95`.
    is_own: Whether the file is the user's, not the library's.
  """

  file: str
  text: str
  is_own: bool


def warnings(
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    find: Callable[[str], str],
    is_own: Callable[[str], bool],
) -> List[str]:
  """Returns a sentence for each binding of the user that has no effect.

  Args:
    gin_files: Names of valid gin files, in order.
    gin_bindings: Valid bindings, which override the files.
    find: Returns the path of a file.
    is_own: Whether a path is that of a user's file.

  Raises:
    FileNotFoundError: If `find` does not find an included file.
    ValueError: If an included file is not gin.
  """
  lost: Dict[Tuple[str, str], Binding] = {}
  last: Dict[Tuple[str, str], Binding] = {}
  for name in gin_files:
    text = gin_syntax.read(find(name))
    for file, statement in gin_syntax.bindings(text, name, find):
      key, value = _split(statement)
      new = Binding(file, value, is_own(find(file)))
      old = last.get(key)
      if new.is_own:
        lost.pop(key, None)
      elif old and old.is_own and old.text != new.text:
        lost[key] = old
      last[key] = new
  for text in gin_bindings:
    for _, statement in gin_syntax.bindings(text, '', find):
      lost.pop(_split(statement)[0], None)
  return [
      f'{old.file}: {old.text} has no effect, because'
      f' {last[key].file}, which is read later, has {last[key].text}. To keep'
      ' yours, give its file last, or include the other one above it.'
      for key, old in lost.items()
  ]


def _split(statement) -> Tuple[Tuple[str, str], str]:
  """Returns what a statement binds, without its module, and its text."""
  scope = f'{statement.scope}/' if statement.scope else ''
  name = scope + statement.selector.rpartition('.')[2]
  parameter = statement.arg_name or ''
  left = f'{name}.{parameter}' if parameter else name
  return (name, parameter), f'{left} = {statement.value!r}'
