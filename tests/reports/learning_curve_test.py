"""Tests of the learning curve of one run."""

import os

from absl.testing import absltest
from absl.testing import parameterized
from matplotlib import image
import numpy as np

from parl_tf.reports import drawing
from parl_tf.reports import learning_curve
from parl_tf.reports import phase_axis
from parl_tf.reports import run_files
from parl_tf.training import metrics_log

_NAMES = (
    'success_rate_without_search',
    'num_evaluation_episodes',
    'values/mean',
    'losses/critic',
    'held_out_loss',
    'collect/success',
    'mean_return',
    'mean_return_without_search',
)


class LearningCurveTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._dir = self.create_tempdir().full_path
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
    return run_files.read_metrics(self._dir)

  def _plot(self, metrics, **kwargs):
    learning_curve.draw(self._png, metrics, **kwargs)
    self.assertEqual(
        os.listdir(os.path.dirname(self._png)), ['learning_curve.png']
    )
    return image.imread(self._png)

  def test_three_phases_are_drawn(self):
    metrics = self._log(
        ('behavior_cloning', 10, 0, {'success_rate_without_search': 0.1}),
        ('offline', 20, 0, {'values/mean': -2.0, 'losses/critic': 1.0}),
        ('offline', 30, 0, {'success_rate': 0.5, 'num_evaluation_episodes': 8}),
        ('online', 40, 10, {'success_rate': 1.0, 'num_evaluation_episodes': 8}),
    )
    plot = self._plot(metrics, title='Walk')
    self.assertEqual(plot.shape[:2], (960, 1350))
    lines = {'controller': 0.9, 'data': 0.3}
    with_lines = self._plot(metrics, title='Walk', references=lines)
    self.assertFalse(np.array_equal(plot, with_lines))

  def test_panel_of_the_critic_is_omitted_without_its_columns(self):
    metrics = self._log(('offline', 30, 0, {'success_rate': 0.5}))
    self.assertEqual(self._plot(metrics).shape[:2], (690, 1350))

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
    self.assertEqual(self._plot(self._log(*rows)).shape[1], 1350)

  def test_cloning_shows_its_held_out_loss(self):
    rows = [
        ('behavior_cloning', 10, 0, {'held_out_loss': 0.9}),
        ('behavior_cloning', 20, 0, {'held_out_loss': 0.5}),
    ]
    alone = self._plot(self._log(*rows))
    self.assertEqual(alone.shape[:2], (960, 1350))

  @parameterized.parameters((1, 1), (3, 3), (0, 0))
  def test_warm_up_ends_where_training_begins(self, num_warm_up, num_shaded):
    rows = [('offline', 20, 0, {'success_rate': 0.5})]
    for i in range(5):
      train_step = 20 + 10 * max(0, i + 1 - num_warm_up)
      rows.append(('online', train_step, 10 * (i + 1), {}))
    metrics = self._log(*rows)
    panel = drawing.make_plot(4.0, 3.0).subplots()
    phase_axis.PhaseAxis(metrics).draw_warm_up(panel, metrics)
    [label] = panel.get_legend_handles_labels()[1] or ['none']
    self.assertIn(f' {num_shaded} ' if num_shaded else 'none', label)

  @parameterized.parameters(
      (0.0, 0.0, None, 'mean return'),
      (0.1, 0.0, None, 'success rate'),
      (0.0, 1.0, None, 'success rate'),
      (0.0, 0.0, 0.3, 'success rate'),
      (0.0, 0.0, 0.0, 'mean return'),
  )
  def test_returns_are_drawn_if_nothing_succeeds(
      self, rate, online_success, controller, label
  ):
    metrics = self._log(
        ('behavior_cloning', 10, 0, {
            'success_rate_without_search': 0.0,
            'mean_return_without_search': -1200.0,
        }),
        ('online', 30, 5, {
            'success_rate': rate,
            'success_rate_without_search': 0.0,
            'mean_return': -300.0,
            'mean_return_without_search': -400.0,
            'num_evaluation_episodes': 8,
            'collect/success': online_success,
        }),
    )
    panel = drawing.make_plot(4.0, 3.0).subplots()
    positions = phase_axis.PhaseAxis(metrics).positions(metrics)
    learning_curve.draw_outcomes(
        panel, metrics, positions, {'controller': controller}
    )
    self.assertEqual(panel.get_ylabel(), label)
    if label == 'mean return':
      search, alone = panel.get_lines()
      self.assertEqual(search.get_ydata().tolist(), [-300.0])
      self.assertEqual(alone.get_ydata().tolist(), [-1200.0, -400.0])
      self.assertIn('last -400.0', alone.get_label())
    self._plot(metrics, references={'controller': controller})

  def test_online_episodes_are_drawn_if_nothing_is_evaluated(self):
    rows = [
        ('online', i + 1, i + 1, {'collect/success': float(i >= 20)})
        for i in range(30)
    ]
    panel = drawing.make_plot(4.0, 3.0).subplots()
    metrics = self._log(*rows)
    positions = phase_axis.PhaseAxis(metrics).positions(metrics)
    learning_curve.draw_outcomes(panel, metrics, positions, {})
    [line] = panel.get_lines()
    np.testing.assert_allclose(line.get_ydata()[18:22], [0.0, 0.0, 0.05, 0.1])
    self.assertEqual(line.get_ydata()[-1], 0.5)
    self.assertIn('online episodes', line.get_label())

    other = drawing.make_plot(4.0, 3.0).subplots()
    os.remove(os.path.join(self._dir, 'metrics.csv'))
    metrics = self._log(*rows, ('online', 31, 31, {'success_rate': 1.0}))
    positions = phase_axis.PhaseAxis(metrics).positions(metrics)
    learning_curve.draw_outcomes(other, metrics, positions, {})
    [line] = other.get_lines()
    self.assertIn('with search', line.get_label())

  def test_earlier_evaluations_do_not_hide_the_online_episodes(self):
    metrics = self._log(
        ('offline', 5, 0, {'success_rate': 0.5}),
        ('online', 6, 6, {'collect/success': 1.0}),
    )
    panel = drawing.make_plot(4.0, 3.0).subplots()
    positions = phase_axis.PhaseAxis(metrics).positions(metrics)
    learning_curve.draw_outcomes(panel, metrics, positions, {})

    first, second = panel.get_legend_handles_labels()[1]
    self.assertIn('online episodes', first)
    self.assertIn('with search', second)

  def test_each_phase_is_counted_from_its_start(self):
    metrics = self._log(
        ('behavior_cloning', 100, 0, {}),
        ('offline', 150, 0, {}),
        ('offline', 200, 0, {}),
    )
    np.testing.assert_allclose(
        phase_axis.PhaseAxis(metrics).positions(metrics), [0.5, 0.75, 1.0]
    )

  def test_log_without_rows_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'at least one row'):
      learning_curve.draw(self._png, self._log())


if __name__ == '__main__':
  absltest.main()
