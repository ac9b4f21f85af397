"""Tests of `summary.json`."""

import json
import os
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.reports import run_files
from parl_tf.training import run_summary


def _phase(**changes):
  return run_summary.PhaseSummary(
      success_rate=np.float32(0.5),
      success_rate_without_search=None,
      score=50.0,
      num_evaluation_episodes=64,
      train_steps=np.int64(1_000),
      env_steps=0,
      wall_seconds=2.5,
      steps_to_success=np.float64(12.5),
      mean_return=np.float32(-30.0),
      outcomes='10',
  )._replace(**changes)


def _summary(**changes):
  return run_summary.RunSummary(
      seed=3,
      domain='LineWalk',
      wall_seconds=9.0,
      controller_success_rate=None,
      phases={'offline': _phase()},
      policies={'policy': '/tmp/policy'},
      data_success_rate=0.25,
  )._replace(**changes)


class SummaryTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self._path = os.path.join(directory.name, 'report', 'summary.json')

  def test_file_has_the_structure_that_scripts_read(self):
    run_summary.write(self._path, _summary())
    with open(self._path) as file:
      self.assertEqual(
          json.load(file),
          {
              'seed': 3,
              'domain': 'LineWalk',
              'wall_seconds': 9.0,
              'controller_success_rate': None,
              'phases': {
                  'offline': {
                      'success_rate': 0.5,
                      'success_rate_without_search': None,
                      'score': 50.0,
                      'num_evaluation_episodes': 64,
                      'train_steps': 1000,
                      'env_steps': 0,
                      'wall_seconds': 2.5,
                      'steps_to_success': 12.5,
                      'steps_to_success_without_search': None,
                      'mean_return': -30.0,
                      'mean_return_without_search': None,
                      'outcomes': '10',
                      'outcomes_without_search': None,
                  }
              },
              'policies': {'policy': '/tmp/policy'},
              'initial_run': None,
              'data_success_rate': 0.25,
              'best': None,
                'policy_version': '',
          },
      )
    self.assertEqual(os.listdir(os.path.dirname(self._path)), ['summary.json'])
    self.assertEqual(run_summary.read(self._path), _summary())

  def test_beginning_is_read_back(self):
    beginning = run_files.InitialRun(
        'runs/other', 'offline', ['behavior_cloning', 'offline'], 30, None
    )
    summary = _summary(initial_run=beginning)
    run_summary.write(self._path, summary)
    self.assertEqual(run_summary.read(self._path), summary)

  def test_the_best_evaluation_is_read_back(self):
    best = run_summary.BestEvaluation(
        21, 1_050, 0.9, 0.5, 64, -9.0, {'policy': '/tmp/best/policy'}, '0101'
    )
    run_summary.write(self._path, _summary(best=best))
    self.assertEqual(run_summary.read(self._path).best, best)

  @parameterized.named_parameters(
      ('unknown_phase', {'phases': {'warm_up': _phase()}}, 'warm_up'),
      ('nan', {'wall_seconds': float('nan')}, 'not JSON compliant'),
  )
  def test_bad_summary_is_an_error_and_keeps_the_file(self, changes, message):
    run_summary.write(self._path, _summary())
    with self.assertRaisesRegex(ValueError, message):
      run_summary.write(self._path, _summary(**changes))
    with open(self._path) as file:
      self.assertEqual(json.load(file)['wall_seconds'], 9.0)


if __name__ == '__main__':
  absltest.main()
