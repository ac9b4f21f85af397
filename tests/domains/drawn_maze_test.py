"""Tests of the drawn point mazes."""

import functools
import os

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from parl_tf.datasets import generate
from parl_tf.datasets import reading
from parl_tf.domains import drawn_maze
from parl_tf.domains import maze as maze_lib
from parl_tf.domains import pointmaze
from tests.domains import domain_conformance

_TWO_GOALS = ((7, 9), (1, 1))


def _short_maze(**kwargs):
  return pointmaze.PointMaze(max_episode_steps=12, **kwargs)


class OneGoalTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return drawn_maze.DrawnMaze(maze_ctor=_short_maze)


class TwoGoalsTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return drawn_maze.DrawnMaze(
        maze_ctor=_short_maze, goal_cells=_TWO_GOALS
    )


class PictureTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    # Four pixels per cell; x = 0 is the left border of column 2.
    self.maze = maze_lib.Maze(('####', '#..#', '#..#', '####'))
    self.picture = drawn_maze.Picture(self.maze, [(1, 2), (2, 1)], 16)

  def test_walls_goals_and_free_cells_have_their_colors(self):
    image = self.picture.draw(np.array([-0.5, 0.5]))  # Cell (1, 1).
    self.assertEqual(image[0, 0].tolist(), [120, 120, 120])
    # A square of 0.7 cells covers the two central pixels of its cell.
    self.assertEqual(image[5, 9].tolist(), [230, 40, 40])
    self.assertEqual(image[9, 5].tolist(), [40, 80, 230])
    self.assertEqual(image[5, 8].tolist(), [255, 255, 255])

  def test_the_ball_is_blended_at_its_border(self):
    # Its centre is the corner of pixels 5 and 6, its radius 0.4 cells, or 1.6
    # pixels. The four pixels around it, at a distance of 0.71, are covered.
    # Those at sqrt(1.5^2 + 0.5^2) = 1.5811 are covered to 1.6 + 0.5 - 1.5811 =
    # 0.5189: 255 (1 - 0.5189) = 122.69.
    image = self.picture.draw(np.array([-0.5, 0.5]))
    self.assertEqual(image[5:7, 5:7].max(), 0)
    self.assertEqual(image[4, 5].tolist(), [123, 123, 123])

  def test_a_ball_one_pixel_further_is_drawn_one_pixel_further(self):
    # Over plain floor the picture of the ball does not depend on its place.
    plain = drawn_maze.Picture(self.maze, [], 16)
    images = [plain.draw(np.array([x, 0.0])) for x in (-0.25, 0.0)]
    np.testing.assert_array_equal(images[0][6:10, 5:9], images[1][6:10, 6:10])

  def test_motion_of_a_tenth_of_a_pixel_is_visible(self):
    images = [self.picture.draw(np.array([x, 0.5])) for x in (-0.5, -0.475)]
    self.assertGreater(
        np.abs(images[0].astype(int) - images[1].astype(int)).max(), 5
    )


class DrawnMazeTest(parameterized.TestCase):

  def test_gin_binds_the_goal_of_a_single_one(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config('PointMaze.goal_cell = (1, 1)')
    (task,) = drawn_maze.DrawnMaze()._tasks
    self.assertEqual(task.goal_cell, pointmaze.PointMaze().goal_cell)
    self.assertEqual(tuple(task.goal_cell), (1, 1))

  def test_the_instruction_names_the_goal_that_counts(self):
    domain = drawn_maze.DrawnMaze(goal_cells=_TWO_GOALS)
    environment = domain.make_environment(0, evaluation=True)
    seen = set()
    for seed in range(8):
      environment.seed(seed)
      tokens = environment.reset().observation['instruction']
      words = [drawn_maze.VOCABULARY[int(token)] for token in tokens]
      self.assertEqual(words[:3] + words[4:], ['go', 'to', 'the', 'square'])
      color = words[3]
      self.assertEqual(
          environment.unwrapped.goal_cell,
          dict(zip(('red', 'blue'), _TWO_GOALS))[color],
      )
      seen.add(color)
    self.assertEqual(seen, {'red', 'blue'})

  def test_the_start_does_not_tell_which_goal_counts(self):
    # Nearly all cells are starts for both goals.
    maze_ctor = functools.partial(pointmaze.PointMaze, min_start_distance=1)
    domain = drawn_maze.DrawnMaze(maze_ctor=maze_ctor, goal_cells=_TWO_GOALS)
    environment = domain.make_environment(0, evaluation=True)
    starts = ([], [])  # By goal.
    for seed in range(400):
      environment.seed(seed)
      environment.reset()
      starts[environment.goal].append(environment.state[:2])
    red, blue = (np.array(x) for x in starts)
    self.assertBetween(len(red), 150, 250)
    # Means of 200 starts; a quarter of a deviation is 2.5 of their own.
    deviation = np.std(np.concatenate([red, blue]), axis=0)
    np.testing.assert_array_less(
        np.abs(red.mean(axis=0) - blue.mean(axis=0)), 0.25 * deviation
    )

  def test_each_reset_draws_another_start(self):
    domain = drawn_maze.DrawnMaze(goal_cells=_TWO_GOALS)
    environment = domain.make_environment(0, evaluation=False)
    noise = set()
    for _ in range(8):
      environment.reset()
      maze = environment.unwrapped.maze
      offsets = environment.state[:2] - [maze.position(x) for x in maze.cells]
      nearest = np.argmin(np.linalg.norm(offsets, axis=1))
      noise.add(tuple(np.round(offsets[nearest], 4)))
    self.assertLen(noise, 8)

  def test_controller_reaches_the_goal_that_counts(self):
    domain = drawn_maze.DrawnMaze(goal_cells=_TWO_GOALS)
    environment = domain.make_environment(0, evaluation=True)
    controller = domain.make_controller(environment)
    goals = set()
    for seed in range(6):
      environment.seed(seed)
      controller.reset(seed)
      time_step = environment.reset()
      goals.add(environment.goal)
      while not time_step.last():
        time_step = environment.step(controller.action(time_step, environment))
      self.assertTrue(environment.is_success())
      offset = environment.state[:2] - environment.unwrapped.maze.position(
          _TWO_GOALS[environment.goal]
      )
      self.assertLess(np.linalg.norm(offset), 0.5)
    self.assertEqual(goals, {0, 1})

  def test_recorded_data_has_no_coordinates_in_its_observations(self):
    domain = drawn_maze.DrawnMaze(
        maze_ctor=_short_maze, goal_cells=_TWO_GOALS
    )
    path = os.path.join(self.create_tempdir().full_path, 'data.hdf5')
    environment, controller = domain.make_recorder(0)
    generate.record_dataset(
        path, environment, controller, num_steps=30, seed=0
    )
    episodes = list(reading.read_episodes(path, **domain.dataset_options()))
    self.assertEqual(sum(e.num_steps for e in episodes), 30)
    self.assertEqual(
        sorted(episodes[0].observation), ['instruction', 'picture']
    )
    self.assertEqual(
        episodes[0].observation['picture'].shape[1:], (48, 48, 3)
    )

  @parameterized.parameters(
      (dict(goal_cells=()), 'goal_cells'),
      (dict(goal_cells=((7, 9), (7, 9))), 'differ'),
      (dict(picture_size=8), 'picture_size'),
  )
  def test_faulty_arguments_are_errors(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      drawn_maze.DrawnMaze(**arguments)


if __name__ == '__main__':
  absltest.main()
