"""Derives the Bazel BUILD files from the tree and its imports.

`python tests/build_files.py --write` (or `make build-files`) writes all of
them. `build_files_test` fails if one differs from the derived text.
"""

import argparse
import ast
import pathlib
import sys
from typing import Iterator, Mapping, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Folders of Python code.
_CODE = (
    'benchmarks', 'docs', 'examples', 'parl_tf', 'reverb_server', 'tests'
)
_HEADER = (
    '# Written by `make build-files` from the modules and their imports.\n'
)
_VISIBLE = 'package(default_visibility = ["//visibility:public"])\n'
_CONFIGS = 'gin'


class Target(NamedTuple):
  """One py_library or py_test.

  Attributes:
    rule: Name of the Bazel rule.
    name: Target name, unique within its package.
    source: File name within the package.
    deps: Sorted labels.
    data: Labels of files read at run time.
  """

  rule: str
  name: str
  source: str
  deps: tuple[str, ...]
  data: tuple[str, ...] = ()


def build_files(root: pathlib.Path = ROOT) -> dict[str, str]:
  """Derives the text of every BUILD file under `root`.

  Args:
    root: Root of a source tree with this project's layout.

  Returns:
    A map from paths relative to `root`, with forward slashes, to texts.
  """
  paths = modules(root)
  packages = {}
  for module, path in paths.items():
    target = _target(root, module, path, paths)
    packages.setdefault(path.parent, []).append(target)
  files = {
      f'{package.relative_to(root).as_posix()}/BUILD': _package_text(targets)
      for package, targets in packages.items()
  }
  files['BUILD'] = _root_text()
  files[f'{_CONFIGS}/BUILD'] = _configs_text()
  return dict(sorted(files.items()))


def differences(root: pathlib.Path = ROOT) -> Iterator[str]:
  """Yields one line for each error in `root`'s BUILD files."""
  wanted = build_files(root)
  for path, text in wanted.items():
    file = root / path
    if not file.exists():
      yield f'{path} is missing.'
      continue
    yield from _text_differences(path, file.read_text(encoding='utf-8'), text)
  for path in _without_modules(root, wanted):
    yield f'{path} is in a folder without modules.'


def write(root: pathlib.Path = ROOT) -> None:
  """Writes every BUILD file under `root` and removes those without modules."""
  wanted = build_files(root)
  for path, text in wanted.items():
    (root / path).write_text(text, encoding='utf-8')
  for path in _without_modules(root, wanted):
    (root / path).unlink()


def _without_modules(
    root: pathlib.Path, wanted: Mapping[str, str]
) -> list[str]:
  """Lists the BUILD files in our folders that are not in `wanted`."""
  paths = [
      file.relative_to(root).as_posix()
      for folder in (*_CODE, _CONFIGS)
      for file in (root / folder).rglob('BUILD')
  ]
  return sorted(path for path in paths if path not in wanted)


def _target(
    root: pathlib.Path,
    module: str,
    path: pathlib.Path,
    modules: Mapping[str, pathlib.Path],
) -> Target:
  """Describes the target of one module."""
  tree = ast.parse(path.read_text(encoding='utf-8'), filename=str(path))
  deps = {
      _label(root, dependency, modules[dependency])
      for dependency in imported_modules(tree, modules)
      if dependency != module
  }
  is_test = path.stem.endswith('_test')
  return Target(
      rule='py_test' if is_test else 'py_library',
      name=module.rpartition('.')[2],
      source=path.name,
      deps=tuple(sorted(deps)),
      data=(f'//{_CONFIGS}:configs',) if module.endswith('.configs') else (),
  )


def modules(root: pathlib.Path = ROOT) -> dict[str, pathlib.Path]:
  """Maps dotted module names to files; a package maps to its `__init__`."""
  found = {}
  for folder in _CODE:
    for path in sorted((root / folder).rglob('*.py')):
      parts = path.relative_to(root).with_suffix('').parts
      if parts[-1] == '__init__':
        parts = parts[:-1]
      found['.'.join(parts)] = path
  return found


def imported_modules(
    tree: ast.AST, modules: Mapping[str, pathlib.Path]
) -> Iterator[str]:
  """Yields the names in `modules` that a syntax tree imports, at any depth."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    else:
      continue
    for name in names:
      # `from a.b import c` names a module `a.b.c` or a symbol of `a.b`.
      for candidate in (name, name.rpartition('.')[0]):
        if candidate in modules:
          yield candidate
          break


def _label(root: pathlib.Path, module: str, path: pathlib.Path) -> str:
  package = path.parent.relative_to(root).as_posix()
  return f'//{package}:{module.rpartition(".")[2]}'


def _package_text(targets: list[Target]) -> str:
  blocks = [_HEADER, _VISIBLE]
  blocks += [_target_text(target) for target in sorted(targets, key=_order)]
  return '\n'.join(blocks)


def _order(target: Target) -> tuple[bool, str]:
  return target.rule != 'py_library', target.name


def _target_text(target: Target) -> str:
  lines = [f'{target.rule}(', f'    name = "{target.name}",']
  lines.append(f'    srcs = ["{target.source}"],')
  for attribute, labels in (('data', target.data), ('deps', target.deps)):
    if labels:
      lines.append(f'    {attribute} = [')
      lines += [f'        "{label}",' for label in labels]
      lines.append('    ],')
  return '\n'.join([*lines, ')', ''])


def _root_text() -> str:
  return f"""{_HEADER}
{_VISIBLE}
licenses(["notice"])

exports_files([
    "LICENSE",
    "constraints-3.12.txt",
    "constraints.txt",
    "setup.py",
])
"""


def _configs_text() -> str:
  return f"""{_HEADER}
{_VISIBLE}
filegroup(
    name = "configs",
    srcs = glob(["**/*.gin"]),
)
"""


def _text_differences(path: str, seen: str, wanted: str) -> Iterator[str]:
  """Compares two texts by target, so that messages can name the target."""
  seen_targets, wanted_targets = _split(seen), _split(wanted)
  for name in sorted(seen_targets.keys() - wanted_targets.keys()):
    yield f'{path} lists {name}, which is not in the tree.'
  for name, lines in wanted_targets.items():
    if name not in seen_targets:
      yield f'{path} lacks {name}.'
      continue
    for line in lines:
      if line not in seen_targets[name]:
        yield f'{path}: {name} lacks {line.strip()}'
    for line in seen_targets[name]:
      if line not in lines:
        yield f'{path}: {name} has unneeded {line.strip()}'
  if seen != wanted and seen_targets == wanted_targets:
    yield f'{path} is not formatted as `make build-files` writes it.'


def _split(text: str) -> dict[str, list[str]]:
  """Splits a BUILD text into the lines of each rule, by target name."""
  targets = {}
  for block in text.split('\n\n'):
    lines = block.strip().splitlines()
    names = [line for line in lines if line.strip().startswith('name = ')]
    key = names[0].split('"')[1] if names else lines[0] if lines else ''
    targets[key] = lines
  return targets


def main() -> None:
  """Checks the BUILD files, or writes them."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--write', action='store_true', help='write them')
  if parser.parse_args().write:
    write()
  else:
    sys.exit('\n'.join(differences()) or 0)


if __name__ == '__main__':
  main()
