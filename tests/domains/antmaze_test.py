"""Tests of the ant mazes."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import gymnasium
import numpy as np

from parl_tf.domains import antmaze
from tests.domains import domain_conformance


class AntMazeConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return antmaze.AntMaze(size='UMaze', max_episode_steps=8)


class AntMazeTest(parameterized.TestCase):

  @parameterized.parameters(
      ('UMaze', (-4.0, 4.0), (-4.0, -4.0)),
      ('Medium', (-10.0, 10.0), (10.0, -10.0)),
      ('Large', (-18.0, 12.0), (14.0, -12.0)),
  )
  def test_start_and_goal(self, size, start, goal):
    domain = antmaze.AntMaze(size=size)
    environment = domain.make_environment(0, evaluation=True)
    observation = environment.reset().observation
    # The initial position varies by 0.1 m.
    np.testing.assert_allclose(observation[:2], start, atol=0.1001)
    np.testing.assert_allclose(domain.maze.position(domain.goal_cell), goal)
    self.assertFalse(environment.is_success())

  def test_motion_matches_gymnasium_robotics(self):
    domain = antmaze.AntMaze(size='UMaze')
    environment = domain.make_environment(0, evaluation=True)
    ant = gymnasium.make('AntMaze_UMaze-v4').unwrapped
    os.remove(ant.tmp_xml_file_path)
    ant.reset(seed=0)
    state = environment.reset().observation.astype(np.float64)
    # The initial state is known only to the float32 precision of observations.
    ant.ant_env.set_state(state[:15], state[15:])
    random = np.random.default_rng(0)
    for _ in range(10):
      action = random.uniform(-1, 1, 8).astype(np.float32)
      observation = environment.step(action).observation
      ant.step(action)
    data = ant.ant_env.data
    np.testing.assert_allclose(
        observation, np.concatenate([data.qpos, data.qvel]), atol=1e-3
    )

  def test_reaching_the_goal_terminates_the_episode(self):
    # Start and goal are the same, so every reset is an immediate success.
    domain = antmaze.AntMaze(size='UMaze')
    domain.start_cell = domain.goal_cell
    environment = domain.make_environment(0, evaluation=True)
    environment.reset()
    time_step = environment.step(np.zeros([8], np.float32))

    self.assertTrue(time_step.last())
    self.assertEqual(time_step.reward, 1.0)
    self.assertEqual(time_step.discount, 0.0)
    self.assertTrue(environment.is_success())

  def test_action_repeat_runs_as_many_steps(self):
    single = antmaze.AntMaze(size='UMaze').make_environment(3, True)
    held = antmaze.AntMaze(size='UMaze', action_repeat=3).make_environment(
        3, True
    )
    single.reset()
    held.reset()
    action = np.linspace(-1.0, 1.0, 8, dtype=np.float32)
    for _ in range(3):
      expected = single.step(action).observation

    np.testing.assert_array_equal(held.step(action).observation, expected)

  @parameterized.parameters(
      ('size', 'Huge', 'one of'),
      ('start_cell', (0, 0), 'free cell'),
      ('goal_cell', (0, 0), 'free cell'),
      ('goal_cell', (1, 1), 'another cell than `start_cell`'),
      ('action_repeat', 0, r'in \[1, inf\]'),
      ('max_episode_steps', 0, r'in \[1, inf\]'),
      ('reward_scale', 0.0, 'positive'),
  )
  def test_an_argument_out_of_range_is_named(self, name, value, wanted):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be .*{wanted}'):
      antmaze.AntMaze(**{name: value})

  def test_value_of_never_succeeding(self):
    self.assertAlmostEqual(
        antmaze.AntMaze().never_succeeds_value(0.99), -100.0
    )

  def test_value_range_depends_on_the_discount(self):
    # -1 / (1 - 0.995); 1 - 1.
    self.assertSequenceAlmostEqual(
        antmaze.AntMaze().value_range(0.995), (-200.0, 0.0)
    )


if __name__ == '__main__':
  absltest.main()
