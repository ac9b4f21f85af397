"""Tests of the output and the errors of `parl-train`."""

import json
import os
import re
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
from matplotlib import image
import numpy as np
import tensorflow as tf

from parl_tf.binaries import finished_run
from parl_tf.binaries import training_run
from parl_tf.datasets import generate
from parl_tf.domains import maze_environment
from parl_tf.replay import episode_log
from parl_tf.training import run_directory
from tests import absent_libraries
from tests.binaries import tiny
from tests.datasets import d4rl_columns

_PHASES = ['behavior_cloning', 'offline', 'online']
_POLICIES = ['base_policy', 'greedy_policy']


class RunTest(absltest.TestCase):
  """Runs the entry point in its own process."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._root_dir = tiny.finished_run()
    cls._rows = tiny.read_metrics(cls._root_dir)

  def _path(self, *parts):
    return os.path.join(self._root_dir, *parts)

  def _summary(self):
    with open(self._path('summary.json'), encoding='utf-8') as file:
      return json.load(file)

  def test_directory_has_all_output_files(self):
    self.assertContainsSubset(
        [
            'checkpoints',
            'config.gin',
            'data.hdf5',
            'episodes',
            'best',
            'finished',
            'metrics.csv',
            'operative_config.gin',
            'phases',
            'policies',
            'report',
            'summary.json',
            'tensorboard',
        ],
        os.listdir(self._path()),
    )
    partial = [
        name
        for _, folders, files in os.walk(self._path())
        for name in folders + files
        if name.endswith(('.partial', '.tmp'))
    ]
    self.assertEmpty(partial)
    self.assertIsNotNone(tf.train.latest_checkpoint(self._path('checkpoints')))
    self.assertLen(episode_log.EpisodeLog(self._path('episodes')), 3)
    plot = image.imread(self._path('report', 'learning_curve.png'))
    self.assertGreater(min(plot.shape[:2]), 400)
    # Neither blank nor noise.
    self.assertBetween(np.mean(plot[..., :3] < 0.9), 0.01, 0.5)

  def test_summary_has_the_structure_that_scripts_read(self):
    summary = self._summary()
    self.assertEqual(
        list(summary),
        ['seed', 'domain', 'wall_seconds', 'controller_success_rate',
         'phases', 'policies', 'initial_run', 'data_success_rate', 'best',
         'policy_version'],
    )
    self.assertEqual(summary['seed'], 3)
    self.assertEqual(summary['domain'], 'PointMaze')
    for name in ('controller', 'data'):
      self.assertBetween(summary[f'{name}_success_rate'], 0.0, 1.0)
    self.assertEqual(list(summary['phases']), _PHASES)
    for phase in summary['phases'].values():
      self.assertEqual(
          list(phase),
          ['success_rate', 'success_rate_without_search', 'score',
           'num_evaluation_episodes', 'train_steps', 'env_steps',
           'wall_seconds', 'steps_to_success',
           'steps_to_success_without_search', 'mean_return',
           'mean_return_without_search', 'outcomes',
           'outcomes_without_search'],
      )
      self.assertEqual(phase['num_evaluation_episodes'], 4)
      self.assertBetween(phase['success_rate_without_search'], 0.0, 1.0)
      self.assertBetween(phase['score'], 0.0, 100.0)
      self.assertEqual(
          phase['steps_to_success_without_search'] is None,
          phase['success_rate_without_search'] == 0.0,
      )
      self.assertLess(phase['mean_return_without_search'], 0.0)
    cloning, offline, online = summary['phases'].values()
    self.assertIsNone(cloning['success_rate'])
    self.assertEqual(offline['score'], 100.0 * offline['success_rate'])
    self.assertEqual((cloning['train_steps'], cloning['env_steps']), (18, 0))
    self.assertEqual((offline['train_steps'], offline['env_steps']), (12, 0))
    lengths = [int(r['collect/length']) for r in self._rows[-3:]]
    self.assertEqual(online['env_steps'], sum(lengths))
    self.assertEqual(online['train_steps'], sum(lengths[1:]))
    seconds = [phase['wall_seconds'] for phase in summary['phases'].values()]
    self.assertLess(sum(seconds), summary['wall_seconds'])

  def test_summary_names_the_policies(self):
    policies = self._summary()['policies']
    self.assertCountEqual(policies, _POLICIES)
    for name, path in policies.items():
      self.assertEqual(path, self._path('policies', name))
      self.assertTrue(tf.saved_model.contains_saved_model(path))

  def test_metrics_have_rows_for_each_phase(self):
    self.assertEqual(
        [row['phase'] for row in self._rows],
        ['behavior_cloning'] * 10 + ['offline'] * 6 + ['online'] * 3,
    )
    self.assertStartsWith(
        ','.join(self._rows[0]),
        'phase,train_step,env_steps,episodes,wall_seconds,score,success_rate,',
    )
    for name in ('train_step', 'env_steps', 'episodes', 'wall_seconds'):
      values = [float(row[name]) for row in self._rows]
      self.assertEqual(values, sorted(values))
    self.assertEqual(
        [row['episodes'] for row in self._rows[-3:]], ['1', '2', '3']
    )
    for column, phase in (
        ('held_out_loss', 'behavior_cloning'),
        ('losses/td', 'offline'),
        ('losses/distillation', 'online'),
    ):
      found = {row['phase'] for row in self._rows if row[column]}
      self.assertIn(phase, found)
      self.assertLessEqual(found, {phase, 'online'})

  def test_tensorboard_has_the_numbers_of_the_metrics(self):
    folder = self._path('tensorboard')
    seen = {}
    for name in os.listdir(folder):
      for event in tf.compat.v1.train.summary_iterator(
          os.path.join(folder, name)
      ):
        for value in event.summary.value:
          if value.tag == 'losses/td':
            seen[event.step] = value.simple_value
    wanted = {
        int(row['train_step']): float(row['losses/td'])
        for row in self._rows
        if row['losses/td']
    }
    self.assertEqual(seen, wanted)

  def test_configuration_is_saved_including_defaults(self):
    with open(self._path('operative_config.gin'), encoding='utf-8') as file:
      text = file.read()
    self.assertIn("PointMaze.size = 'UMaze'", text)
    self.assertIn("Online.order = 'interleaved'", text)

  def test_output_has_rates_scores_and_paths(self):
    output = tiny.read_output(self._root_dir)
    for phase in _PHASES:
      self.assertRegex(
          output, rf'{phase}: \d+/\d+  .* (steps/s|s/step|s/episode)'
      )
      self.assertRegex(output, rf'Phase {phase}: success .* \(4 episodes\)')
      self.assertRegex(output, rf'\n  {phase} .* [01]\.\d\d\d ')
    self.assertIn(self._path('report', 'learning_curve.png'), output)
    for name in _POLICIES:
      self.assertIn(f'SavedModel: {self._path("policies", name)}', output)

  def test_finished_run_is_described_without_any_work(self):
    self.addCleanup(gin.clear_config)
    summary_file = self._path('summary.json')
    before = os.stat(summary_file).st_mtime_ns

    summary = training_run.train(
        self._root_dir, [tiny.GIN_FILE], tiny.BINDINGS, 3
    )

    self.assertIn(
        finished_run.describe(summary, self._root_dir),
        tiny.read_output(self._root_dir),
    )
    self.assertEqual(os.stat(summary_file).st_mtime_ns, before)

  def test_same_command_on_a_finished_run_imports_no_tensorflow(self):
    done = absent_libraries.run(
        ['tensorflow', 'tf_agents', 'gymnasium'],
        '-m',
        'parl_tf.binaries.train',
        f'--root_dir={self._root_dir}',
        *tiny.FLAGS,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertRegex(done.stderr, 'The run in .* is finished')
    self.assertIn('SavedModel: ', done.stdout)

  def test_output_is_short_and_has_only_our_messages(self):
    output = tiny.read_output(self._root_dir)
    logged = re.findall(r'^[IWEF]\d{4} .*$', output, re.MULTILINE)
    for line in logged:
      if 'GaussianPolicy.hidden_sizes has no effect' in line:
        continue  # A binding of `tiny` for other runs.
      self.assertRegex(
          line,
          r'^I.* (experiment|generate|run_dataset|run_policies|session'
          r'|training_run)\.py:\d+\] ',
      )
    self.assertNotRegex(
        output, '(?i)gym|tensorflow|xla|absl|assert|cuda|reverb|warning'
    )
    self.assertLessEqual(output.count('\n'), 40)


class FailedStartTest(parameterized.TestCase):
  """Tests starts of `train.train` that fail before any work."""

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._dir = self.create_tempdir().full_path
    self._root = os.path.join(self._dir, 'run')
    self._file = os.path.join(self._dir, 'maze.hdf5')

  def _train(self, *bindings, seed=0):
    gin.clear_config()
    training_run.train(
        self._root, [tiny.GIN_FILE], [*tiny.BINDINGS, *bindings], seed
    )

  def _train_on(self, columns, seed=0):
    d4rl_columns.write(self._file, columns)
    self._train(
        f"run_experiment.dataset_path = '{self._file}'",
        'run_experiment.num_recorded_steps = None',
        seed=seed,
    )

  def _columns(self, **changes):
    random = np.random.default_rng(0)
    columns = dict(
        observations=random.normal(size=[40, 4]).astype(np.float32),
        actions=random.uniform(-1, 1, [40, 2]).astype(np.float32),
    )
    return d4rl_columns.make('---------t' * 4, **{**columns, **changes})

  def _assert_no_work(self):
    left = os.listdir(self._root) if os.path.exists(self._root) else []
    self.assertContainsSubset(left, ['config.gin', 'run.lock'])

  @parameterized.named_parameters(
      ('missing', dict(actions=None), r'`actions`'),
      ('nan', dict(observations=np.full([40, 4], np.nan, np.float32)),
       r'`observations`.*row 0.*nan'),
      ('out_of_bounds', dict(actions=np.full([40, 2], 1.5, np.float32)),
       r'`actions`.*\[-1.*1.*1\.5'),
      ('lengths', dict(rewards=np.zeros([39], np.float32)),
       r'`rewards`.*40.*39'),
      ('width', dict(observations=np.zeros([40, 5], np.float32)),
       r'`observations`.*4.*5'),
  )
  def test_fault_in_the_data_is_named(self, changes, message):
    with self.assertRaisesRegex(ValueError, f'maze.hdf5.*{message}'):
      self._train_on(self._columns(**changes))
    self._assert_no_work()

  def test_truncated_file_is_named(self):
    d4rl_columns.write(self._file, self._columns())
    with open(self._file, 'r+b') as file:
      file.truncate(os.path.getsize(self._file) // 2)
    with self.assertRaisesRegex(ValueError, 'maze.hdf5'):
      self._train(f"run_experiment.dataset_path = '{self._file}'")
    self._assert_no_work()

  def test_missing_file_is_named(self):
    with self.assertRaisesRegex((ValueError, FileNotFoundError), 'maze.hdf5'):
      self._train(f"run_experiment.dataset_path = '{self._file}'")
    self._assert_no_work()

  def test_neither_file_nor_number_of_steps_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'dataset_path.*num_recorded_ste'):
      self._train('run_experiment.num_recorded_steps = None')
    self._assert_no_work()

  @parameterized.parameters(
      ('run_experiment.num_evaluation_episodes', -1),
      ('run_experiment.held_out_fraction', 1.0),
      ('run_experiment.checkpoint_seconds', -1.0),
      ('run_experiment.exported_policies', "'mine'"),
      ('PointMaze.action_repeat', 0),
      ('BehaviorCloning.batch_size', 0),
      ('Offline.interval', -3),
      ('Online.order', "'at_random'"),
      ('Online.offline_fraction', 0.3),
      ('Search.num_samples', 0),
      ('ActionOptimizer.num_candidates', 99),
      ('DiffusionPolicy.averaging_rate', 2.0),
      ('Critic.tau', -0.5),
  )
  def test_value_out_of_range_is_named_before_anything_is_recorded(
      self, name, value
  ):
    with self.assertRaisesRegex(
        ValueError, rf'{name.split(".")[1]}`.*{value}'
    ):
      self._train(f'{name} = {value}')
    self._assert_no_work()

  def test_task_that_draws_no_video_is_named_before_anything_is_recorded(self):
    with mock.patch.object(
        maze_environment.MazeEnvironment, 'render', side_effect=OSError('EGL')
    ):
      with self.assertRaisesRegex(ValueError, 'video is not possible.*EGL'):
        self._train(
            'Online.evaluation_interval = 1', 'Online.video_interval = 1'
        )
    self._assert_no_work()

  @parameterized.parameters(
      ('NoSuchThing.size = 1', 'NoSuchThing'),
      ('PointMaze.no_such_size = 1', 'no_such_size'),
      ('build_agent.policy_ctor = @NoSuchPolicy', 'NoSuchPolicy'),
  )
  def test_unknown_gin_name_is_an_error(self, binding, name):
    with self.assertRaisesRegex(ValueError, name):
      self._train(binding)
    self.assertFalse(os.path.exists(self._root))

  def test_unknown_gin_file_is_an_error(self):
    with self.assertRaisesRegex(FileNotFoundError, 'no_such.gin'):
      training_run.train(self._root, ['no_such.gin'])

  def test_corrected_start_can_use_the_directory_of_a_failed_one(self):
    with self.assertRaisesRegex(ValueError, '`actions`'):
      self._train_on(self._columns(actions=None))
    # A file with one episode is valid but cannot be split, so this start fails
    # later.
    with self.assertRaisesRegex(ValueError, 'at least 2 episodes'):
      self._train_on(self._columns(timeouts=np.arange(40) == 39), seed=1)

  def test_data_of_a_failed_start_is_not_reused(self):
    # The run is refused after it has recorded the data.
    binding = 'MemoryExperience.capacity = 0'
    modified = []
    for seed in (0, 0, 1):
      with self.assertRaisesRegex(ValueError, '`capacity`.*0'):
        self._train(binding, seed=seed)
      path = os.path.join(self._root, 'data.hdf5')
      modified.append(os.stat(path).st_mtime_ns)
    # The same configuration reuses the data, another one records new data.
    self.assertEqual(modified[0], modified[1])
    self.assertGreater(modified[2], modified[1])
    # So does one whose recording was killed.
    with mock.patch.object(generate, 'record_task', side_effect=EOFError):
      with self.assertRaises(EOFError):
        self._train(binding, seed=2)
    self.assertFalse(os.path.exists(path))
    # The old data are kept under other names.
    for kept, time in zip(('1', '2'), modified[1:], strict=True):
      kept = os.path.join(self._root, f'data.replaced-{kept}.hdf5')
      self.assertEqual(os.stat(kept).st_mtime_ns, time)

  def test_directory_of_an_active_run_is_refused(self):
    with run_directory.hold(self._root):
      with self.assertRaisesRegex(ValueError, f'`root_dir`.*{os.getpid()}'):
        self._train()
    self._assert_no_work()

  def test_run_of_another_configuration_is_refused(self):
    root_dir = tiny.finished_run()
    for binding, seed, message in (
        ('Critic.tau = 0.5', 3, r'-Critic.tau = .*\+Critic.tau = 0.5'),
        ('Critic.tau = 0.03', 4, r'-# seed = 3.*\+# seed = 4'),
    ):
      gin.clear_config()
      with self.assertRaisesRegex(ValueError, f'(?s){message}'):
        training_run.train(
            root_dir, [tiny.GIN_FILE], [*tiny.BINDINGS, binding], seed
        )


if __name__ == '__main__':
  absltest.main()
