"""Tests of the CALVIN domain against a served environment with its layout.

CALVIN's own environment needs another Python; `examples/calvin/check.py` and
`benchmarks/calvin.py` test it.
"""

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from parl_tf import types
from parl_tf.binaries import configs
from parl_tf.domains import calvin
from parl_tf.domains import calvin_script
from parl_tf.domains import domain as domain_lib
from tests.domains import domain_conformance
from tests.domains import example_server

_STATES = ('robot', 'scene')


def setUpModule():
  global _server
  _server = example_server.ExampleServer('Calvin-v0', 'calvin_table')


def tearDownModule():
  _server.kill()


class CalvinConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return calvin.Calvin(_server.address, max_episode_steps=6)


class CalvinTest(parameterized.TestCase):

  def _play(self, actions):
    """Returns the domain, the environment and the last step of an episode.

    Args:
      actions: Rows of four numbers, each of which toggles a sub-task.
    """
    domain = calvin.Calvin(_server.address, observations=_STATES)
    environment = domain.make_environment(0, evaluation=True)
    self.addCleanup(environment.close)
    environment.reset()
    rewards = []
    for row in actions:
      action = np.array([*row, 0, 0, 0], np.float32)
      time_step = environment.step(action)
      rewards.append(float(time_step.reward))
    return domain, environment, time_step, rewards

  @parameterized.parameters(
      (('robot',),), (('robot', 'scene'),), (('gripper', 'robot', 'static'),)
  )
  def test_observations_have_the_requested_parts(self, names):
    shapes = {
        'robot': ((15,), np.float32),
        'scene': ((24,), np.float32),
        'static': ((100, 100, 3), np.uint8),
        'gripper': ((100, 100, 3), np.uint8),
    }

    spec = calvin.Calvin(_server.address, observations=names).observation_spec()

    self.assertEqual(
        {name: (part.shape, part.dtype) for name, part in spec.items()},
        {name: shapes[name] for name in names},
    )

  def test_reward_counts_the_sub_tasks_currently_solved(self):
    *_, time_step, rewards = self._play(
        [(1, 0, 0, 0), (0, 1, 1, 0), (-1, 0, 0, 0), (0, 0, -1, 1)]
    )

    self.assertEqual(rewards, [1, 3, 2, 2])
    self.assertFalse(time_step.last())

  def test_score_counts_the_most_sub_tasks_solved_at_once(self):
    domain, *_, rewards = self._play(
        [(1, 0, 0, 0), (0, 1, 1, 0), (-1, 0, 0, 0), (0, 0, -1, 1)]
    )

    # In one episode all four were solved, three at once; in the other none.
    self.assertAlmostEqual(domain.score([_episode(rewards)]), 75.0)
    self.assertAlmostEqual(
        domain.score([_episode(rewards), _episode([0, 0])]), 37.5
    )

  def test_episode_ends_when_all_four_are_solved(self):
    domain, environment, time_step, rewards = self._play(
        [(1, 1, 1, 0), (0, 0, 0, 1)]
    )

    self.assertTrue(time_step.last())
    self.assertEqual((rewards, time_step.discount), ([3, 4], 0))
    self.assertTrue(environment.is_success())
    self.assertEqual(domain.score([_episode(rewards)]), 100.0)

  def test_a_task_may_have_fewer_sub_tasks_and_smaller_images(self):
    domain = calvin.Calvin(
        _server.address,
        observations=('robot', 'static'),
        sub_tasks=('turn_on_led', 'move_slider_left'),
        image_size=64,
        reward_bias=-2.0,
    )
    self.assertEqual(domain.observation_spec()['static'].shape, (64, 64, 3))
    self.assertSequenceAlmostEqual(domain.value_range(0.99), (-200.0, 0.0))
    self.assertEqual(domain.score([_episode([0, 1, 1])]), 50.0)
    environment = domain.make_environment(0, evaluation=True)
    self.addCleanup(environment.close)
    environment.reset()
    steps = [
        environment.step(np.array([*row, 0, 0, 0], np.float32))
        for row in ((1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    ]
    self.assertEqual([float(x.reward) for x in steps], [0, 1, 2])
    self.assertEqual([x.last() for x in steps], [False, False, True])

  @parameterized.parameters(1, 2)
  def test_the_script_moves_from_place_to_place(self, action_repeat):
    domain = calvin.Calvin(
        _server.address,
        observations=('robot',),
        sub_tasks=('turn_on_led', 'move_slider_left'),
        action_repeat=action_repeat,
    )
    environment = domain.make_environment(0, evaluation=True)
    self.addCleanup(environment.close)

    def places(controller, seed):
      controller.reset(seed)
      time_step, found = environment.reset(), []
      for _ in range(120 // action_repeat):
        time_step = environment.step(controller.action(time_step, environment))
        if time_step.last():  # The table's toggles stand for no sub-task here.
          break
        found.append(time_step.observation['robot'][:3])
      return np.array(found)

    controller = domain.make_controller(environment)
    found = places(controller, 0)
    for name in calvin_script.SUB_TASKS:
      for place in calvin_script.WAYPOINTS[name]:
        distance = np.linalg.norm(found - np.array(place), axis=1).min()
        self.assertLess(distance, 0.03, (name, place))
    play = domain.make_data_controller(environment)
    np.testing.assert_array_equal(places(play, 1), places(play, 1))
    self.assertFalse(np.array_equal(places(play, 1), places(play, 2)))

  def test_there_is_no_script_without_its_sub_tasks_or_the_robot(self):
    for settings in (
        {'observations': ('robot',)},
        {'observations': ('scene',), 'sub_tasks': ('turn_on_led',)},
    ):
      domain = calvin.Calvin(_server.address, **settings)
      environment = domain.make_environment(0, evaluation=False)
      self.addCleanup(environment.close)
      self.assertIsNone(domain.make_controller(environment))

  def test_episode_times_out_after_360_steps(self):
    _, environment, time_step, rewards = self._play([(0, 0, 0, 0)] * 360)

    self.assertTrue(time_step.last())
    self.assertEqual((len(rewards), time_step.discount), (360, 1))
    self.assertFalse(environment.is_success())

  def test_the_gin_file_has_the_constants_of_the_paper(self):
    self.addCleanup(gin.clear_config)
    configs.parse(
        ['domains/calvin.gin'], [f"Calvin.address = '{_server.address}'"]
    )

    domain = domain_lib.select_domain()

    self.assertEqual((domain.reward_scale, domain.reward_bias), (1, -4))
    self.assertEqual(domain.max_episode_steps, 360)
    self.assertSameElements(domain.observation_spec(), _STATES)

  def test_score_without_episodes_is_an_error(self):
    domain = calvin.Calvin(_server.address, observations=_STATES)
    with self.assertRaisesRegex(ValueError, '`episodes`'):
      domain.score([])

  def test_value_of_never_succeeding_is_unknown(self):
    domain = calvin.Calvin(_server.address, observations=_STATES)
    self.assertIsNone(domain.never_succeeds_value(0.99))
    # -4 / (1 - 0.99); -4 + 4.
    self.assertSequenceAlmostEqual(domain.value_range(0.99), (-400.0, 0.0))

  @parameterized.parameters(
      ('observations', ('robot', 'depth'), "one of.*got 'depth'"),
      ('observations', (), 'not be empty'),
      ('max_episode_steps', 0, r'in \[1, inf\]'),
      ('reward_scale', 0.0, 'positive'),
  )
  def test_an_argument_out_of_range_is_named(self, name, value, wanted):
    with self.assertRaisesRegex(ValueError, f'`{name}` must .*{wanted}'):
      calvin.Calvin(_server.address, **{name: value})


def _episode(rewards):
  steps = len(rewards)
  return types.Episode(
      observation={'robot': np.zeros([steps + 1, 15], np.float32)},
      action=np.zeros([steps, 7], np.float32),
      reward=np.array(rewards, np.float32),
      discount=np.ones(steps, np.float32),
      success=np.zeros(steps, np.bool_),
  )


if __name__ == '__main__':
  absltest.main()
