"""Tests of the controls of a finished run."""

import glob
import json
import os
import shutil

from absl.testing import absltest
import gin
import pytest

from parl_tf.binaries import controls_run
from parl_tf.binaries import report_files
from parl_tf.reports import controls
from tests.binaries import tiny


class ControlsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._run = os.path.join(self.create_tempdir().full_path, 'run')
    ignored = shutil.ignore_patterns('checkpoints', 'policies', 'tensorboard')
    shutil.copytree(tiny.finished_run(), self._run, ignore=ignored)

  def _summary(self):
    with open(os.path.join(self._run, 'summary.json')) as file:
      return json.load(file)['phases']

  def test_what_is_missing_is_measured_once(self):
    path = os.path.join(self._run, controls.FILE)
    known = {x: {'success_rate': 0.25} for x in ('0.5', '0')}
    with open(path, 'w') as file:
      json.dump({'num_episodes': 4, 'clone': known}, file)
    controls_run.measure(self._run)

    found = controls.read(self._run)
    self.assertEqual({x: found.clone[x] for x in known}, known)
    cloning = self._summary()['behavior_cloning']
    # The same weights, episodes and draws as in the run.
    self.assertEqual(
        found.clone['1']['success_rate'],
        cloning['success_rate_without_search'],
    )
    self.assertEqual(
        found.clone['1']['mean_return'], cloning['mean_return_without_search']
    )
    # 600 steps in episodes of at most 15, with a reward of -1 or 0 each.
    self.assertGreaterEqual(found.data['num_episodes'], 40)
    self.assertBetween(found.data['mean_return'], -15.0, 0.0)
    modified = os.stat(path).st_mtime_ns
    controls_run.measure(self._run)
    self.assertEqual(os.stat(path).st_mtime_ns, modified)

  def test_self_distillation_has_no_search_in_any_scope(self):
    arguments = controls_run.self_distillation(self._run)
    self.assertEqual(arguments.seed, 3)
    self.assertStartsWith(
        arguments.root_dir, os.path.join(self._run, 'controls')
    )
    for binding in (
        'evaluation/Search.optimizer = None',
        'acting/Search.num_samples = 1',
        f'run_experiment.initial_run = {self._run!r}',
    ):
      self.assertIn(binding, arguments.gin_bindings)

  def test_the_clone_is_named_by_its_absolute_path(self):
    relative = os.path.relpath(self._run) + os.sep
    self.assertEqual(
        controls_run.self_distillation(relative).gin_bindings,
        controls_run.self_distillation(self._run).gin_bindings,
    )

  def test_a_run_without_online_phase_has_no_self_distillation(self):
    path = os.path.join(self._run, 'config.gin')
    with open(path, 'a') as file:
      file.write("\nrun_experiment.phase_names = ('behavior_cloning',)\n")
    self.assertIsNone(controls_run.self_distillation(self._run))

  def test_macros_are_resolved(self):
    path = os.path.join(self._run, 'config.gin')
    with open(path, 'a') as file:
      file.write('\ntraining/Search.temperature = %warmth\nwarmth = 0.5\n')
    with open(os.path.join(self._run, controls.FILE), 'w') as file:
      json.dump({'num_episodes': 4}, file)

    controls_run.write_self_distillation(self._run, self._run)

    found = controls.read(self._run).self_distillation
    self.assertEqual(found['temperature'], 0.5)
    with open(path, 'a') as file:
      file.write('\nOnline.num_episodes = %count\ncount = 0\n')
    self.assertIsNone(controls_run.self_distillation(self._run))

  def test_controls_are_complete_once_all_are_measured(self):
    path = os.path.join(self._run, controls.FILE)
    rates = {'success_rate': 0.25}
    found = {
        'num_episodes': 4,
        'data': rates,
        'clone': dict.fromkeys(controls.TEMPERATURES, rates),
    }
    for episodes, is_complete in ((None, False), (2, False), (3, True)):
      if episodes is not None:
        found['self_distillation'] = {'num_online_episodes': episodes, **rates}
      with open(path, 'w') as file:
        json.dump(found, file)
      self.assertEqual(controls.are_complete(self._run), is_complete)
    lines = controls_run.describe([self._run]).splitlines()
    self.assertIn('clone, T = 0.5', lines[0])
    self.assertIn('0.250', lines[-1])

  def test_run_without_its_clone_is_refused(self):
    shutil.rmtree(os.path.join(self._run, 'phases'))
    with self.assertRaisesRegex(ValueError, 'run/phases/behavior_cloning'):
      controls_run.measure_all([self._run])
    self.assertFalse(os.path.exists(os.path.join(self._run, controls.FILE)))

  def test_self_distillation_of_other_settings_is_to_be_removed(self):
    rates = dict.fromkeys(controls.TEMPERATURES, {'success_rate': 0.25})
    found = {'num_episodes': 4, 'data': {'success_rate': 0.25}, 'clone': rates}
    with open(os.path.join(self._run, controls.FILE), 'w') as file:
      json.dump(found, file)
    root_dir = controls_run.self_distillation(self._run).root_dir
    os.makedirs(os.path.join(root_dir, 'checkpoints'))
    for name in ('config.gin', 'checkpoints/checkpoint'):
      with open(os.path.join(root_dir, name), 'w') as file:
        file.write('# seed = 3\n')
    with self.assertRaisesRegex(
        ValueError, 'run/controls/self_distillation was begun .* Remove it'
    ):
      controls_run.measure_all([self._run])

  @pytest.mark.full
  def test_self_distillation_runs_and_is_reported(self):
    (path,) = controls_run.measure_all([self._run])
    self.assertEqual(path, os.path.join(self._run, controls.FILE))

    self.assertEqual(
        list(controls.read(self._run).clone), ['1', '0.5', '0']
    )
    self.assertEqual(
        glob.glob(f'{self._run}/controls/self_distillation/**/saved_model.pb',
                  recursive=True), []
    )
    found = controls.read(self._run).self_distillation
    self.assertEqual(found['num_online_episodes'], 3)
    self.assertEqual(found['temperature'], 1.0)
    self.assertLen(found['outcomes'], 4)
    rows = tiny.read_metrics(
        os.path.join(self._run, 'controls', 'self_distillation', 'seed_3')
    )
    # The clone as it is taken over, and a row for each episode.
    self.assertEqual(
        [row['phase'] for row in rows], ['behavior_cloning', *['online'] * 3]
    )
    self.assertNotEmpty(rows[-1]['losses/distillation'])
    self.assertEmpty(rows[-1]['losses/td'])
    output = os.path.join(self._run, 'report_of_test')
    content = report_files.write_report(
        [self._run], output, num_resamples=100
    )
    text = report_files.describe(content, output)
    self.assertRegex(text, r'self-distillation *\|')
    with open(os.path.join(output, 'index.html')) as file:
      self.assertIn('<h3>Controls</h3>', file.read())


if __name__ == '__main__':
  absltest.main()
