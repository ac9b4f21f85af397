import os

from absl.testing import absltest
from matplotlib import image
import numpy as np

from parl_tf.reports import comparison
from parl_tf.reports import drawing
from parl_tf.reports import figures
from parl_tf.reports import runs
from tests.reports import run_folders


class FiguresTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    self._output = self.create_tempdir().full_path

  def _draw(self):
    found = runs.read_runs([self._root]).runs
    rows = [
        comparison.make_row(group, num_resamples=100)
        for group in comparison.make_groups(found)
    ]
    return figures.draw_all(self._output, found, rows)

  def _assert_drawn(self, plots):
    self.assertCountEqual(
        os.listdir(self._output), [x.file_name for x in plots]
    )
    for plot in plots:
      pixels = image.imread(os.path.join(self._output, plot.file_name))
      with self.subTest(plot.file_name):
        self.assertGreater(min(pixels.shape[:2]), 200)
        # Neither blank nor noise.
        self.assertBetween(np.mean(pixels[..., :3] < 0.9), 0.005, 0.5)

  def test_each_figure_is_drawn_for_each_domain(self):
    run_folders.write_study(
        f'{self._root}/small', {'a': [10.0, 20.0], 'b': [70.0]}
    )
    run_folders.write_study(f'{self._root}/large', {'a': [5.0, 25.0]}, 50)

    plots = self._draw()

    self._assert_drawn(plots)
    self.assertEqual(
        [x.file_name for x in plots if x.domain.endswith('(length=5)')],
        ['scores_0.png', 'env_steps_0.png', 'wall_clock_0.png',
         'critic_health_0.png'],
    )
    # Curves of several domains have no common axis.
    self.assertEqual(
        [
            x.file_name
            for x in plots
            if x.domain == comparison.ALL_DOMAINS
        ],
        ['scores_2.png'],
    )

  def test_many_methods_get_one_panel_each(self):
    few = {f'method_{i}': [10.0 * i] for i in range(8)}
    run_folders.write_study(self._root, few)
    plots = self._draw()
    self._assert_drawn(plots)
    together = self._height('env_steps_0.png')
    health = self._height('critic_health_0.png')
    # One more method, with far more steps.
    rows = [
        run_folders.evaluated('offline', 100, 5.0),
        run_folders.evaluated(
            'online', 200, 50.0, env_steps=1_000_000, values__mean=-9.0
        ),
    ]
    run_folders.write(f'{self._root}/long/seed_0', rows)
    plots = self._draw()

    self._assert_drawn(plots)
    # Three rows of panels are higher than one panel with its legend.
    self.assertGreater(self._height('env_steps_0.png'), together + 50)
    self.assertGreater(self._height('critic_health_0.png'), health + 50)

  def _height(self, file_name):
    return image.imread(os.path.join(self._output, file_name)).shape[0]

  def test_runs_with_cloning_only_have_no_critic_to_draw(self):
    rows = [run_folders.evaluated('behavior_cloning', 5, 30.0)]
    run_folders.write(f'{self._root}/a/seed_0', rows)

    plots = self._draw()

    self._assert_drawn(plots)
    self.assertLen(plots, 3)

  def test_names_of_methods_are_no_mathematics(self):
    # Matplotlib would fail on the text between the dollar signs.
    run_folders.write_study(self._root, {'_cost_$x^$': [10.0]})

    self._assert_drawn(self._draw())

  def test_styles_differ(self):
    styles = drawing.make_styles([str(i) for i in range(28)])

    self.assertLen(set(styles.values()), 28)


if __name__ == '__main__':
  absltest.main()
