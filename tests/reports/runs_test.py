"""Tests of reading one run directory."""

import json
import os

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.reports import phase_axis
from parl_tf.reports import run_files
from parl_tf.reports import runs
from tests.reports import run_folder_case
from tests.reports import run_folders


class ReadRunTest(run_folder_case.RunFolderCase):

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

  def test_a_distributed_run_has_the_name_of_its_directory(self):
    paths = [
        self._write(f'{name}/learner', seed=seed)
        for seed in (0, 1) for name in (f'cal_ql_{seed}', f'iql/seed_{seed}')
    ]
    found = runs.read_runs(paths).runs
    self.assertEqual(
        [(x.method, x.seed) for x in found],
        [('cal_ql', 0), ('cal_ql', 1), ('iql', 0), ('iql', 1)],
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
    path = self._write('run', run_folder_case.ROWS[1:])
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
    rows = [
        *run_folder_case.ROWS,
        run_folders.evaluated('online', 60, 90.0, env_steps=30),
    ]
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


class FaultyRunTest(run_folder_case.RunFolderCase):

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

  @parameterized.parameters(
      'config.gin', 'metrics.csv', 'summary.json', 'initial_run.json'
  )
  def test_a_file_that_is_no_text_is_named(self, name):
    self._write('run')
    with open(self._path('run', name), 'wb') as file:
      file.write(b'\xff\xfe')

    self._assert_fault(f'run/{name} must be UTF-8 text: .* byte 0xff')

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


if __name__ == '__main__':
  absltest.main()
