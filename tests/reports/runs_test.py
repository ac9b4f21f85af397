import json
import os

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.reports import phase_axis
from parl_tf.reports import run_files
from parl_tf.reports import runs
from tests.reports import run_folders

_ROWS = (
    run_folders.logged('offline', 10, values__mean=-2.0),
    run_folders.evaluated('offline', 20, 40.0),
    run_folders.evaluated('online', 40, 80.0, env_steps=15),
)


class RunFolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path

  def _path(self, *parts):
    return os.path.join(self._root, *parts)

  def _write(self, name, rows=_ROWS, **options):
    return run_folders.write(self._path(name), rows, **options)


class ReadRunTest(RunFolderTest):

  def test_run_matches_its_files(self):
    run = runs.read_run(self._write('method/seed_3', seed=3), 'method')

    self.assertEqual((run.method, run.seed, run.domain), ('method', 3,
                                                          'LineWalk'))
    self.assertTrue(run.is_finished)
    self.assertEqual(run.settings['LineWalk.length'], '5')
    self.assertEqual(run.metrics.phases.tolist(), ['offline'] * 2 + ['online'])
    np.testing.assert_array_equal(
        run.metrics.columns['values/mean'], [-2.0, np.nan, np.nan]
    )

  def test_last_evaluation_of_a_phase_counts(self):
    run = runs.read_run(self._write('run'), 'method')

    online = runs.phase_result(run, 'online')

    self.assertEqual(online.score, 80.0)
    self.assertEqual(online.score_without_search, 40.0)
    self.assertEqual(online.success_rate, 0.8)
    self.assertEqual(online.success_rate_without_search, 0.4)
    self.assertTrue(np.isnan(online.steps_to_success))
    self.assertEqual(online.num_episodes, 10)
    self.assertEqual(online.env_steps, 15.0)
    self.assertEqual(online.wall_seconds, 2.0)  # 4.0 - 2.0
    self.assertFalse(online.is_partial)
    self.assertIsNone(runs.phase_result(run, 'behavior_cloning'))

  def test_score_without_search_is_used_if_there_is_no_search(self):
    row = run_folders.logged('behavior_cloning', 5)
    run = runs.read_run(
        self._write('run', [{**row, 'score_without_search': 12.0}]), 'method'
    )

    result = runs.phase_result(run, 'behavior_cloning')

    self.assertEqual(result.score, 12.0)
    self.assertTrue(np.isnan(result.success_rate))

  def test_run_that_began_from_another_counts_its_own_steps(self):
    path = self._write('run', _ROWS[1:])
    with open(os.path.join(path, 'summary.json')) as file:
      summary = json.load(file)
    summary['phases']['offline']['train_steps'] = 8  # Steps 12 to 20.
    run_folders.write_text(
        os.path.join(path, 'summary.json'), json.dumps(summary)
    )
    initial_run = run_files.InitialRun(
        'runs/other', 'behavior_cloning', ['behavior_cloning'], 12, None
    )
    run_folders.write_text(
        os.path.join(path, 'initial_run.json'),
        json.dumps(initial_run._asdict()),
    )

    (run,), notes = runs.read_runs([path])

    self.assertTrue(run.is_finished)
    self.assertEqual(run.initial_run, initial_run)
    self.assertEqual(
        notes, (f'{path} began from runs/other after behavior cloning.',)
    )
    other = self._write('run_2', seed=2)
    run_folders.write_text(
        os.path.join(other, 'initial_run.json'),
        json.dumps(initial_run._replace(path='runs/next')._asdict()),
    )
    os.remove(os.path.join(other, 'summary.json'))
    self.assertIn(
        f'{self._root}: 2 runs began from runs after behavior cloning.',
        runs.read_runs([self._root]).notes,
    )
    axis = phase_axis.PhaseAxis(run.metrics)
    # Each phase has one row, at its end: at the middle and the end of the axis.
    positions = axis.positions(run.metrics)
    self.assertEqual(positions[1], 1.0)
    self.assertBetween(positions[0], 0.1, 0.9)

  def test_unfinished_run_has_a_partial_phase(self):
    run = runs.read_run(self._write('run', is_finished=False), 'method')

    self.assertFalse(run.is_finished)
    self.assertFalse(runs.phase_result(run, 'offline').is_partial)
    self.assertTrue(runs.phase_result(run, 'online').is_partial)

  def test_a_phase_without_evaluation_has_no_result(self):
    path = self._write('run', [run_folders.logged('online', 40)])
    phase = {'score': None, 'num_evaluation_episodes': 0, 'train_steps': 40}
    summary = {'seed': 0, 'domain': 'LineWalk', 'phases': {'online': phase}}
    run_folders.write_text(
        self._path('run', 'summary.json'), json.dumps(summary)
    )
    run = runs.read_run(path, 'method')
    self.assertTrue(run.is_finished)
    self.assertIsNone(runs.phase_result(run, 'online'))
    # Evaluations may have been given up in mid-phase.
    rows = [run_folders.evaluated('online', 20, 50.0),
            run_folders.logged('online', 40)]
    self._write('run', rows, is_finished=False)
    run = runs.read_run(path, 'method')
    self.assertTrue(run.is_finished)
    self.assertEqual(runs.phase_result(run, 'online').score, 50.0)

  def test_an_incomplete_last_line_is_ignored(self):
    path = self._write('run', is_finished=False)
    run_folders.cut(os.path.join(path, 'metrics.csv'), 4)

    run = runs.read_run(path, 'method')

    self.assertTrue(run.metrics.is_torn)
    self.assertEqual(run.metrics.phases.tolist(), ['offline'] * 2)

  def test_a_run_resumed_for_more_steps_is_not_finished(self):
    path = self._write('run')
    summary = self._path('run', 'summary.json')
    with open(summary, encoding='utf-8') as file:
      text = file.read()
    rows = [*_ROWS, run_folders.evaluated('online', 60, 90.0, env_steps=30)]
    self._write('run', rows)
    run_folders.write_text(summary, text)

    self.assertFalse(runs.read_run(path, 'method').is_finished)

  def test_long_settings_are_joined(self):
    path = self._write('run')
    with open(self._path('run', 'config.gin'), 'a', encoding='utf-8') as file:
      file.write('\nWalk.stops = \\\n    (1,\n     2)\nWalk.speed = 3\n')

    settings = runs.read_run(path, 'method').settings

    self.assertEqual(settings['Walk.stops'], '(1, 2)')
    self.assertEqual(settings['Walk.speed'], '3')

  def test_domain_may_be_a_macro(self):
    path = self._write('run')
    text = '# seed = 0\ndomain = @lib.maze.Maze()\n'
    run_folders.write_text(
        self._path('run', 'config.gin'),
        text + 'select_domain.domain = %domain\n',
    )

    self.assertEqual(runs.read_run(path, 'method').domain, 'Maze')


class FaultyRunTest(RunFolderTest):

  def _assert_fault(self, message):
    with self.assertRaisesRegex(ValueError, message):
      runs.read_run(self._path('run'), 'method')

  @parameterized.named_parameters(
      ('metrics', 'metrics.csv', r'run/metrics\.csv is missing'),
      ('config', 'config.gin', r'run/config\.gin is missing'),
  )
  def test_a_missing_file_is_named(self, name, message):
    self._write('run')
    os.remove(self._path('run', name))

    self._assert_fault(message)

  @parameterized.named_parameters(
      ('column', 'score,', '', r'metrics\.csv must have the column `score`'),
      ('cell', ',80.0,', ',8o,', r'line 4: `score` must be a number.*8o'),
      ('line', ',80.0,0.8,0.4,40.0,10,,,,,,,\n', ',80.0\n',
       r'line 4, must have 17 cells, got 6: .*`success_rate`'),
  )
  def test_invalid_metrics_are_named(self, old, new, message):
    self._write('run')
    path = self._path('run', 'metrics.csv')
    with open(path, encoding='utf-8') as file:
      text = file.read()
    self.assertIn(old, text)
    run_folders.write_text(path, text.replace(old, new, 1))

    self._assert_fault(message)

  def test_truncated_metrics_of_a_finished_run_are_named(self):
    self._write('run')
    run_folders.cut(self._path('run', 'metrics.csv'), 4)

    self._assert_fault(r'metrics\.csv: `train_step` must reach 40.*got 20')

  @parameterized.named_parameters(
      ('json', '{"seed": 0, "pha', r'summary\.json must be complete JSON'),
      ('field', '{"seed": 0}', r'summary\.json must have the field `phases`'),
      ('seed', '{"seed": 1, "phases": {}}', r'`seed` must be 0.*got 1'),
      ('number', '{"seed": 0, "phases": {"online": {"score": null}}}',
       r'`phases\.online\.score` must be a number, got None'),
      ('other_score',
       '{"seed": 0, "phases": {"online": {"score": 81, "train_steps": 40}}}',
       r'`phases\.online\.score` must be 80\.0.*got 81'),
  )
  def test_an_invalid_summary_is_named(self, text, message):
    self._write('run')
    run_folders.write_text(self._path('run', 'summary.json'), text)

    self._assert_fault(message)

  @parameterized.named_parameters(
      ('seed', 'select_domain.domain = @Maze()\n', 'line 1, must be `# seed'),
      ('domain', '# seed = 0\n', r'must bind `select_domain\.domain`'),
  )
  def test_an_invalid_configuration_is_named(self, text, message):
    self._write('run')
    run_folders.write_text(self._path('run', 'config.gin'), text)

    self._assert_fault(message)


class ReadRunsTest(RunFolderTest):

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

    found = runs.read_runs([self._root], 'parent', may_repeat=True)
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
