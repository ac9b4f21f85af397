"""Tests that the code in the documentation runs and that its links exist.

Python blocks run in a folder with its own `quickstart.gin`, which includes the
real one and then reduces the size of the run. docs/from_python.md runs it and
leaves `runs/quickstart` for the README.
"""

import pathlib
import re
import shutil
from typing import Iterable, List

from absl.testing import absltest
from absl.testing import parameterized
import pytest

from tests import pages
from tests import programs
from tests.binaries import tiny

_ROOT = tiny.ROOT
_PAGES = sorted(
    str(path.relative_to(_ROOT))
    for folder, pattern in (
        ('.', '*.md'),
        ('docs', '*.md'),
        ('examples', '*/*.md'),
        ('benchmarks', 'results/*.md'),
    )
    for path in (_ROOT / folder).glob(pattern)
)
_GIN_FOLDERS = (
    '(ablations|critics|domains|experiments|methods|policies|sizes|variants)'
)
_MAX_README_LINES = 150
# The shortest run that exports a policy. The pages show how to start it; other
# tests train and export every part.
_CHEAP = (
    *tiny.CHEAP_PARTS,
    "run_experiment.phase_names = ('behavior_cloning', 'offline')",
    'run_experiment.num_recorded_steps = 200',
    'run_experiment.num_evaluation_episodes = 2',
    'ActionOptimizer.num_gradient_steps = 0',
)

# Runs each given file with an empty gin configuration.
_RUN_BLOCKS = """
import runpy, sys
import gin
for path in sys.argv[1:]:
  gin.clear_config()
  runpy.run_path(path, run_name='page')
"""

# Parses the arguments in each argument, as `parl-train` does.
_PARSE = """
import os, sys, traceback
from parl_tf.binaries import configs, training_run
failed = []
for line in sys.argv[1:]:
  folder, files, bindings = eval(line)
  if not os.fork():
    os.chdir(folder)
    try:
      configs.parse(files, bindings)
    except BaseException:
      traceback.print_exc()
      os._exit(1)
    os._exit(0)
  if os.wait()[1]:
    failed.append(line)
if failed:
  sys.exit('\\n'.join(failed))
"""

# Runs the command in each argument.
_RUN_COMMANDS = """
import os, sys
import gymnasium_robotics, tensorflow
from parl_tf.binaries import data, dataset_commands
for line in sys.argv[1:]:
  if not os.fork():
    sys.argv = eval(line)
    data.run()
  status = os.wait()[1]
  if status:
    sys.exit(line)
"""


def _values(words: List[str], flag: str) -> List[str]:
  """Returns the values of `--flag value` or `--flag=value` in a command."""
  found = []
  for i, word in enumerate(words):
    name, is_assigned, value = word.partition('=')
    if name == f'--{flag}':
      found.append(value if is_assigned else words[i + 1])
  return found


def _run(text: str, arguments: Iterable[str], folder: str) -> str:
  """Runs the text of a program in a folder; returns what it printed.

  Raises:
    AssertionError: If it fails.
  """
  pathlib.Path(folder, 'pages_program.py').write_text(text, encoding='utf-8')
  return programs.run('pages_program', *arguments, folder=folder)


class ReadmeTest(absltest.TestCase):

  def test_is_short(self):
    lines = (_ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
    self.assertLessEqual(len(lines), _MAX_README_LINES)

  def test_the_example_task_trains(self):
    folder = self.create_tempdir().full_path
    pages.save_files('README.md', folder)
    (command,) = (
        words
        for words in pages.commands('README.md')
        if 'reach.gin' in _values(words, 'gin_file')
    )
    small = [
        f'--gin_bindings={binding}'
        for binding in (
            *(x for x in tiny.BINDINGS if not x.startswith('PointMaze')),
            *_CHEAP,
            'Gymnasium.max_episode_steps = 10',
        )
    ]
    programs.run(
        'parl_tf.binaries.train', *command[1:], *small, folder=folder
    )
    # The loop that the reader deploys it in.
    pages.save_files('docs/deploy.md', folder)
    printed = programs.run(
        'deploy', 'runs/reach/policies/greedy_policy', folder=folder
    )
    self.assertRegex(printed, r'\d+ of 20 episodes succeed\.')


class YourTaskTest(absltest.TestCase):

  def test_its_commands_record_data_that_fits_the_three_lines(self):
    folder = self.create_tempdir().full_path
    pages.save_files('README.md', folder)
    pages.save_files('docs/your_task.md', folder)
    info, generate = (
        words
        for words in pages.commands('docs/your_task.md')
        if words[0] == 'parl-data'
    )
    # The page's reader has a file already.
    fetch = [*generate, '--output', info[2], '--num_steps=150']
    printed = _run(_RUN_COMMANDS, map(repr, (fetch, info)), folder)
    self.assertIn('no fault found\n  bound', printed)


class PythonBlocksTest(absltest.TestCase):

  def test_all_run(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    real = _ROOT / 'gin' / 'quickstart.gin'
    cheap = (
        *tiny.BINDINGS,
        *_CHEAP,
        "run_experiment.exported_policies = ('greedy_policy', 'base_policy')",
    )
    lines = [f"include '{real}'", *cheap, '']
    (folder / 'quickstart.gin').write_text('\n'.join(lines), encoding='utf-8')
    paths = []
    for page in sorted(_PAGES, key=lambda page: page == 'README.md'):
      for block in pages.blocks(page, 'python'):
        if page == 'docs/deploy.md':  # `ReadmeTest` has its policy.
          continue
        # Line numbers in tracebacks match the page.
        path = folder / f'{page.replace("/", "_")}_{block.line}.py'
        path.write_text('\n' * block.line + block.text, encoding='utf-8')
        paths.append(str(path))
    self.assertGreaterEqual(len(paths), 5)
    _run(_RUN_BLOCKS, paths, str(folder))
    # What the run left is described.
    text = (_ROOT / 'docs/run_directory.md').read_text(encoding='utf-8')
    for file in (folder / 'runs/quickstart').iterdir():
      self.assertIn(f'| `{file.name}', text)


class CommandsTest(parameterized.TestCase):

  @parameterized.parameters(*_PAGES)
  def test_flags_in_commands_exist(self, page):
    for words in pages.commands(page):
      if words[0].startswith('parl-'):
        sources = [self._program(words[0])]
        sources.append(_ROOT / 'parl_tf' / 'binaries' / 'run_flags.py')
      elif words[:2] == ['python', '-m'] and words[2] != 'venv':
        sources = [_ROOT / f'{words[2].replace(".", "/")}.py']
      elif words[0] == 'python' and words[1].startswith('benchmarks/'):
        sources = [_ROOT / words[1]]
      else:
        continue
      text = '\n'.join(x.read_text(encoding='utf-8') for x in sources)
      for word in words:
        if word.startswith('--'):
          flag = word[2:].partition('=')[0]
          self.assertRegex(text, rf"""DEFINE_\w+\(\s*'{flag}'""", words)

  @parameterized.parameters(*_PAGES)
  def test_make_targets_exist(self, page):
    makefile = (_ROOT / 'Makefile').read_text(encoding='utf-8')
    for words in pages.commands(page):
      if words[0] == 'make':
        self.assertRegex(makefile, rf'(?m)^{words[1]}:')

  def test_gin_files_and_bindings_parse(self):
    self._check_gin(is_distributed=False)

  @pytest.mark.reverb
  def test_gin_files_and_bindings_of_distributed_runs_parse(self):
    self._check_gin(is_distributed=True)

  def _check_gin(self, is_distributed):
    lines = {}  # Several pages have the same command.
    for page in _PAGES:
      folder = self.create_tempdir().full_path
      for file in (_ROOT / page).parent.iterdir():
        if file.suffix in ('.gin', '.py'):
          shutil.copy(file, folder)
      for name in ('README.md', page):  # Later pages use the README's task.
        pages.save_files(name, folder)
      for words in pages.commands(page):
        if words[0] == 'cd':
          for file in (_ROOT / words[1]).iterdir():
            if file.suffix in ('.gin', '.py'):
              shutil.copy(file, folder)
        files = _values(words, 'gin_file')
        if ('distributed.gin' in files) == is_distributed:
          self._add(lines, folder, files, _values(words, 'gin_bindings'))
      for block in pages.blocks(page, 'gin'):
        if not is_distributed:
          file = block.file_name or f'block_{block.line}.gin'
          pathlib.Path(folder, file).write_text(block.text, encoding='utf-8')
          self._add(lines, folder, [file], [])
    self.assertGreaterEqual(len(lines), 2)
    _run(_PARSE, lines, self.create_tempdir().full_path)

  def _add(self, lines, folder, files, bindings):
    """Adds a command; the page matters only if one of the files is its own."""
    if not any(pathlib.Path(folder, file).exists() for file in files):
      folder = str(_ROOT)
    if files:
      lines[repr((folder, files, bindings))] = True

  def _program(self, name):
    if name == 'parl-reverb-server':
      return _ROOT / 'reverb_server' / 'server.py'
    return _ROOT / 'parl_tf' / 'binaries' / f'{name[5:]}.py'


class NamesTest(parameterized.TestCase):

  @parameterized.parameters(*_PAGES)
  def test_relative_links_exist(self, page):
    text = (_ROOT / page).read_text(encoding='utf-8')
    links = re.findall(r'\]\(([^)\s]+)\)', text)
    links += re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
      if '://' not in link:
        path = (_ROOT / page).parent / link.partition('#')[0]
        self.assertTrue(path.exists(), f'{page}: {link}')

  @parameterized.parameters(*_PAGES)
  def test_named_files_exist(self, page):
    text = (_ROOT / page).read_text(encoding='utf-8')
    text = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
    folders = '|'.join(
        path.name for path in _ROOT.iterdir() if path.name[0] not in '._'
    )
    places = (_ROOT, _ROOT / 'gin', _ROOT / 'parl_tf', (_ROOT / page).parent)
    for name in re.findall(r'`([\w./]+)`', text):
      is_ours = re.match(rf'(?!runs/|build/)({folders})/', name)
      if is_ours or re.fullmatch(rf'{_GIN_FOLDERS}/\w+\.gin', name):
        self.assertTrue(any((x / name).exists() for x in places), name)

  def test_architecture_names_every_folder(self):
    text = (_ROOT / 'ARCHITECTURE.md').read_text(encoding='utf-8')
    for module in (_ROOT / 'parl_tf').glob('*/__init__.py'):
      self.assertIn(f'`parl_tf/{module.parent.name}/`', text)


class ImageTest(absltest.TestCase):

  def test_algorithm_is_drawn_for_light_and_dark_pages(self):
    folder = self.create_tempdir().full_path
    programs.run('docs.algorithm_picture', f'--output={folder}')
    for name in ('algorithm.svg', 'algorithm_dark.svg'):
      self.assertIn('</svg>', pathlib.Path(folder, name).read_text())


if __name__ == '__main__':
  absltest.main()
