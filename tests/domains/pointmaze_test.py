"""Tests of the point mazes."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import gin
import gymnasium
import gymnasium_robotics
import numpy as np

from parl_tf.domains import pointmaze
from tests.domains import domain_conformance


class PointMazeConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return pointmaze.PointMaze(size='Medium', max_episode_steps=20)


def _play(environment, controller, max_steps=10_000):
  time_step = environment.reset()
  time_steps = [time_step]
  while not time_step.last() and len(time_steps) <= max_steps:
    time_step = environment.step(controller.action(time_step, environment))
    time_steps.append(time_step)
  return time_steps


def _make_reference(size, position):
  """Returns gymnasium-robotics' environment at rest at `position`."""
  gymnasium.register_envs(gymnasium_robotics)
  environment = gymnasium.make(
      f'PointMaze_{size}-v3', continuing_task=False
  ).unwrapped
  os.remove(environment.tmp_xml_file_path)  # gymnasium-robotics keeps it.
  environment.reset(seed=0)
  point = environment.point_env
  point.set_state(np.asarray(position, np.float64), np.zeros(2))
  return environment


class PointMazeTest(parameterized.TestCase):

  @parameterized.parameters('UMaze', 'Medium', 'Large')
  def test_mazes_match_gymnasium_robotics(self, size):
    reference = _make_reference(size, (0, 0)).maze
    seen = pointmaze.PointMaze(size=size).maze
    self.assertEqual(
        [[int(symbol == '#') for symbol in row] for row in seen.layout],
        reference.maze_map,
    )
    for cell in seen.cells:
      np.testing.assert_allclose(
          seen.position(cell), reference.cell_rowcol_to_xy(np.array(cell))
      )

  def test_motion_matches_gymnasium_robotics(self):
    domain = pointmaze.PointMaze(action_repeat=4, max_episode_steps=60)
    environment = domain.make_environment(3, evaluation=True)
    time_step = environment.reset()
    reference = _make_reference('Large', environment.info()['qpos'])
    # The start is float64, but its float32 observation is close enough.
    random = np.random.default_rng(0)
    for _ in range(25):
      action = random.choice([-1.0, 0.0, 1.0], size=2).astype(np.float32)
      for _ in range(4):
        observation = reference.step(action)[0]['observation']
      time_step = environment.step(action)
      np.testing.assert_allclose(
          time_step.observation, observation, atol=1e-4
      )

  @parameterized.parameters('UMaze', 'Medium', 'Large')
  def test_controller_reaches_the_goal_in_time(self, size):
    domain = pointmaze.PointMaze(size=size)
    environment = domain.make_environment(0, evaluation=True)
    controller = domain.make_controller(environment)
    for _ in range(12):
      time_steps = _play(environment, controller)
      self.assertTrue(environment.is_success())
      self.assertEqual(time_steps[-1].discount, 0)
      self.assertEqual(time_steps[-1].reward, 1)
      self.assertEqual(sum(step.reward for step in time_steps[1:]), 1)
      self.assertTrue(all(step.discount == 1 for step in time_steps[1:-1]))

  def test_a_timeout_keeps_discount_1(self):
    domain = pointmaze.PointMaze(size='UMaze', max_episode_steps=3)
    environment = domain.make_environment(0, evaluation=True)
    environment.reset()
    steps = [environment.step(np.zeros(2, np.float32)) for _ in range(3)]
    self.assertEqual([step.last() for step in steps], [False, False, True])
    self.assertEqual([float(step.discount) for step in steps], [1, 1, 1])
    self.assertEqual([float(step.reward) for step in steps], [0, 0, 0])

  def test_success_at_the_last_step_is_terminal(self):
    domain = pointmaze.PointMaze(size='UMaze')
    environment = domain.make_environment(0, evaluation=True)
    num_steps = len(_play(environment, domain.make_controller(environment))) - 1
    domain = pointmaze.PointMaze(size='UMaze', max_episode_steps=num_steps)
    environment = domain.make_environment(0, evaluation=True)
    last = _play(environment, domain.make_controller(environment))[-1]
    self.assertEqual((float(last.reward), float(last.discount)), (1, 0))

  def test_success_ends_the_step_immediately(self):
    domain = pointmaze.PointMaze(size='UMaze', action_repeat=50)
    environment = domain.make_environment(0, evaluation=True)
    time_steps = _play(environment, domain.make_controller(environment))
    self.assertTrue(environment.is_success())
    # 50 physics steps at this speed would overshoot the goal.
    observation = time_steps[-1].observation
    goal = domain.maze.position(domain.goal_cell)
    distance = np.linalg.norm(observation[:2] - goal)
    # One physics step crosses the goal's border: 0.01 s at 5 m/s per axis.
    self.assertBetween(distance, 0.45 - 0.01 * np.hypot(5.3, 5.3), 0.45)

  def test_action_repeat_repeats_the_force(self):
    ends = []
    for action_repeat, num_steps in ((1, 10), (10, 1)):
      domain = pointmaze.PointMaze(action_repeat=action_repeat)
      environment = domain.make_environment(0, evaluation=True)
      environment.reset()
      for _ in range(num_steps):
        time_step = environment.step(np.array([0.2, -0.3], np.float32))
      ends.append(time_step.observation)
    np.testing.assert_array_equal(ends[0], ends[1])

  def test_episodes_start_at_rest_and_far_from_the_goal(self):
    domain = pointmaze.PointMaze(min_start_distance=14, start_noise=0.2)
    distances, _ = domain.maze.routes_to(domain.goal_cell)
    environment = domain.make_environment(0, evaluation=True)
    cells = set()
    for _ in range(60):
      observation = environment.reset().observation
      cell = domain.maze.cell_at(observation[:2])
      offset = np.abs(observation[:2] - domain.maze.position(cell))
      self.assertLessEqual(np.max(offset), 0.2 + 1e-6)
      np.testing.assert_array_equal(observation[2:], [0, 0])
      cells.add(cell)
    # 60 draws miss one of 6 cells with probability 1e-4; the seed is fixed.
    self.assertEqual(cells, {c for c, d in distances.items() if d >= 14})

  def test_training_and_evaluation_have_the_same_starts(self):
    domain = pointmaze.PointMaze()
    starts = [
        domain.make_environment(5, evaluation).reset().observation
        for evaluation in (False, True)
    ]
    np.testing.assert_array_equal(starts[0], starts[1])

  def test_data_starts_in_every_cell_except_the_goal(self):
    domain = pointmaze.PointMaze(size='UMaze')
    environment = domain.make_data_environment(0)
    cells = {
        domain.maze.cell_at(environment.reset().observation[:2])
        for _ in range(60)
    }
    self.assertEqual(cells, set(domain.maze.cells) - {domain.goal_cell})

  def test_data_controller_walks_from_target_to_target(self):
    domain = pointmaze.PointMaze(size='UMaze', max_episode_steps=60)
    environment = domain.make_data_environment(1)
    controller = domain.make_data_controller(environment)
    targets = set()
    for seed in range(3):
      controller.reset(seed)
      time_step = environment.reset()
      while not time_step.last():
        time_step = environment.step(controller.action(time_step, environment))
        targets.add(tuple(controller.info()['goal']))
    self.assertGreater(len(targets), 3)

  def test_observation_does_not_contain_the_goal(self):
    observations = []
    # Both goals leave one possible start: the lower left corner.
    for goal_cell, distance in (((7, 9), 18), ((7, 10), 19)):
      domain = pointmaze.PointMaze(
          goal_cell=goal_cell, min_start_distance=distance
      )
      environment = domain.make_environment(0, evaluation=True)
      environment.reset()
      step = environment.step(np.array([1.0, 0.0], np.float32))
      observations.append(step.observation)
    np.testing.assert_array_equal(*observations)

  def test_value_of_never_succeeding_sums_the_bias(self):
    # -1 / (1 - 0.99) = -100.
    self.assertAlmostEqual(
        pointmaze.PointMaze().never_succeeds_value(0.99), -100.0
    )
    # (2 * 0 - 3) / (1 - 0.5) = -6.
    domain = pointmaze.PointMaze(reward_scale=2.0, reward_bias=-3.0)
    self.assertAlmostEqual(domain.never_succeeds_value(0.5), -6.0)

  def test_value_range_scales_and_biases_rewards(self):
    # -3 / (1 - 0.5) = -6; 2 - 3 = -1.
    domain = pointmaze.PointMaze(reward_scale=2.0, reward_bias=-3.0)
    self.assertSequenceAlmostEqual(domain.value_range(0.5), (-6.0, -1.0))

  def test_image_shows_ball_and_goal(self):
    environment = pointmaze.PointMaze().make_environment(0, evaluation=True)
    environment.reset()
    image = environment.render()
    self.assertEqual((image.shape, image.dtype), ((288, 384, 3), np.uint8))
    self.assertLen(np.unique(image.reshape(-1, 3), axis=0), 4)

  @parameterized.parameters(
      (dict(size='Huge'), 'size.*Huge'),
      (dict(goal_cell=(0, 0)), r'goal_cell.*\(0, 0\)'),
      (dict(min_start_distance=40), r'min_start_distance.*\[1, 18\].*40'),
      (dict(min_start_distance=0), 'min_start_distance.*0'),
      (dict(start_noise=0.5), 'start_noise.*0.5'),
      (dict(action_repeat=0), 'action_repeat.*0'),
      (dict(max_episode_steps=0), 'max_episode_steps.*0'),
      (dict(reward_scale=0.0), 'reward_scale.*0.0'),
  )
  def test_values_out_of_range_are_errors(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      pointmaze.PointMaze(**arguments)

  def test_gin_binds_the_constructor(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config("PointMaze.size = 'UMaze'")
    self.assertEqual(pointmaze.PointMaze().maze.shape, (5, 5))


if __name__ == '__main__':
  absltest.main()
