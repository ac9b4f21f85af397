"""Tests the direction of imports, and the length and names of files.

The modules of a deployed policy must not import TF-Agents or Reverb.
ARCHITECTURE.md states the rules.
"""

import ast
import functools
import graphlib
import pathlib
import re
import sys
from typing import Iterator

from absl.testing import absltest
from absl.testing import parameterized

from tests import absent_libraries
from tests import build_files
from tests import programs

_ROOT = build_files.ROOT
_PACKAGE = _ROOT / 'parl_tf'

# The parts of the package that each of its modules and folders may import. Even
# if two folders may import each other, their modules must not form a cycle.
_BASE = ('types',)
_DATA = (*_BASE, 'randomness')
_EPISODES = (
    'episode_builder', 'episode_file', 'frame_stack', 'picture_store'
)
_MATHEMATICS = (
    *_DATA, 'replicas', 'losses', 'value_distribution', 'networks'
)
_PARTS = (*_MATHEMATICS, 'critics', 'policies', 'improvers', 'search')
_TRAINING = (
    *_PARTS, *_EPISODES, 'action_range', 'agents', 'proportion', 'synced_file',
    'replay', 'datasets', 'interruption', 'input_names', 'domains', 'training',
    'version',
)
_MAY_IMPORT = {
    'types': (),
    'losses': _BASE,
    'randomness': _BASE,
    'replicas': (),
    'proportion': (),
    'input_names': (),
    'interruption': (),
    'synced_file': (),
    'version': (),
    'action_range': (),
    'episode_builder': _BASE,
    'episode_file': (),
    'frame_stack': _BASE,
    'picture_store': _BASE,
    'value_distribution': (*_BASE, 'losses'),
    'networks': (
        *_DATA, 'frame_stack', 'replicas', 'value_distribution', 'networks'
    ),
    'critics': (*_MATHEMATICS, 'critics'),
    'policies': (*_MATHEMATICS, 'action_range', 'serving', 'policies'),
    'search': (*_MATHEMATICS, 'critics', 'search'),
    'improvers': _PARTS,
    'agents': (*_PARTS, 'agents'),
    'replay': (*_DATA, *_EPISODES, 'synced_file', 'replay'),
    'datasets': (
        *_DATA, *_EPISODES, 'action_range', 'synced_file', 'datasets'
    ),
    'domains': (*_DATA, 'action_range', 'interruption', 'domains'),
    'training': (*_TRAINING, 'reports'),
    'distributed': (*_TRAINING, 'distributed'),
    'reports': ('proportion', 'synced_file', 'reports'),
    'serving': ('serving',),
    'binaries': (
        *_TRAINING, 'distributed', 'reports', 'serving', 'binaries'
    ),
    'agent_maker': (*_TRAINING, 'binaries'),
}

# The modules and folders that may import each library.
_GIN_FREE = (
    *_DATA, 'replicas', 'losses', 'value_distribution', 'proportion',
    'synced_file', 'serving', *_EPISODES,
)
_USERS = {
    'absl': [part for part in _MAY_IMPORT if part != 'serving'],
    'gin': [part for part in _MAY_IMPORT if part not in _GIN_FREE],
    'absl.app': ['binaries'],
    'absl.flags': ['binaries'],
    'msgpack': ['serving'],
    'ray': ['distributed'],
    'reverb': ['replay'],
    'rliable': ['reports'],
    # Reports read only files and should not wait for TensorFlow's import.
    'tensorflow': [
        part for part in _MAY_IMPORT if part not in ('reports', 'serving')
    ],
    'tf_agents': [
        'agents', 'search', 'replay', 'distributed', 'training', 'binaries'
    ],
    'websockets': ['serving'],
}
_NON_USERS = {
    'tf_agents': [
        'binaries/evaluation_run.py',
        'binaries/exported_policy.py',
        'training/evaluation.py',
    ],
}

# Modules that import Reverb through `reverb_import`, which explains how to
# install it if it is missing. Only runs with tables or several processes import
# these modules.
_REVERB_IMPORT = 'parl_tf.replay.reverb_import'
_REVERB_USERS = (
    'parl_tf.distributed.episode_item',
    'parl_tf.distributed.journal',
    'parl_tf.distributed.learner_claim',
    'parl_tf.distributed.newest_item',
    'parl_tf.distributed.server_link',
    'parl_tf.distributed.service',
    'parl_tf.distributed.weights',
    'parl_tf.replay.reverb_experience',
    'parl_tf.replay.tables',
)
_WITHOUT_REVERB = (
    'parl_tf.binaries.dataset_commands',
    'parl_tf.binaries.evaluation_run',
    'parl_tf.binaries.report_files',
    'parl_tf.binaries.restored_run',
    'parl_tf.binaries.training_run',
    'parl_tf.training.experiment',
)

# `make d4rl` installs these; setup.py explains why they are not requirements.
_NO_REQUIREMENTS = ('d4rl', 'gym')

# Distributions whose name differs from their library's name.
_DISTRIBUTIONS = {
    'absl': 'absl-py',
    'gin': 'gin-config',
    'grpc': 'grpcio',
    'reverb': 'dm-reverb',
    'tree': 'dm-tree',
}

# Libraries that deploying and scoring a policy must not need.
_NOT_DEPLOYED = (
    'matplotlib',
    'reverb',
    'rich',
    'rliable',
    'tensorflow_probability',
    'tf_agents',
)
_DEPLOYED = ('parl_tf.binaries.evaluation_run', 'parl_tf.domains.pointmaze')

_MAX_LINES = 400
_VAGUE_NAMES = ('common', 'helper', 'helpers', 'misc', 'util', 'utils')


class ImportDirectionTest(parameterized.TestCase):

  def test_every_part_has_an_import_rule(self):
    parts = {_part(path) for path in _package_files()} - {'__init__'}

    self.assertContainsSubset(parts, _MAY_IMPORT)

  @parameterized.parameters(*_MAY_IMPORT)
  def test_imports_point_one_way(self, part):
    faults = []
    for path in _package_files():
      if _part(path) != part:
        continue
      for name in _imports(path):
        package, _, module = name.partition('.')
        imported = module.partition('.')[0]
        if package == 'parl_tf' and imported not in _MAY_IMPORT[part]:
          faults.append(f'{_relative(path)} imports {name}')

    self.assertEmpty(faults, f'{part} may import {_MAY_IMPORT[part]} only.')

  def test_imports_have_no_cycle(self):
    modules = {'.'.join(_module_parts(path)): path for path in _package_files()}
    graph = {
        module: set(build_files.imported_modules(_tree(path), modules))
        for module, path in modules.items()
    }

    # Raises CycleError, which names the cycle.
    order = list(graphlib.TopologicalSorter(graph).static_order())

    self.assertLen(order, len(modules))

  @parameterized.parameters(*_USERS)
  def test_a_library_is_imported_only_where_it_belongs(self, library):
    faults = [
        f'{_relative(path)} imports {name}'
        for path in _package_files()
        for name in _imports(path)
        if f'{name}.'.startswith(f'{library}.')
        and (
            _part(path) not in _USERS[library]
            or path.relative_to(_PACKAGE).as_posix()
            in _NON_USERS.get(library, ())
        )
    ]

    self.assertEmpty(faults, f'{library} is for {_USERS[library]} only.')

  def test_losses_import_only_tensorflow_and_types(self):
    libraries = {
        name.partition('.')[0] for name in _imports(_PACKAGE / 'losses.py')
    }

    self.assertContainsSubset(
        libraries - set(sys.stdlib_module_names), {'parl_tf', 'tensorflow'}
    )

  def test_serving_a_policy_needs_three_libraries_only(self):
    # Servers of policies run in environments without our requirements.
    program = (
        'import sys; before = set(sys.modules)\n'
        'import parl_tf.serving.client, parl_tf.serving.server\n'
        'print(*{x.partition(".")[0] for x in set(sys.modules) - before})'
    )
    completed = absent_libraries.run((), '-c', program)

    self.assertEqual(completed.returncode, 0, completed.stderr)
    loaded = set(completed.stdout.split()) - set(sys.stdlib_module_names)
    self.assertEqual(
        {name for name in loaded if not name.startswith('_')},
        # `cython_runtime` comes with msgpack.
        {'cython_runtime', 'msgpack', 'numpy', 'parl_tf', 'websockets'},
    )

  def test_scoring_a_policy_needs_no_training_libraries(self):
    program = ''.join(f'import {module}\n' for module in _DEPLOYED)
    completed = absent_libraries.run(_NOT_DEPLOYED, '-c', program)

    self.assertEqual(completed.returncode, 0, completed.stderr)

  def test_only_modules_that_need_reverb_import_it(self):
    users, reverb_import = set(), set()
    for path in _package_files():
      module = '.'.join(_module_parts(path))
      names = set(_imports(path))
      if 'reverb' in names:
        reverb_import.add(module)
      if f'{_REVERB_IMPORT}.reverb' in names:
        users.add(module)

    self.assertEqual(reverb_import, {_REVERB_IMPORT})
    self.assertEqual(users, set(_REVERB_USERS))

  def test_single_process_programs_do_not_import_reverb(self):
    text = ''.join(f'import {module}\n' for module in _WITHOUT_REVERB)
    text += "import sys; print('imported:', 'reverb' in sys.modules)"
    folder = self.create_tempdir()
    folder.create_file('imports_program.py', text)
    # In a process that has imported TF-Agents, which is slow.
    printed = programs.run('imports_program', folder=folder.full_path)

    self.assertEqual(printed.splitlines()[-1], 'imported: False')


class RequirementsTest(parameterized.TestCase):

  def test_every_imported_library_is_a_requirement(self):
    ours = {'parl_tf', *_NO_REQUIREMENTS, *sys.stdlib_module_names}
    required = _required_distributions()
    faults = set()
    for path in _package_files():
      for name in _imports(path):
        library = name.partition('.')[0]
        distribution = _canonical(_DISTRIBUTIONS.get(library, library))
        if library not in ours and distribution not in required:
          faults.add(f'{_relative(path)} imports {library}')

    self.assertEmpty(faults, f'setup.py requires {sorted(required)}.')

  @parameterized.parameters(
      ('constraints.txt', '_before_3_12'),
      ('constraints-3.12.txt', '_from_3_12'),
  )
  def test_every_requirement_is_pinned(self, file, own):
    lines = (_ROOT / file).read_text().splitlines()
    pinned = {_canonical(x.partition('==')[0]) for x in lines if '==' in x}

    self.assertContainsSubset(_required_distributions(own), pinned)


class TreeTest(absltest.TestCase):

  def test_files_are_short(self):
    lengths = {
        _relative(path): len(path.read_text(encoding='utf-8').splitlines())
        for path in _all_files()
    }
    faults = {p: n for p, n in lengths.items() if n > _MAX_LINES}

    self.assertEmpty(faults, f'Files must have at most {_MAX_LINES} lines.')

  def test_module_names_are_specific(self):
    faults = [_relative(p) for p in _all_files() if p.stem in _VAGUE_NAMES]

    self.assertEmpty(faults, f'{_VAGUE_NAMES} are too vague.')

  def test_every_folder_of_the_package_is_a_package(self):
    folders = {path.parent for path in _package_files()}
    faults = [_relative(x) for x in folders if not (x / '__init__.py').exists()]

    self.assertEmpty(faults, 'A folder without __init__.py is not installed.')

  def test_folders_of_configurations_and_tests_are_not_packages(self):
    # `gin/__init__.py` would hide gin-config's own package.
    faults = [
        _relative(path)
        for folder in ('gin', 'tests')
        for path in (_ROOT / folder).rglob('__init__.py')
    ]

    self.assertEmpty(faults)


@functools.lru_cache(maxsize=None)
def _package_files() -> tuple[pathlib.Path, ...]:
  return tuple(sorted(_PACKAGE.rglob('*.py')))


def _all_files() -> list[pathlib.Path]:
  folders = ('benchmarks', 'parl_tf', 'reverb_server', 'tests')
  paths = [path for x in folders for path in (_ROOT / x).rglob('*.py')]
  return [*paths, *_ROOT.glob('*.py')]


def _relative(path: pathlib.Path) -> str:
  return path.relative_to(_ROOT).as_posix()


def _part(path: pathlib.Path) -> str:
  """Returns the top-level module or folder of the package."""
  return path.relative_to(_PACKAGE).with_suffix('').parts[0]


def _module_parts(path: pathlib.Path) -> tuple[str, ...]:
  parts = path.relative_to(_ROOT).with_suffix('').parts
  return parts[:-1] if parts[-1] == '__init__' else parts


@functools.lru_cache(maxsize=None)
def _tree(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(encoding='utf-8'), filename=str(path))


@functools.lru_cache(maxsize=None)
def _imports(path: pathlib.Path) -> tuple[str, ...]:
  """Returns imported names: `package.module` or `package.module.symbol`."""
  return tuple(_find_imports(path))


def _find_imports(path: pathlib.Path) -> Iterator[str]:
  for node in ast.walk(_tree(path)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      # This test cannot resolve relative imports.
      assert node.level == 0, f'{_relative(path)} imports relatively.'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _required_distributions(own: str = '') -> set[str]:
  """Reads the names of all requirements in setup.py, including extras.

  Args:
    own: `_before_3_12` or `_from_3_12`, for the requirements of one set of
      Python versions; if empty, those of any version.
  """
  lists = ('_REQUIREMENTS', '_LEROBOT', '_OGBENCH', '_RAY', '_REMOTE')
  texts = []
  for node in _tree(_ROOT / 'setup.py').body:
    if isinstance(node, ast.Assign) and node.targets[0].id in lists:
      for element in node.value.elts:
        if isinstance(element, ast.Starred):
          call = element.value
          if not own or call.func.id == own:
            texts += [x.value for x in call.args]
        else:
          texts.append(element.value)
  return {_canonical(re.match(r'[\w-]+', text).group()) for text in texts}


def _canonical(distribution: str) -> str:
  return distribution.strip().lower().replace('_', '-')


if __name__ == '__main__':
  absltest.main()
