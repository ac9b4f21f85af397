"""Finds the tests that need Reverb, without importing them."""

import ast
import functools
import importlib.util
import pathlib
from typing import Mapping

from tests import build_files

MARK = 'reverb'
"""Marks a test that needs Reverb, in a file that does not import it."""

_REVERB_IMPORT = 'parl_tf.replay.reverb_import'


def is_installed() -> bool:
  """Returns whether Reverb can be imported."""
  return importlib.util.find_spec('reverb') is not None


@functools.lru_cache(maxsize=None)
def files() -> tuple[pathlib.Path, ...]:
  """Returns the test files that import Reverb, directly or through others.

  Imports within functions do not count, because they may never be executed.
  """
  modules = build_files.modules()
  imports = {name: _imports(path, modules) for name, path in modules.items()}
  return tuple(
      path
      for name, path in modules.items()
      if _is_test_file(path) and 'reverb' in _reached(name, imports)
  )


def num_tests() -> int:
  """Returns the number of test methods that need Reverb."""
  return sum(
      path in files() or _is_marked(node)
      for path in build_files.modules().values()
      if _is_test_file(path)
      for node in ast.walk(_tree(path))
      if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')
  )


def _is_test_file(path: pathlib.Path) -> bool:
  return path.name.endswith('_test.py')


def _is_marked(test: ast.FunctionDef) -> bool:
  marks = [ast.unparse(decorator) for decorator in test.decorator_list]
  return f'pytest.mark.{MARK}' in marks


def _imports(
    path: pathlib.Path, modules: Mapping[str, pathlib.Path]
) -> set[str]:
  """Returns our modules, and `reverb`, that a file imports at its top level."""
  statements = [
      node
      for node in _tree(path).body
      if isinstance(node, (ast.Import, ast.ImportFrom))
  ]
  found = set(build_files.imported_modules(ast.Module(statements, []), modules))
  names = [
      alias.name
      for node in statements
      if isinstance(node, ast.Import)
      for alias in node.names
  ]
  if _REVERB_IMPORT in found or 'reverb' in names:
    found.add('reverb')
  return found


def _reached(name: str, imports: Mapping[str, set[str]]) -> set[str]:
  """Returns all modules that importing `name` imports."""
  reached, waiting = set(), [name]
  while waiting:
    new = imports.get(waiting.pop(), set()) - reached
    reached |= new
    waiting.extend(new)
  return reached


@functools.lru_cache(maxsize=None)
def _tree(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(encoding='utf-8'), filename=str(path))
