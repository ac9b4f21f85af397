"""Tests of the output and the errors of `parl-report`."""

import csv
import os
import pathlib
import re

from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.binaries import report_files
from parl_tf.reports import comparison
from parl_tf.reports import page as page_lib
from parl_tf.reports import runs as runs_lib
from tests import programs
from tests.binaries import tiny
from tests.reports import run_folders

_SCORES = {
    'good': [80.0, 81.0, 82.0, 83.0, 84.0],
    'bad': [10.0, 11.0, 12.0, 13.0, 14.0],
    'wide': [5.0, 60.0, 70.0, 80.0, 90.0],
}
# Fails if the report imports TensorFlow, which is slow.
_PROGRAM = """
import sys
assert not any(name.startswith('parl_tf.reports') for name in sys.modules)
sys.modules['tensorflow'] = None
from parl_tf.binaries import report
report.run()
"""


def _read(path):
  with open(path, encoding='utf-8', newline='') as file:
    return list(csv.DictReader(file))


class CommandTest(absltest.TestCase):
  """Runs the entry point in its own process."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = os.path.join(tiny.make_folder(), 'report')
    study = run_folders.write_study(os.path.join(folder, 'study'), _SCORES)
    cls._study = study
    cls._output = os.path.join(folder, 'output')
    pathlib.Path(folder, 'report_program.py').write_text(_PROGRAM)
    cls._printed = programs.run(
        'report_program',
        '--runs',
        *(os.path.join(study, method) for method in _SCORES),
        '--output',
        cls._output,
        '--num_resamples=500',
        folder=folder,
    )

  def test_directory_contains_page_tables_and_figures(self):
    self.assertCountEqual(
        os.listdir(self._output),
        ['index.html', 'table.csv', 'comparisons.csv', 'scores_0.png',
         'env_steps_0.png', 'wall_clock_0.png', 'critic_health_0.png'],
    )

  def test_table_has_the_numbers(self):
    rows = _read(os.path.join(self._output, 'table.csv'))

    self.assertLen(rows, 9)
    [row] = [
        row
        for row in rows
        if (row['method'], row['phase']) == ('good', 'online')
    ]
    self.assertEqual(row['num_seeds'], '5')
    self.assertEqual(float(row['score']), 82.0)
    self.assertBetween(float(row['score_low']), 80.0, 82.0)
    # 8 + 8 + 8 + 8 + 8 successes of 50.
    self.assertEqual(float(row['success_rate']), 0.8)
    self.assertEqual(row['num_episodes'], '50')
    [row] = [
        row
        for row in rows
        if (row['method'], row['phase']) == ('bad', 'behavior_cloning')
    ]
    self.assertEqual(row['success_rate'], '')

  def test_comparisons_have_the_numbers(self):
    rows = _read(os.path.join(self._output, 'comparisons.csv'))

    self.assertLen(rows, 9)
    resolved = {
        (row['first'], row['second']): row['is_resolved']
        for row in rows
        if row['phase'] == 'online'
    }
    self.assertEqual(
        resolved,
        {
            ('good', 'bad'): 'True',
            ('good', 'wide'): 'False',
            ('wide', 'bad'): 'True',
        },
    )

  def test_output_has_the_last_phases_and_resolved_comparisons(self):
    output = self._printed

    self.assertRegex(output, r'LineWalk \| good +\| online +\| 5 +\| 82\.0 \[')
    self.assertNotIn('| offline', output)
    self.assertRegex(
        output, r'online: good is above bad, \+70\.0 \[.*5 and 5 seeds'
    )
    self.assertNotIn('not resolved', output)
    self.assertIn(os.path.join(self._output, 'index.html'), output)

  def test_page_shows_every_figure_and_method(self):
    path = os.path.join(self._output, 'index.html')
    with open(path, encoding='utf-8') as file:
      page = file.read()

    for name in os.listdir(self._output):
      if name != 'index.html':
        self.assertIn(f'"{name}"', page)
    for method in _SCORES:
      self.assertIn(f'<td>{method}</td>', page)
    self.assertIn('<td class="resolved">good is above bad</td>', page)
    self.assertEqual(page.count('<figure>'), 4)

  def test_page_links_to_the_files_of_each_run(self):
    path = os.path.join(self._output, 'index.html')
    with open(path, encoding='utf-8') as file:
      page = file.read()

    links = [x for x in re.findall('href="([^"]+)"', page) if '/' in x]
    # Configuration and metrics of 15 runs; a picture and exports of none.
    self.assertLen(links, 30)
    for link in links:
      self.assertTrue(os.path.exists(os.path.join(self._output, link)), link)


class FunctionTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    self._output = os.path.join(self._root, 'output')
    self._study = run_folders.write_study(
        os.path.join(self._root, 'study'), {'a': [10.0], 'b<i>': [20.0]}
    )

  def test_unfinished_runs_are_reported_and_names_escaped(self):
    os.remove(os.path.join(self._study, 'a', 'seed_0', 'summary.json'))

    content = report_files.write_report(
        [self._study], self._output, baseline='a'
    )

    text = report_files.describe(content, self._output)
    self.assertRegex(text, r'Note: .*a/seed_0 is not finished; .* online\.')
    self.assertRegex(text, r'\| 1 \(1 unfinished\) +\| 10\.0 ')
    self.assertNotIn('a - b', text)
    path = os.path.join(self._output, 'index.html')
    with open(path, encoding='utf-8') as file:
      page = file.read()
    self.assertIn('b&lt;i&gt;', page)
    self.assertNotIn('<i>', page)

  def test_output_has_at_most_thirty_lines(self):
    # With the last method, five orders are resolved in each of two phases. The
    # others have too few seeds.
    scores = {f'm{i}': [10.0] for i in range(14)}
    scores |= {f'z{i}': [10.0, 20.0, 30.0, 40.0 + i] for i in range(5)}
    scores |= {'best': [90.0, 91.0, 92.0, 93.0]}
    study = run_folders.write_study(os.path.join(self._root, 'many'), scores)
    for method in scores:
      os.remove(os.path.join(study, method, 'seed_0', 'summary.json'))
    run_set = runs_lib.read_runs([study])
    # What is merely good to know comes last.
    run_set = run_set._replace(notes=('m0 began from m1.', *run_set.notes))
    groups = comparison.make_groups(run_set.runs)
    # Without the figures, which take long.
    content = page_lib.Content(
        run_set,
        [comparison.make_row(group, num_resamples=10) for group in groups],
        comparison.make_pairs(groups, 'best', num_resamples=10),
        plots=[],
        num_resamples=10,
    )

    text = report_files.describe(content, self._output)
    lines = text.splitlines()
    self.assertLen(lines, report_files.MAX_LINES)
    self.assertIn('  and 18 more notes', lines)
    self.assertNotIn('Note: m0 began from m1.', lines)
    self.assertRegex(text, r'\n\|[-|]+\|\n\| LineWalk \| best ')
    self.assertRegex(text, r'and \d+ more in table\.csv')
    self.assertIn('10 of 57 comparisons are resolved at 5%', text)
    self.assertIn('  and 6 more in comparisons.csv', lines)

  @parameterized.named_parameters(
      ('baseline', {'baseline': 'c'}, r"`baseline` must be .*'a'.*got 'c'"),
      ('group_by', {'group_by': 'x'}, "`group_by`.*'x'"),
  )
  def test_unknown_options_are_an_error(self, options, message):
    with self.assertRaisesRegex(ValueError, message):
      report_files.write_report([self._study], self._output, **options)
    self.assertFalse(os.path.exists(self._output))

  def test_a_file_as_output_is_an_error_before_any_work(self):
    path = os.path.join(self._study, 'a', 'seed_0', 'metrics.csv')

    with self.assertRaisesRegex(ValueError, '`output` .*metrics.csv is a file'):
      report_files.write_report(['no_such_folder'], path)

  def test_runs_without_an_evaluation_are_an_error(self):
    folder = os.path.join(self._root, 'fresh')
    rows = [run_folders.logged('behavior_cloning', 5)]
    run_folders.write(os.path.join(folder, 'seed_0'), rows, is_finished=False)

    with self.assertRaisesRegex(ValueError, 'must contain an evaluated run'):
      report_files.write_report([folder], self._output)


if __name__ == '__main__':
  absltest.main()
