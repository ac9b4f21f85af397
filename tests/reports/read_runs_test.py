"""Tests of reading the run directories of a study."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.reports import run_files
from parl_tf.reports import runs
from tests.reports import run_folder_case


class ReadRunsTest(run_folder_case.RunFolderCase):

  def test_runs_are_found_at_any_depth_and_once(self):
    self._write('study/b/seed_0')
    self._write('study/a/seed_10', seed=10)
    self._write('study/a/seed_2', seed=2)

    found = runs.read_runs(
        [self._path('study'), self._path('study', 'a', 'seed_2')]
    )

    self.assertEqual(
        [(run.method, run.seed) for run in found.runs],
        [('a', 2), ('a', 10), ('b', 0)],
    )
    self.assertEmpty(found.notes)

  def test_the_run_name_may_contain_the_method(self):
    self._write('cal_ql_0')
    self._write('cal_ql_1', seed=1)
    self._write('iql-seed3', seed=3)
    self._write('samples_32', seed=1)

    found = runs.read_runs([self._root], 'name')

    self.assertEqual(
        [(run.method, run.seed) for run in found.runs],
        [('cal_ql', 0), ('cal_ql', 1), ('iql', 3), ('samples_32', 1)],
    )

  def test_the_same_seed_twice_is_an_error_unless_it_may_repeat(self):
    self._write('study/a')
    self._write('study/b')

    with self.assertRaisesRegex(ValueError, r'seed 0 of method .study.'):
      runs.read_runs([self._root], 'parent')

    # All are named at once.
    self._write('other/a', seed=1)
    self._write('other/b', seed=1)
    with self.assertRaisesRegex(
        ValueError,
        "seed 1 of method 'other' in LineWalk is .*other/a and .*other/b; seed"
        " 0 of method 'study' in LineWalk is .*study/a and .*study/b. To leave",
    ):
      runs.read_runs([self._root], 'parent')

    found = runs.read_runs([self._path('study')], 'parent', may_repeat=True)
    self.assertEqual([run.seed for run in found.runs], [0, 0])

  def test_domains_with_different_settings_are_distinguished(self):
    self._write('small/a/seed_0', length=5)
    self._write('large/a/seed_0', length=50)

    found = runs.read_runs([self._root])

    self.assertEqual(
        [run.domain for run in found.runs],
        ['LineWalk (length=5)', 'LineWalk (length=50)'],
    )

  def test_tasks_of_gymnasium_are_named_by_their_ids(self):
    for name in 'Reach-v4', 'Push-v2':
      self._write(f'{name}/a/seed_0')
      self._add(
          f'{name}/a/seed_0',
          'select_domain.domain = @Gymnasium()',
          f"Gymnasium.id = 'robots:{name}'",
      )
    found = runs.read_runs([self._root])
    self.assertEqual(
        [run.domain for run in found.runs], ['Push-v2', 'Reach-v4']
    )

  def _add(self, name, *bindings):
    with open(self._path(name, 'config.gin'), 'a', encoding='utf-8') as file:
      file.write('\n'.join(['', *bindings, '']))

  def test_settings_of_tasks_may_have_scopes_macros_and_addresses(self):
    for name, task in (('a/seed_0', 1), ('b/seed_0', 2)):
      self._write(name)
      self._add(
          name,
          f'task = {task}',
          'LineWalk.task = %task',
          f'acting/LineWalk.size = {task}',
          f"LineWalk.address = 'host:{task}'",
      )

    found = runs.read_runs([self._root])

    self.assertEqual(
        [run.domain for run in found.runs],
        [
            'LineWalk (acting/size=1, task=1)',
            'LineWalk (acting/size=2, task=2)',
        ],
    )
    with self.assertRaisesRegex(ValueError, 'must be of one domain, got'):
      runs.check_one_domain(found.runs)

  def test_seeds_may_have_servers_of_their_own(self):
    for seed in range(2):
      self._write(f'a/seed_{seed}', seed=seed)
      self._add(f'a/seed_{seed}', f"LineWalk.address = 'host:{seed}'")

    self.assertEmpty(runs.read_runs([self._root]).notes)

  def test_what_only_records_data_makes_no_other_task(self):
    for name in 'a', 'b':
      self._write(f'{name}/seed_0')
      self._add(f'{name}/seed_0', f'LineWalk.controller_ctor = @{name}')

    self.assertEqual(
        [run.domain for run in runs.read_runs([self._root]).runs],
        ['LineWalk'] * 2,
    )

  def test_the_folder_of_an_evaluator_is_no_run(self):
    self._write('a/seed_0')
    self._write('a/evaluator')
    for name in ('config.gin', 'summary.json'):
      os.remove(self._path('a/evaluator', name))

    found = runs.read_runs([self._root])

    self.assertLen(found.runs, 1)
    self.assertRegex('\n'.join(found.notes), 'a/evaluator is omitted.*config')

  def test_directories_named_by_a_seed_alone_take_the_name_of_their_parent(
      self,
  ):
    for name, seed in (('mine/1', 1), ('mine/seed2', 2), ('other_0', 0)):
      self._write(name, seed=seed)
    found = runs.read_runs([self._root])
    self.assertEqual(
        [(run.method, run.seed) for run in found.runs],
        [('mine', 1), ('mine', 2), ('other', 0)],
    )

  def test_problems_with_runs_are_noted(self):
    self._write('a/seed_0')
    path = self._write('a/seed_1', seed=1, is_finished=False)
    with open(os.path.join(path, 'config.gin'), 'a', encoding='utf-8') as file:
      file.write('\nWalk.speed = 3\n')
    self._write('a/seed_2', [], seed=2, is_finished=False)
    os.remove(
        os.path.join(self._write('a/seed_3', seed=3), 'metrics.csv')
    )

    found = runs.read_runs([self._root])

    self.assertLen(found.runs, 2)
    notes = '\n'.join(found.notes)
    self.assertRegex(notes, 'seed_1 is not finished; it is in phase online')
    self.assertRegex(notes, 'seed_2 is omitted: it has not logged anything')
    self.assertRegex(notes, r'seed_3 is omitted: it has no metrics\.csv')
    self.assertRegex(notes, r'seeds of a in LineWalk differ in Walk\.speed')

  @parameterized.named_parameters(
      ('no_folder', 'absent', r'no directory .*absent'),
      ('no_run', 'empty', r'`runs` must contain runs.*empty'),
      ('no_metrics', 'begun', r'begun must contain metrics\.csv, but does not'),
      ('no_row', 'logless', r'has not logged anything yet'),
  )
  def test_no_readable_run_is_an_error(self, name, message):
    os.makedirs(self._path('empty'))
    self._write('logless', [], is_finished=False)
    os.remove(os.path.join(self._write('begun'), 'metrics.csv'))

    with self.assertRaisesRegex(ValueError, message):
      runs.read_runs([self._path(name)])

  def test_a_method_is_named_by_its_run_unless_that_is_a_seed(self):
    self._write('a/seed_1', seed=1)
    self._write('fetch', seed=2)
    self._write('fetch_3', seed=3)

    found = runs.read_runs([self._root])

    self.assertEqual(
        [(run.method, run.seed) for run in found.runs],
        [('a', 1), ('fetch', 2), ('fetch', 3)],
    )

  def test_unknown_grouping_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "`group_by`.*'seed'"):
      runs.read_runs([self._root], 'seed')

  def test_an_absent_column_has_no_values(self):
    metrics = run_files.Metrics(np.array(['offline']), {})

    np.testing.assert_array_equal(metrics.column('score'), [np.nan])


if __name__ == '__main__':
  absltest.main()
