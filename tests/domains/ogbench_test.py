"""Tests of OGBench's cubes."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.domains import ogbench
from tests.domains import domain_conformance


class CubeConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench.Cube(max_episode_steps=6)


class CubeTest(parameterized.TestCase):

  @parameterized.parameters(
      ('size', 'quintuple', 'single'),
      ('task', 6, r'\[1, 2, 3, 4, 5\]'),
      ('action_repeat', 0, r'in \[1, inf\]'),
      ('max_episode_steps', 0, r'in \[1, inf\]'),
      ('reward_scale', 0.0, 'positive'),
      ('oracle_min_norm', 0.0, 'positive'),
      ('data_speed', 1.5, r'in \[0, 1\]'),
  )
  def test_an_argument_out_of_range_is_named(self, name, value, wanted):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be .*{wanted}'):
      ogbench.Cube(**{name: value})

  def test_the_oracle_carries_the_cube_and_the_episode_ends(self):
    domain = ogbench.Cube(action_repeat=2, oracle_min_norm=0.1)
    environment = domain.make_environment(0, evaluation=True)
    controller = domain.make_controller(environment)
    for seed in range(3):
      environment.seed(seed)
      time_step = environment.reset()
      rewards = []
      while not time_step.last():
        self.assertFalse(environment.is_success())
        time_step = environment.step(controller.action(time_step, environment))
        rewards.append(float(time_step.reward))

      self.assertTrue(environment.is_success())
      self.assertEqual(time_step.discount, 0.0)
      # -1 a step of 0.05 s until the cube is in place.
      self.assertEqual(set(rewards[:-1]), {-2.0})
      self.assertGreater(rewards[-1], -2.0)
      self.assertBetween(len(rewards), 10, 60)

  def test_a_disturbed_cube_is_fetched_again(self):
    domain = ogbench.Cube(action_repeat=2, oracle_min_norm=0.1)
    environment = domain.make_environment(0, evaluation=True)
    controller = domain.make_controller(environment)
    time_step = environment.reset()
    for _ in range(12):
      time_step = environment.step(controller.action(time_step, environment))
    for _ in range(6):  # Let go and up.
      time_step = environment.step(
          np.array([0.0, 0.0, 1.0, 0.0, -1.0], np.float32)
      )
    while not time_step.last():
      time_step = environment.step(controller.action(time_step, environment))

    self.assertTrue(environment.is_success())

  def test_slow_data_have_small_moves_and_whole_grasps(self):
    domain = ogbench.Cube(action_repeat=2, data_speed=0.5)
    environment = domain.make_data_environment(0)
    whole = domain.make_controller(environment)
    slow = domain.make_data_controller(environment)
    time_step = environment.reset()

    np.testing.assert_allclose(
        slow.action(time_step, environment),
        whole.action(time_step, environment) * [0.5, 0.5, 0.5, 0.5, 1.0],
        rtol=1e-6,
    )

  def test_tasks_start_and_end_elsewhere(self):
    places = []
    for task in (2, 3):
      domain = ogbench.Cube(task=task)
      environment = domain.make_environment(0, evaluation=True)
      places.append(environment.reset().observation[19:21])

    # 15 cm apart along x, in decimetres; each start strays by 1 cm at most.
    np.testing.assert_allclose(places[1] - places[0], [1.5, 0.0], atol=0.25)

  def test_several_cubes_are_observed(self):
    domain = ogbench.Cube(size='double')
    environment = domain.make_environment(0, evaluation=True)

    self.assertEqual(environment.reset().observation.shape, (37,))
    self.assertEqual(domain.observation_spec().shape, (37,))
    self.assertIsNone(domain.never_succeeds_value(0.99))

  def test_value_of_never_succeeding_counts_held_steps(self):
    domain = ogbench.Cube(action_repeat=2, reward_scale=0.5)

    self.assertAlmostEqual(domain.never_succeeds_value(0.99), -100.0)


if __name__ == '__main__':
  absltest.main()
