"""Tests of the site's pages: what they name exists, and the site builds.

`tests/docs_test.py` checks the code and the links of every page.
"""

import re
import shlex
import subprocess

from absl.testing import absltest
from absl.testing import parameterized
import pytest

from docs import commands
from docs import parameters
from parl_tf.training import metric_columns
from parl_tf.training import phases
from tests import pages
from tests.binaries import tiny

_ROOT = tiny.ROOT
_PAGES = sorted(
    path.relative_to(_ROOT).as_posix()
    for path in (
        _ROOT / 'README.md',
        _ROOT / 'ARCHITECTURE.md',
        *(_ROOT / 'docs').glob('*.md'),
        *(_ROOT / 'examples').glob('*/*.md'),
        _ROOT / 'benchmarks/results/README.md',
    )
)
# First words of commands that are not ours.
_OTHER_PROGRAMS = frozenset(
    {'./act', 'cd', 'export', 'gcc', 'git', 'kill', 'make', 'pip', 'python',
     'python3.11', 'ray', 'saved_model_cli', 'source', 'tensorboard'}
)
# Pages whose messages `docs/messages.md` lists; programs have printed them.
_MEASURED = (
    'benchmarks/results/wrong_inputs.md',
    'docs/data.md',
    'docs/your_policy.md',
)


def _text(page: str) -> str:
  return (_ROOT / page).read_text(encoding='utf-8')


class ParametersTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._found = {x.name: x for x in parameters.configurables()}

  def test_every_parameter_is_explained(self):
    missing = [
        f'{configurable.name}.{parameter.name}'
        for configurable in self._found.values()
        for parameter in configurable.parameters
        if not parameter.text
    ]

    self.assertEmpty(missing)

  def test_each_configurable_is_on_the_page(self):
    page = parameters.page()

    self.assertGreater(len(self._found), 50)
    for name in self._found:
      self.assertIn(f'### {name}\n', page)

  def test_single_names_are_printed(self):
    entries = parameters.entries(['Search', 'Online'])

    self.assertRegex(entries, '(?s)### Search\n.*`num_samples`.*### Online\n')
    self.assertNotIn('### Critic\n', entries)
    with self.assertRaisesRegex(ValueError, "`Searches` must be one of"):
      parameters.entries(['Searches'])

  def test_names_and_defaults_are_those_of_gin(self):
    by_name = {x.name: x.default for x in self._found['Search'].parameters}

    self.assertEqual(by_name['num_samples'], '32')
    self.assertNotIn('spec', self._names_of('CalQLCritic'))
    # One of its own, and one that it passes on to the base of its base.
    self.assertContainsSubset(
        {'conservative_weight', 'gamma'}, self._names_of('CalQLCritic')
    )

  def test_a_default_is_the_constant_of_the_module_that_is_named(self):
    exported, sub_tasks = (
        {x.name: x.default for x in self._found[name].parameters}[parameter]
        for name, parameter in (
            ('run_experiment', 'exported_policies'), ('Calvin', 'sub_tasks')
        )
    )

    # Other modules have a `POLICIES` and a `SUB_TASKS`, too.
    self.assertEqual(exported, "('policy', 'greedy_policy', 'base_policy')")
    self.assertIn('open_drawer', sub_tasks)

  @parameterized.parameters(*_PAGES)
  def test_bindings_that_a_page_names_exist(self, page):
    names = r'`(?:[a-z]+/)*([A-Za-z]\w*)\.([a-z_]+)\b(?!\()'
    for name, parameter in re.findall(names, _text(page)):
      if name in self._found:
        self.assertIn(parameter, self._names_of(name), f'{page}: {name}')

  def test_lengths_of_runs_are_those_of_the_gin_files(self):
    rows = re.findall(
        r'^\| `([\w.]+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|',
        _text('docs/your_task.md'),
        re.M,
    )
    self.assertLen(rows, 5)
    for name, *lengths in rows:
      for size, length in zip(
          ('small', 'small_robot', 'small_arm', 'paper'), lengths, strict=True
      ):
        if (name, size) == ('BehaviorCloning.num_steps', 'small_arm'):
          size = 'small_robot'  # The file that it includes.
        if (name, size) == ('Online.num_episodes', 'paper'):
          # A method may bind fewer, so the file of sizes binds none.
          self.assertEqual(length, f'{phases.Online()._num_episodes:,}')
          continue
        self.assertRegex(
            _text(f'gin/sizes/{size}.gin'),
            rf'(?m)^{re.escape(name)} = {length.replace(",", "_")}\b',
        )

  def _names_of(self, name: str) -> set[str]:
    found = self._found[name]
    names = {parameter.name for parameter in found.parameters}
    return names | (self._names_of(found.others) if found.others else set())


class NamesTest(parameterized.TestCase):

  @parameterized.parameters(*_PAGES)
  def test_programs_of_commands_are_known(self, page):
    known = {*commands.programs(), *_OTHER_PROGRAMS}
    saved = {block.file_name for block in pages.blocks(page)}
    for line in pages.lines(page):
      line = re.sub(r'^(\w+=(\$\(.*\)|\S*)\s*)+', '', line)  # Assignments.
      words = shlex.split(line, comments=True)
      if words and '/bin/' not in words[0]:  # Of an environment of the reader.
        self.assertIn(words[0], known, line)
      if words[:1] == ['python'] and words[1].endswith('.py'):
        path = words[1]
        self.assertTrue(path in saved or (_ROOT / path).exists(), line)

  @parameterized.parameters(*_PAGES)
  def test_columns_that_a_page_names_exist(self, page):
    names = r'`((?:losses|values|candidates|collect)/\w+)`'
    for name in re.findall(names, _text(page)):
      self.assertIn(name, metric_columns.COLUMNS)

  def test_messages_are_those_that_programs_printed(self):
    printed = '\n'.join(map(_text, _MEASURED))
    rows = re.findall(r'^\| (`.*?) \| ', _text('docs/messages.md'), re.M)

    self.assertGreater(len(rows), 20)
    for row in rows:
      # Code is in single backticks, or in double ones if it has backticks.
      message = row[2:-2] if row.startswith('``') else row[1:-1]
      parts = [re.escape(x.strip()) for x in message.split('…')]
      self.assertRegex(printed, '.*'.join(parts))


@pytest.mark.full
class SiteTest(absltest.TestCase):

  def test_builds_without_a_broken_link(self):
    subprocess.run(['make', 'docs'], cwd=_ROOT, check=True)

    self.assertTrue((_ROOT / 'build/docs/first_run/index.html').exists())


if __name__ == '__main__':
  absltest.main()
