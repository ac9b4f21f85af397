"""Tests of the value map, with a small agent and made-up states."""

import os

from absl.testing import absltest
import gin
import numpy as np
import tensorflow as tf

from benchmarks import value_map
from parl_tf.binaries import configs
from parl_tf.domains import antmaze
from parl_tf.domains import maze as maze_lib
from parl_tf.training import builder
from tests import tensor_case

_U = maze_lib.Maze(maze_lib.LAYOUTS['UMaze'], cell_size=4.0)
_GOAL = (3, 1)


class PlacesTest(absltest.TestCase):

  def test_grid_covers_the_free_cells(self):
    grid = value_map.make_grid(_U, 2.0)
    self.assertLen(grid, 4 * 7)
    # The first cell's centre is (-4, 4).
    np.testing.assert_allclose(grid[0], [-5.0, 3.0])
    for point in grid:
      centre = _U.position(_U.cell_at(point))
      self.assertLessEqual(np.abs(point - centre).max(), 1.0)

  def test_distance_follows_the_maze(self):
    positions = np.array([
        [-4.0, -4.0],  # The goal.
        [-4.0, -3.0],  # Next to the goal.
        [0.0, -4.0],  # One cell away.
        [-4.0, 4.0],  # The start, six cells away.
        [-3.0, 4.0],  # One metre further along.
    ])
    np.testing.assert_allclose(
        value_map.distances_to(_U, _GOAL, positions), [0, 1, 4, 24, 23]
    )

  def test_nearest_states_are_found(self):
    positions = np.array([[0.0, 0.0], [0.2, 0.0], [0.1, 0.0], [5.0, 5.0]])
    grid = np.array([[0.0, 0.0], [3.0, 3.0]])
    near, far = value_map.find_states(positions, grid, 1.0, num_states=2)
    self.assertCountEqual(near, [0, 2])
    self.assertEmpty(far)

  def test_correlation_uses_ranks(self):
    points = [
        value_map.Point(np.zeros(2), distance, -(distance**3), distance, 1)
        for distance in (1.0, 2.0, 5.0, 7.0)
    ]
    self.assertAlmostEqual(
        value_map.rank_correlation(points, 'best_value'), -1.0
    )
    self.assertAlmostEqual(
        value_map.rank_correlation(points, 'mean_value'), 1.0
    )


class MapTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    configs.parse(
        ['experiments/antmaze_small.gin'],
        [
            'build_agent.chunk_length = 2',
            'CriticEnsemble.hidden_sizes = (16,)',
            'DenoisingNetwork.hidden_size = 8',
            'DiffusionPolicy.num_denoising_steps = 2',
            'Search.jit_compile = False',
            'Search.num_samples = 4',
            'ActionOptimizer.num_candidates = 2',
            'ActionOptimizer.num_gradient_steps = 1',
        ],
    )
    self._domain = antmaze.AntMaze(size='UMaze')
    self._agent = builder.build_agent(
        self._domain, None, 0, tf.Variable(0, dtype=tf.int64)
    )
    random = np.random.default_rng(0)
    # More than one batch; the last states lie in a corner of the start's cell.
    self._states = random.normal(size=[300, 29]).astype(np.float32)
    self._states[:, :2] = random.uniform(2.0, 6.0, [300, 2])
    self._states[-1, :2] = [-5.75, 5.75]

  def test_value_matches_the_search_at_the_states_near_a_point(self):
    points = value_map.make_map(
        self._agent, self._domain, self._states, spacing=0.5, num_states=3
    )
    corner = [p for p in points if np.allclose(p.position, [-5.75, 5.75])]
    self.assertLen(corner, 1)
    self.assertEqual(corner[0].num_states, 1)
    self.assertAlmostEqual(
        corner[0].distance, 20.0 + np.hypot(5.75, 1.75), places=5
    )
    for point in points:
      self.assertGreaterEqual(point.best_value, point.mean_value)
      self.assertBetween(point.best_value, -200.0, 0.0)
    again = value_map.make_map(
        self._agent, self._domain, self._states, spacing=0.5, num_states=3
    )
    self.assertEqual(
        [p.best_value for p in again], [p.best_value for p in points]
    )
    path = os.path.join(self.create_tempdir().full_path, 'report', 'map.png')
    value_map.draw(path, self._domain, points, 'Values')
    self.assertGreater(os.path.getsize(path), 1_000)

  def test_data_far_from_the_grid_is_an_error(self):
    states = self._states + 100.0
    with self.assertRaisesRegex(ValueError, r'within 0.5 m.*range from'):
      value_map.make_map(
          self._agent, self._domain, states, spacing=0.5, num_states=3
      )


if __name__ == '__main__':
  tf.test.main()
