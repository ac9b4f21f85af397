"""Tests of the OGBench mazes."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import gymnasium
import numpy as np
import ogbench  # noqa: F401  Registers its environments.

from parl_tf.domains import ogbench_maze
from tests.domains import controller_episode
from tests.domains import domain_conformance


class PointConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench_maze.OGBenchMaze(robot='point', max_episode_steps=8)


class AntConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench_maze.OGBenchMaze(robot='ant', max_episode_steps=8)


class OGBenchMazeTest(parameterized.TestCase):

  @parameterized.product(robot=['point', 'ant'], size=['medium', 'giant'])
  def test_motion_and_rewards_match_ogbench(self, robot, size):
    domain = ogbench_maze.OGBenchMaze(robot=robot, size=size, task=2)
    environment = domain.make_environment(3, evaluation=True)
    environment.reset()
    original = gymnasium.make(f'{robot}maze-{size}-singletask-task2-v0')
    os.remove(original.unwrapped.fullpath)  # OGBench does not delete it.
    original.reset(seed=0)
    begun = environment.gymnasium_environment.data
    original.unwrapped.set_state(begun.qpos, begun.qvel)
    random = np.random.default_rng(0)
    for _ in range(10):
      action = random.uniform(-1, 1, domain.action_spec().shape)
      action = action.astype(np.float32)
      time_step = environment.step(action)
      observation, reward, *_ = original.step(action)
      np.testing.assert_allclose(time_step.observation, observation, atol=1e-5)
      self.assertEqual(time_step.reward, reward)

  @parameterized.parameters('medium', 'large', 'giant')
  def test_cells_match_ogbench(self, size):
    domain = ogbench_maze.OGBenchMaze(size=size)
    environment = domain.make_environment(0, evaluation=True)
    original = environment.gymnasium_environment
    rows, columns = np.nonzero(original.maze_map == 0)
    self.assertLen(environment.maze.cells, len(rows))
    places = [environment.maze.position(x) for x in environment.maze.cells]
    # OGBench's rows go upwards, ours downwards.
    self.assertCountEqual(
        map(tuple, places), map(original.ij_to_xy, zip(rows, columns))
    )

  def test_episodes_start_within_a_metre_of_the_start_cell(self):
    # Task 3 of the large maze starts in OGBench's cell (7, 4): x = 4 * 4 - 4,
    # y = 4 * 7 - 4.
    domain = ogbench_maze.OGBenchMaze(size='large', task=3)
    environment = domain.make_environment(0, evaluation=True)
    starts = np.array([environment.reset().observation for _ in range(20)])
    self.assertLessEqual(np.max(np.abs(starts - [12.0, 24.0])), 1.0)
    self.assertGreater(np.min(np.ptp(starts, axis=0)), 1.0)

  @parameterized.parameters('medium', 'large', 'giant')
  def test_the_controller_reaches_the_goal(self, size):
    domain = ogbench_maze.OGBenchMaze(size=size, action_repeat=2)
    environment = domain.make_environment(0, evaluation=True)
    rewards = controller_episode.solve(self, domain, environment)

    # -1 per step until the goal is reached, then 0.
    self.assertEqual(set(rewards[:-1]), {-2.0})
    self.assertIn(rewards[-1], (-1.0, 0.0))
    self.assertLess(len(rewards), 500)

  def test_data_starts_in_every_cell_except_the_goal(self):
    environment = ogbench_maze.OGBenchMaze().make_data_environment(0)
    cells = {
        environment.maze.cell_at(environment.reset().observation)
        for _ in range(200)
    }
    self.assertEqual(
        cells, set(environment.maze.cells) - {environment.goal_cell}
    )

  def test_data_controller_walks_from_target_to_target(self):
    domain = ogbench_maze.OGBenchMaze(max_episode_steps=300)
    environment = domain.make_data_environment(0)
    controller = domain.make_data_controller(environment)
    controller.reset(0)
    time_step = environment.reset()
    targets = set()
    while not time_step.last():
      time_step = environment.step(controller.action(time_step, environment))
      targets.add(tuple(controller.info()['goal']))
    self.assertGreater(len(targets), 3)

  def test_the_ant_has_no_controller(self):
    domain = ogbench_maze.OGBenchMaze(robot='ant')
    environment = domain.make_data_environment(0)
    self.assertIsNone(domain.make_controller(environment))
    self.assertIsNone(domain.make_data_controller(environment))

  def test_image_shows_body_and_goal(self):
    domain = ogbench_maze.OGBenchMaze(robot='ant')
    environment = domain.make_environment(0, evaluation=True)
    environment.reset()
    image = environment.render()
    self.assertEqual((image.shape, image.dtype), ((256, 256, 3), np.uint8))
    # OGBench's cell (1, 1) is bottom left, the goal in cell (6, 6) top right.
    self.assertEqual(tuple(image[48, 208]), (255, 160, 160))
    blue = np.argwhere(np.all(image == (30, 60, 220), axis=-1)).mean(axis=0)
    np.testing.assert_allclose(blue, [208, 48], atol=9)

  @parameterized.parameters(
      ('robot', 'humanoid', 'one of'),
      ('size', 'teleport', 'one of'),
      ('task', 6, r'\[1, 2, 3, 4, 5\]'),
      ('action_repeat', 0, r'in \[1, inf\]'),
      ('max_episode_steps', 0, r'in \[1, inf\]'),
      ('reward_scale', 0.0, 'positive'),
  )
  def test_an_argument_out_of_range_is_named(self, name, value, wanted):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be .*{wanted}'):
      ogbench_maze.OGBenchMaze(**{name: value})

  def test_value_of_never_succeeding_includes_repeated_steps(self):
    domain = ogbench_maze.OGBenchMaze(action_repeat=2, reward_scale=0.5)
    self.assertAlmostEqual(domain.never_succeeds_value(0.99), -100.0)
    self.assertSequenceAlmostEqual(domain.value_range(0.99), (-100.0, 0.0))


if __name__ == '__main__':
  absltest.main()
