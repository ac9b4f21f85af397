"""Finds misspelt names in gin files without importing what they configure.

Gin knows a name only once its module is imported, which takes seconds. The
names of this package are read from its source instead. Names of other modules
are left to gin.
"""

import ast
import difflib
import functools
import pathlib
import re
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from gin import config_parser

from parl_tf.binaries import gin_syntax

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# A decorated class or function, or a class of another package.
_CONFIGURABLE = re.compile(
    r'^@gin\.configurable(?:\(\s*(?:\'(?P<name>\w+)\')?[^@]*?\))?\n'
    r'(?:class|def) (?P<definition>\w+)'
    r'|^(?P<external>\w+) = gin\.external_configurable\(',
    re.MULTILINE,
)
OWN_CLASS = (
    'A class of your own needs `@gin.configurable`, and the gin file an'
    ' `import` of its module.'
)
"""What to say of a name that is unknown."""
# What to say of parameters that users often try.
_SEEDS = ' `--seed` sets it: give each seed a command and a `--root_dir`.'
_INSTEAD = {
    ('run_experiment', 'seed'): _SEEDS,
    ('run_experiment', 'seeds'): _SEEDS,
    ('run_experiment', 'num_seeds'): _SEEDS,
    ('generate', 'num_steps'): (
        ' In a run, `run_experiment.num_recorded_steps` is the number.'
    ),
}
_CLOSE = 0.8  # Similarity, up to 1, from which a name counts as misspelt.


@functools.lru_cache(maxsize=None)
def modules() -> Dict[str, str]:
  """Returns the module of each name that this package lets gin configure."""
  found = {}
  for path in sorted(_PACKAGE.rglob('*.py')):
    text = path.read_text(encoding='utf-8')
    for match in _CONFIGURABLE.finditer(text):
      name = match['name'] or match['definition'] or match['external']
      parts = path.relative_to(_PACKAGE.parent).with_suffix('').parts
      found[name] = '.'.join(parts)
  return found


def check(
    texts: Iterable[Tuple[str, str]], find: Callable[[str], str]
) -> None:
  """Checks the names of a configuration.

  Args:
    texts: Place in messages, and gin, of each file and binding.
    find: Returns the path of an included file.

  Raises:
    ValueError: If a name or a parameter is misspelt, in which case the message
      has place and closest name, or an included file is not gin. A
      configuration is not checked if it imports modules of other packages, or
      includes a file that `find` does not find, as gin finds more.
  """
  uses = []
  try:
    for place, text in texts:
      for statement, references in gin_syntax.statements(text, find):
        if isinstance(statement, config_parser.ImportStatement):
          if statement.module.split('.')[0] != _PACKAGE.name:
            return
        uses += [(place, name, '') for name in references]
        if getattr(statement, 'arg_name', None):  # Otherwise a macro.
          uses.append((place, statement.selector, statement.arg_name))
  except FileNotFoundError:
    return
  for place, selector, parameter in uses:
    package, _, name = selector.rpartition('.')
    if package and package.split('.')[0] != _PACKAGE.name:
      continue
    if closest := misspelt(name):
      raise ValueError(
          f'{place}: there is no {name!r} to configure. Did you mean'
          f' {closest!r}? {OWN_CLASS}'
      )
    known = _parameters(name) if parameter else None
    if known and parameter not in known:
      instead = _INSTEAD.get((name, parameter))
      raise ValueError(
          f'{place}: {name!r} has no parameter {parameter!r}.'
          f'{instead or did_you_mean(parameter, known)}'
      )


def used_modules(
    texts: Iterable[str], find: Callable[[str], str]
) -> Iterator[str]:
  """Yields the module of each name of this package that is bound.

  Args:
    texts: Gin of each file and binding.
    find: Returns the path of an included file.

  Raises:
    FileNotFoundError: If `find` does not find an included file.
  """
  for text in texts:
    for statement, _ in gin_syntax.statements(text, find):
      if getattr(statement, 'arg_name', None):  # No macro.
        module = modules().get(statement.selector.rpartition('.')[2])
        if module:
          yield module


def misspelt(name: str) -> Optional[str]:
  """Returns the name of this package that was probably meant, or None."""
  if name in modules():
    return None
  closest = difflib.get_close_matches(name, modules(), n=1, cutoff=_CLOSE)
  return closest[0] if closest else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
  """Returns a sentence that suggests the closest name, or ''."""
  closest = difflib.get_close_matches(name, sorted(names), n=1)
  return f' Did you mean {closest[0]!r}?' if closest else ''


def _parameters(name: str) -> Tuple[str, ...]:
  """Returns what gin binds of a name; () if its definition lacks some."""
  module = modules().get(name)
  if module is None:
    return ()
  path = _PACKAGE.parent.joinpath(*module.split('.')).with_suffix('.py')
  for definition, denied in _definitions(path, name):
    arguments = definition.args
    if arguments.kwarg is None:
      return tuple(
          argument.arg
          for argument in (*arguments.args, *arguments.kwonlyargs)
          if argument.arg not in denied
      )
  return ()


def _definitions(
    path: pathlib.Path, name: str
) -> Iterator[Tuple[ast.FunctionDef, List[str]]]:
  """Yields the function of a name, or its class's constructor.

  Also yields the names on its denylist, which gin may not bind.
  """
  for node in ast.parse(path.read_text(encoding='utf-8')).body:
    if getattr(node, 'name', None) != name:
      continue
    denied = [
        name
        for decorator in getattr(node, 'decorator_list', ())
        for keyword in getattr(decorator, 'keywords', ())
        if keyword.arg == 'denylist'
        for name in ast.literal_eval(keyword.value)
    ]
    for candidate in (node, *getattr(node, 'body', ())):
      if isinstance(candidate, ast.FunctionDef) and (
          candidate is node or candidate.name == '__init__'
      ):
        yield candidate, denied
