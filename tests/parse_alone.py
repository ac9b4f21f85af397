"""Prints the gin files that cannot be parsed alone.

  python -m tests.parse_alone quickstart.gin methods/bc.gin

No file may rely on names that another file's imports define. So each file is
parsed in a process that has imported exactly the modules that the file and the
files it includes import. Processes fork along a tree of these modules: most
files share most of their imports, and importing takes most of the time.
"""

import collections
import importlib
import os
import pathlib
import re
import sys
import traceback
from typing import Iterable, List, Mapping, Sequence

# Slow to import, and define none of our names.
import gin
import grpc  # noqa: F401
import gymnasium  # noqa: F401
import rich.progress  # noqa: F401
import tensorflow  # noqa: F401
import tf_agents.agents  # noqa: F401

from parl_tf.binaries import configs

_CONFIGS = pathlib.Path(__file__).resolve().parents[1] / 'gin'


def _modules(path: str) -> List[str]:
  """Returns the modules that a file and its includes import."""
  text = (_CONFIGS / path).read_text(encoding='utf-8')
  modules = re.findall(r'^import (\S+)', text, re.MULTILINE)
  for included in re.findall(r"^include '(\S+)'", text, re.MULTILINE):
    modules += _modules(included)
  return list(dict.fromkeys(modules))


def _parse(path: str) -> None:
  try:
    configs.parse([path])
  except (ImportError, OSError, SyntaxError, ValueError):
    _report([path])
  gin.clear_config()


def _report(paths: Iterable[str]) -> None:
  """Prints the files that the current exception concerns."""
  traceback.print_exc()
  sys.stdout.writelines(f'{path}\n' for path in paths)
  sys.stdout.flush()  # Forked processes must not repeat it.


def _visit(wanted: Mapping[str, Sequence[str]]) -> None:
  """Parses files, each after the modules that it still wants are imported."""
  groups = collections.defaultdict(dict)
  for path, modules in wanted.items():
    if modules:
      groups[modules[0]][path] = modules[1:]
    else:
      _parse(path)
  for module, group in groups.items():
    if len(group) == len(wanted):  # No file is left for this process.
      _import(module, group)
    elif os.fork():
      if os.wait()[1]:
        sys.exit(f'The process that imported {module} failed.')
    else:
      status = 1
      try:
        _import(module, group)
        status = 0
      finally:
        os._exit(status)


def _import(module: str, wanted: Mapping[str, Sequence[str]]) -> None:
  """Imports a module, then parses files."""
  try:
    importlib.import_module(module)
  except ImportError:
    _report(wanted)
  else:
    _visit(wanted)


def main(paths: Sequence[str]) -> None:
  """Parses each file."""
  wanted = {path: _modules(path) for path in paths}
  counts = collections.Counter(x for names in wanted.values() for x in names)
  for names in wanted.values():
    names.sort(key=lambda name: (-counts[name], name))
  _visit(wanted)


if __name__ == '__main__':
  main(sys.argv[1:])
