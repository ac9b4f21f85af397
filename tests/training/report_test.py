import json
import os
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from matplotlib import image
import numpy as np

from parl_tf.training import metrics_log
from parl_tf.training import report

_NAMES = (
    'success_rate_without_search',
    'num_evaluation_episodes',
    'values/mean',
    'losses/critic',
)


def _phase(**changes):
  return report.PhaseSummary(
      success_rate=np.float32(0.5),
      success_rate_without_search=None,
      score=50.0,
      num_evaluation_episodes=64,
      train_steps=np.int64(1_000),
      env_steps=0,
      wall_seconds=2.5,
  )._replace(**changes)


def _summary(**changes):
  return report.RunSummary(
      seed=3,
      domain='LineWalk',
      wall_seconds=9.0,
      controller_success_rate=None,
      phases={'offline': _phase()},
      policies={'policy': '/tmp/policy'},
  )._replace(**changes)


class SummaryTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self._path = os.path.join(directory.name, 'report', 'summary.json')

  def test_file_has_the_structure_that_scripts_read(self):
    report.write_summary(self._path, _summary())
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
                  }
              },
              'policies': {'policy': '/tmp/policy'},
          },
      )
    self.assertEqual(os.listdir(os.path.dirname(self._path)), ['summary.json'])

  @parameterized.named_parameters(
      ('unknown_phase', {'phases': {'warm_up': _phase()}}, 'warm_up'),
      ('nan', {'wall_seconds': float('nan')}, 'not JSON compliant'),
  )
  def test_bad_summary_is_an_error_and_keeps_the_file(self, changes, message):
    report.write_summary(self._path, _summary())
    with self.assertRaisesRegex(ValueError, message):
      report.write_summary(self._path, _summary(**changes))
    with open(self._path) as file:
      self.assertEqual(json.load(file)['wall_seconds'], 9.0)


class LearningCurveTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self._dir = directory.name
    self._png = os.path.join(self._dir, 'report', 'learning_curve.png')

  def _log(self, *rows):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      for phase, train_step, env_steps, metrics in rows:
        log.write(
            phase=phase,
            train_step=train_step,
            env_steps=env_steps,
            episodes=env_steps,
            wall_seconds=1.0,
            metrics=metrics,
        )
    return log.path

  def _picture(self, *args, **kwargs):
    report.plot_learning_curve(*args, self._png, **kwargs)
    self.assertEqual(
        os.listdir(os.path.dirname(self._png)), ['learning_curve.png']
    )
    return image.imread(self._png)

  def test_three_phases_are_drawn(self):
    path = self._log(
        ('behavior_cloning', 10, 0, {'success_rate_without_search': 0.1}),
        ('offline', 20, 0, {'values/mean': -2.0, 'losses/critic': 1.0}),
        ('offline', 30, 0, {'success_rate': 0.5, 'num_evaluation_episodes': 8}),
        ('online', 40, 10, {'success_rate': 1.0, 'num_evaluation_episodes': 8}),
    )
    picture = self._picture(path, controller_success_rate=0.9, title='Walk')
    self.assertEqual(picture.shape[:2], (960, 1350))

  def test_panel_of_the_critic_is_left_out_without_its_columns(self):
    path = self._log(('offline', 30, 0, {'success_rate': 0.5}))
    self.assertEqual(self._picture(path).shape[:2], (690, 1350))

  @parameterized.named_parameters(
      ('one_row_at_step_0', [('offline', 0, 0, {'success_rate': 0.5})]),
      ('no_rate', [('offline', 5, 0, {})]),
      (
          'phases_without_steps',
          [
              ('data', 0, 0, {}),
              ('offline', 5, 0, {'success_rate': 0.5}),
              ('final', 5, 0, {'success_rate': 0.5}),
          ],
      ),
      ('nan_value', [('offline', 5, 0, {'values/mean': float('nan')})]),
      ('online_alone', [('online', 700, 700, {'success_rate': 0.0})]),
  )
  def test_sparse_logs_are_drawn(self, rows):
    self.assertEqual(self._picture(self._log(*rows)).shape[1], 1350)

  def test_log_without_rows_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'at least one row'):
      report.plot_learning_curve(self._log(), self._png)


if __name__ == '__main__':
  absltest.main()
