import csv
import json
import os

from absl.testing import absltest
from absl.testing import parameterized
from matplotlib import figure
import numpy as np

from parl_tf.reports import curves
from parl_tf.reports import drawing
from parl_tf.reports import run_files
from parl_tf.reports import runs
from parl_tf.reports import score_curves
from parl_tf.reports import statistics
from tests.reports import run_folders


def _curve(values, x=(0.0, 1.0), method='a', is_measured=None):
  """Returns a curve of seeds with `values` `[seeds, points]`."""
  x, values = np.array(x), np.array(values, float)
  if is_measured is None:
    is_measured = np.full(x.shape, True)
  return curves.Curve(
      method,
      x,
      statistics.estimate(values[:, np.newaxis], num_resamples=100),
      np.array(is_measured),
      [curves.Line(x, y) for y in values],
  )


class DrawTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    self._png = os.path.join(self.create_tempdir().full_path, 'curve.png')

  def _caption(self, counter='wall_seconds'):
    found = runs.read_runs([self._root]).runs
    methods = curves.by_method(found, found[0].domain)
    styles = drawing.make_styles([group[0].method for group in methods])
    return score_curves.draw(self._png, methods, styles, counter)

  def test_methods_that_are_not_drawn_are_named(self):
    run_folders.write_study(self._root, {'a': [10.0, 20.0], 'b': [5.0]})
    self.assertNotIn('Not drawn', self._caption())
    # One seed ends before the other is evaluated.
    path = f'{self._root}/a/seed_1/metrics.csv'
    with open(path, newline='') as file:
      rows = list(csv.DictReader(file))
    for row in rows:
      row['wall_seconds'] = float(row['wall_seconds']) + 1e4
    with open(path, 'w', newline='') as file:
      writer = csv.DictWriter(file, rows[0])
      writer.writeheader()
      writer.writerows(rows)
    caption = self._caption()
    self.assertTrue(caption.endswith('a range common to all seeds: a.'))
    self.assertNotIn('Not drawn', self._caption('env_steps'))

  def _begin_after_cloning(self, folder):
    initial_run = run_files.InitialRun(
        'b', 'behavior_cloning', ['behavior_cloning'], 0, None
    )
    run_folders.write_text(
        f'{self._root}/{folder}/initial_run.json',
        json.dumps(initial_run._asdict()),
    )

  def test_the_first_evaluation_is_that_of_cloning_without_initial_run(self):
    run_folders.write_study(self._root, {'a': [10.0, 20.0], 'b': [5.0]})
    self.assertIn(
        'first evaluation of a seed, which is that of behavior cloning',
        self._caption(),
    )
    self._begin_after_cloning('a/seed_1')
    caption = self._caption()
    self.assertIn('first evaluation of a seed. The time of phases', caption)
    self.assertIn('behavior cloning of a (1 of 2 seeds).', caption)
    self._begin_after_cloning('a/seed_0')
    self._begin_after_cloning('b/seed_0')
    self.assertIn(
        'not included: behavior cloning of a; behavior cloning of b.',
        self._caption(),
    )
    self.assertNotIn('not included', self._caption('env_steps'))

  def test_an_interpolated_mean_is_declared(self):
    run_folders.write_study(self._root, {'a': [10.0]})
    self.assertNotIn('interpolated', self._caption())
    run_folders.write_study(self._root, {'a': [10.0, 20.0]})
    self.assertIn('interpolated linearly', self._caption())

  @parameterized.parameters(
      ([True, True, True], [0, 1, 2]),
      ([True, False, False], [0]),
      ([False, False, False], None),
  )
  def test_the_mean_is_marked_where_all_seeds_were_evaluated(
      self, is_measured, marks
  ):
    panel = figure.Figure().subplots()
    curve = _curve([[0, 1, 2], [3, 4, 5]], (0.0, 1.0, 2.0), 'a', is_measured)
    drawing.draw_curves(
        panel, [curve], drawing.make_styles(['a']), is_marked=True
    )
    mean = panel.lines[0]
    if marks is None:
      self.assertEqual(mean.get_marker(), 'None')
    else:
      self.assertEqual(mean.get_marker(), 'o')
      self.assertEqual(mean.get_markevery(), marks)

  def test_few_seeds_have_lines_and_many_have_dots_and_a_band(self):
    for num_seeds, num_lines, num_bands in ((1, 1, 0), (4, 5, 0), (5, 6, 1)):
      panel = figure.Figure().subplots()
      values = np.arange(2.0 * num_seeds).reshape(num_seeds, 2)
      drawing.draw_curve(
          panel,
          _curve(values),
          drawing.make_styles(['a'])['a'],
          is_marked=True,
      )
      self.assertLen(panel.lines, num_lines)
      self.assertLen(panel.collections, num_bands)
      for line in panel.lines[1:]:
        self.assertEqual(line.get_marker(), '.')
        self.assertEqual(line.get_linewidth() > 0.0, num_seeds < 5)

  def test_a_seed_is_drawn_to_its_own_end(self):
    panel = figure.Figure().subplots()
    longer = curves.Line(np.array([0.0, 2.0]), np.array([3.0, 9.0]))
    curve = _curve([[0, 1], [3, 6]])
    curve = curve._replace(seeds=[curve.seeds[0], longer])
    drawing.draw_curve(
        panel, curve, drawing.make_styles(['a'])['a'], is_marked=True
    )
    np.testing.assert_array_equal(panel.lines[0].get_xdata(), [0.0, 1.0])
    np.testing.assert_array_equal(panel.lines[2].get_xdata(), [0.0, 2.0])
    np.testing.assert_array_equal(panel.lines[2].get_ydata(), [3.0, 9.0])

  def test_a_leading_underscore_is_in_the_legend(self):
    plot = drawing.make_plot(4.0, 3.0)
    panel = plot.subplots()
    drawing.draw_curves(
        panel,
        [_curve(np.ones([1, 2]), method='_a$')],
        drawing.make_styles(['_a$']),
        is_marked=True,
    )
    drawing.draw_legend(plot, [panel])

    [legend] = plot.legends
    [text] = legend.get_texts()
    self.assertEqual(text.get_text(), r' _a\$ (1 seed)')

  def test_only_a_much_longer_curve_makes_an_axis_logarithmic(self):
    # Minutes in a study: one method took a third, most four, one thirteen.
    for ends, scale in (
        ([0.3, 4.0, 4.5, 13.0], 'linear'),
        ([0.0, 5e3, 6e3, 7e5], 'symlog'),
    ):
      panel = figure.Figure().subplots()
      found = [_curve([[0, 1]], (0.0, end)) for end in ends]
      score_curves._lengthen(panel, found)
      self.assertEqual(panel.get_xscale(), scale)
      low, high = panel.get_xlim()
      if scale == 'symlog':
        # A tick lies beyond the linear part, and all curves are in view.
        self.assertGreater(max(panel.get_xticks()), 6e3)
        self.assertTrue(low <= 0.0 and high >= max(ends))


if __name__ == '__main__':
  absltest.main()
