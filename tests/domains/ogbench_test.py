"""Tests of the OGBench manipulation tasks."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import ogbench
from parl_tf.domains import ogbench_oracles
from tests.domains import controller_episode
from tests.domains import domain_conformance


class CubeConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench.Cube(max_episode_steps=6)


class SceneConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench.Scene(max_episode_steps=6)


class PuzzleConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench.Puzzle(max_episode_steps=6)


class _IdleController(ogbench_oracles.MoveController):
  """Has no useful move."""

  def _moves(self, scene):
    return []

  def _make(self, scene, move, is_wanted):
    raise AssertionError('There is no move to make.')


class MoveControllerTest(absltest.TestCase):

  def test_it_rests_if_nothing_is_to_be_done_from_the_start(self):
    controller = _IdleController(min_norm=0.1)
    controller.reset(0)
    scene = mock.Mock()

    np.testing.assert_array_equal(controller.action(None, scene), np.zeros(5))


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
      rewards = controller_episode.solve(self, domain, environment, controller)

      # -1 per step of 0.05 s until the cube is in place.
      self.assertEqual(set(rewards[:-1]), {-2.0})
      self.assertGreater(rewards[-1], -2.0)
      self.assertBetween(len(rewards), 10, 60)

  def test_a_displaced_cube_is_fetched_again(self):
    domain = ogbench.Cube(action_repeat=2, oracle_min_norm=0.1)
    environment = domain.make_environment(0, evaluation=True)
    controller = domain.make_controller(environment)
    time_step = environment.reset()
    for _ in range(12):
      time_step = environment.step(controller.action(time_step, environment))
    for _ in range(6):  # Release and move up.
      time_step = environment.step(
          np.array([0.0, 0.0, 1.0, 0.0, -1.0], np.float32)
      )
    while not time_step.last():
      time_step = environment.step(controller.action(time_step, environment))

    self.assertTrue(environment.is_success())

  def test_slow_data_has_small_moves_and_full_grasps(self):
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

  def test_tasks_have_different_starts_and_goals(self):
    places = []
    for task in (2, 3):
      domain = ogbench.Cube(task=task)
      environment = domain.make_environment(0, evaluation=True)
      places.append(environment.reset().observation[19:21])

    # 15 cm apart along x, in decimetres; each start varies by at most 1 cm.
    np.testing.assert_allclose(places[1] - places[0], [1.5, 0.0], atol=0.25)

  def test_several_cubes_are_observed(self):
    domain = ogbench.Cube(size='double')
    environment = domain.make_environment(0, evaluation=True)

    self.assertEqual(environment.reset().observation.shape, (37,))
    self.assertEqual(domain.observation_spec().shape, (37,))
    self.assertIsNone(domain.never_succeeds_value(0.99))

  def test_value_of_never_succeeding_includes_repeated_steps(self):
    domain = ogbench.Cube(action_repeat=2, reward_scale=0.5)

    self.assertAlmostEqual(domain.never_succeeds_value(0.99), -100.0)

  @parameterized.parameters(
      # -2 cubes * 3 repeated steps / (1 - 0.99).
      (ogbench.Cube(size='double', action_repeat=3), -600.0),
      (ogbench.Cube(action_repeat=2, reward_scale=0.5), -100.0),
      (ogbench.Scene(), -500.0),
      (ogbench.Puzzle(size='3x3'), -900.0),
      (ogbench.Puzzle(size='4x6'), -2_400.0),
  )
  def test_lowest_return_is_that_of_solving_nothing(self, task, lowest):
    self.assertSequenceAlmostEqual(task.value_range(0.99), (lowest, 0.0))


class SceneTest(parameterized.TestCase):

  # Initially wrong: drawer and window; the same; cube, button, drawer and
  # window; cube and button; cube and window.
  @parameterized.parameters((1, -2), (2, -2), (3, -4), (4, -2), (5, -2))
  def test_the_oracle_solves_each_task(self, task, first_reward):
    domain = ogbench.Scene(task=task)
    environment = domain.make_environment(0, evaluation=True)
    rewards = controller_episode.solve(self, domain, environment)

    self.assertEqual(rewards[0], first_reward)
    # The reward of the state before the last action.
    self.assertEqual(rewards[-1], 0.0)
    self.assertLess(max(rewards[:-1]), 0.0)

  def test_environments_do_not_share_locks(self):
    domain = ogbench.Scene()

    def play(meanwhile):
      environment = domain.make_environment(0, evaluation=True)
      controller = domain.make_controller(environment)
      time_step = environment.reset()
      observations = []
      # Unlocks the drawer, then closes it.
      for _ in range(45):
        action = controller.action(time_step, environment)
        time_step = environment.step(action)
        observations.append(time_step.observation)
        meanwhile()
      return observations

    expected = play(lambda: None)
    other = domain.make_environment(1, evaluation=True)
    other.reset()  # Locks its own drawer.
    seen = play(lambda: other.step(np.zeros([5], np.float32)))

    np.testing.assert_array_equal(seen, expected)

  def test_environments_are_drawn_in_their_own_colors(self):
    domain = ogbench.Scene(task=3)
    first, second = (
        domain.make_environment(seed, evaluation=True) for seed in (0, 1)
    )
    first.reset()
    model = first.gymnasium_environment.model
    wanted = model.geom_rgba.copy(), model.mat_rgba.copy()
    second.reset()
    # As if a button of the other one were pressed.
    second.gymnasium_environment._cur_button_states[:] = [0, 1]
    second.step(np.zeros([5], np.float32))
    self.assertFalse(np.array_equal(model.geom_rgba, wanted[0]))

    with mock.patch.object(gymnasium_adapter.GymnasiumEnvironment, 'render'):
      first.render()

    np.testing.assert_array_equal(model.geom_rgba, wanted[0])
    np.testing.assert_array_equal(model.mat_rgba, wanted[1])

  def test_info_contains_the_button_states(self):
    environment = ogbench.Scene(task=3).make_environment(0, evaluation=True)
    environment.reset()

    np.testing.assert_array_equal(environment.info()['button_states'], [1, 0])

  def test_value_of_never_succeeding_is_unknown(self):
    self.assertIsNone(ogbench.Scene().never_succeeds_value(0.99))


class PuzzleTest(parameterized.TestCase):

  # Five and eight buttons are wrong.
  @parameterized.parameters(('3x3', 4, -5), ('4x4', 4, -8))
  def test_the_oracle_solves_the_puzzle(self, size, task, first_reward):
    domain = ogbench.Puzzle(size=size, task=task)
    environment = domain.make_environment(0, evaluation=True)
    rewards = controller_episode.solve(self, domain, environment)

    self.assertEqual(rewards[0], first_reward)
    self.assertEqual(rewards[-1], 0.0)

  def test_a_button_that_toggled_twice_is_pressed_again(self):
    domain = ogbench.Puzzle(task=1)
    environment = domain.make_environment(0, evaluation=True)
    controller = domain.make_controller(environment)
    time_step = environment.reset()
    states = environment.gymnasium_environment._cur_button_states
    before = states.copy()
    while np.array_equal(states, before):
      time_step = environment.step(controller.action(time_step, environment))
    states[:] = before  # As if it had toggled again while held down.
    while not time_step.last():
      time_step = environment.step(controller.action(time_step, environment))

    self.assertTrue(environment.is_success())

  @parameterized.parameters(
      # One press of the middle button.
      (('010', '111', '010'), (4,)),
      # Corners and middle: each button toggles once or three times.
      (('111', '111', '111'), (0, 2, 4, 6, 8)),
      (('000', '000', '000'), ()),
      # The corners of 2 x 3 buttons: each press toggles the button, the middle
      # of its row and the other corner of its column.
      (('110', '100'), (0,)),
  )
  def test_fewest_presses(self, rows, presses):
    wrong = tuple(tuple(x == '1' for x in row) for row in rows)

    self.assertEqual(ogbench_oracles.fewest_presses(wrong), presses)

  def test_an_unsolvable_position_is_an_error(self):
    # Two buttons in a row always toggle together.
    with self.assertRaisesRegex(ValueError, '`wrong`.*True, False'):
      ogbench_oracles.fewest_presses(((True, False),))

  def test_the_argument_out_of_range_is_named(self):
    with self.assertRaisesRegex(ValueError, '`size` must be .*3x3.*5x5'):
      ogbench.Puzzle(size='5x5')


if __name__ == '__main__':
  absltest.main()
