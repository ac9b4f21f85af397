"""Tests of the writers of a run's tables."""

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import gymnasium as gymnasium_domain
from parl_tf.domains import pointmaze
from parl_tf.replay import experience
from parl_tf.replay import memory_experience
from parl_tf.training import experiment  # noqa: F401  # For gin.
from parl_tf.training import run_constants
from parl_tf.training import table_writers
from tests.agents import small_agent


def _episode(observation_size):
  """Returns the episode 7, of two steps."""
  return types.Episode(
      observation=np.zeros([3, observation_size], np.float32),
      action=np.zeros([2, 2], np.float32),
      reward=np.zeros([2], np.float32),
      discount=np.ones([2], np.float32),
      success=np.zeros([2], bool),
      episode_id=7,
  )


class MakeTest(parameterized.TestCase):

  def tearDown(self):
    gin.clear_config()
    super().tearDown()

  def test_copies_follow_each_episode_of_their_table(self):
    gin.parse_config('Hindsight.offline_goals = 2')
    domain = gymnasium_domain.Gymnasium(
        'gymnasium_robotics:FetchReach-v4',
        reward_range=(-1.0, 0.0),
        flatten_observation=True,
    )
    observation = np.zeros([5, 16], np.float32)
    observation[:, 0] = [0, 0, 1, 2, 2]  # metres
    observation[:, 3] = 9.0
    episode = types.Episode(
        observation=observation,
        action=np.zeros([4, 4], np.float32),
        reward=np.full([4], -1.0, np.float32),
        discount=np.ones([4], np.float32),
        success=np.zeros([4], bool),
    )
    agent = small_agent.make_agent()
    tables = memory_experience.MemoryExperience(
        seed=0, reward_scale=1.0, reward_bias=0.0
    )
    writers = table_writers.make(domain, agent, tables)
    for table, writer in writers.items():
      writer.write(table, episode)
    self.assertEqual(tables.num_transitions('online'), 4)
    self.assertEqual(tables.num_transitions('offline'), 12)
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=200
    )
    rows = next(tables.iterate(0, 1, request)).critic
    goals = rows.observation[:, 0, 3].numpy()
    self.assertContainsSubset(set(goals), {9.0, 1.0, 2.0})
    reached = rows.observation[:, 1, 0].numpy() == goals
    np.testing.assert_array_equal(rows.reward[:, 0], np.where(reached, 0, -1))
    self.assertGreater(np.sum(reached), 0)
    returns = rows.policy_info['monte_carlo_return'][:, 0].numpy()
    self.assertLess(np.max(returns[goals == 9.0]), np.min(returns[reached]))

  def test_returns_of_a_gymnasium_task_go_on_past_the_time_limit(self):
    agent = small_agent.make_agent()
    tables = memory_experience.MemoryExperience(
        capacity=2, seed=0, reward_scale=1.0, reward_bias=0.0
    )
    writers = table_writers.make(
        gymnasium_domain.Gymnasium('Pendulum-v1'), agent, tables
    )
    episode = types.Episode(
        observation=np.zeros([3, 3], np.float32),
        action=np.zeros([2, 1], np.float32),
        reward=np.full([2], -1.0, np.float32),
        discount=np.ones([2], np.float32),
        success=np.zeros([2], bool),
    )
    endless = -1.0 / (1.0 - agent.gamma)
    for writer in writers.values():
      steps = writer.stored_steps(episode)
      np.testing.assert_allclose(
          steps.policy_info['monte_carlo_return'][:2], endless, rtol=1e-5
      )

  def test_a_floor_of_extrapolated_returns_is_warned_of(self):
    gin.parse_config(
        'return_floor = True\nTDCritic.return_floor = %return_floor'
    )
    agent = small_agent.make_agent()
    logger = logging.get_absl_logger()
    pendulum = gymnasium_domain.Gymnasium('Pendulum-v1')
    with self.assertLogs(logger, 'WARNING') as logs:
      run_constants.read(pendulum, agent)
    self.assertRegex(logs.output[-1], 'return_floor.*Pendulum')
    with self.assertNoLogs(logger, 'WARNING'):
      run_constants.read(pointmaze.PointMaze(), agent)
      gin.parse_config('return_floor = False')
      run_constants.read(pendulum, agent)

  def test_returns_of_unknown_failures_are_extrapolated(self):
    gin.parse_config('TDCritic.return_floor = True')
    agent = small_agent.make_agent()
    domain = pointmaze.PointMaze()
    domain.never_succeeds_value = lambda gamma: None
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      run_constants.read(domain, agent)
    self.assertRegex(logs.output[-1], 'return_floor.*fails is unknown')
    self.assertTrue(run_constants.read(domain, agent).extrapolates_returns)
    domain.extrapolates_returns = False
    self.assertFalse(run_constants.read(domain, agent).extrapolates_returns)
    domain.extrapolates_returns = True
    with gin.unlock_config():
      gin.bind_parameter('extrapolates_returns.enabled', False)
    self.assertFalse(run_constants.read(domain, agent).extrapolates_returns)
    gin.clear_config()
    agent.critic.gamma = 1.0  # Their sum would be infinite.
    self.assertFalse(run_constants.read(domain, agent).extrapolates_returns)

  def test_processes_of_a_run_share_what_is_copied(self):
    agent = small_agent.make_agent()
    found = run_constants.read(pointmaze.PointMaze(), agent)
    self.assertEqual((found.online_goals, found.max_hindsight_steps), (0, 0))
    gin.parse_config('Hindsight.online_goals = 2\nHindsight.max_steps = 9')
    found = run_constants.read(pointmaze.PointMaze(), agent)
    self.assertEqual((found.online_goals, found.max_hindsight_steps), (2, 9))

  def test_processes_of_a_run_share_the_steps_of_a_row(self):
    agent = small_agent.make_agent()
    domain = pointmaze.PointMaze()
    self.assertEqual(run_constants.read(domain, agent).num_row_steps, 1)
    gin.parse_config('n_step_returns.online_steps = 3')
    self.assertEqual(run_constants.read(domain, agent).num_row_steps, 3)

  @parameterized.parameters(
      (True, 'n_step_returns.online_steps = 3', 'online_steps` must be 1.* 3'),
      (True, 'run_experiment.timeouts_fail_online = True', 'terminals_from_re'),
      (
          False,
          'run_experiment.never_succeeds_online = False\n'
          'run_experiment.timeouts_fail_online = True',
          'timeouts_fail_online` must be False without .*never_succeeds_online',
      ),
      (
          False,
          'run_experiment.never_succeeds_online = False\n'
          'TDCritic.return_floor = True',
          'return_floor` must be False without .*never_succeeds_online',
      ),
  )
  def test_settings_that_contradict_each_other(self, has_rule, text, message):
    gin.clear_config()
    agent = small_agent.make_agent(
        critic_kwargs=dict(terminals_from_reward=has_rule)
    )
    domain = pointmaze.PointMaze()
    run_constants.read(domain, agent)
    gin.parse_config(text)
    with self.assertRaisesRegex(ValueError, message):
      run_constants.read(domain, agent)

  def test_time_outs_fail_online_alone(self):
    with gin.unlock_config():
      gin.bind_parameter('run_experiment.timeouts_fail_online', True)
    agent = small_agent.make_agent()
    tables = memory_experience.MemoryExperience(
        capacity=2, seed=0, reward_scale=1.0, reward_bias=0.0
    )
    writers = table_writers.make(pointmaze.PointMaze(), agent, tables)
    episode = _episode(observation_size=4)
    np.testing.assert_array_equal(
        writers['online'].stored_steps(episode).discount, [1.0, 0.0, 1.0]
    )
    np.testing.assert_array_equal(
        writers['offline'].stored_steps(episode).discount, [1.0, 1.0, 1.0]
    )
    with self.assertRaisesRegex(ValueError, 'timeouts_fail_online.*Pendulum'):
      table_writers.make(
          gymnasium_domain.Gymnasium('Pendulum-v1'), agent, tables
      )

  def test_steps_of_another_shape_are_refused_before_they_are_logged(self):
    agent = small_agent.make_agent()
    tables = memory_experience.MemoryExperience(
        capacity=2, seed=0, reward_scale=1.0, reward_bias=0.0
    )
    writers = table_writers.make(pointmaze.PointMaze(), agent, tables)
    episode = _episode(observation_size=5)
    with self.assertRaisesRegex(
        ValueError, r'episode 7: field `observation` must be .*\[4\].*got.*5\]'
    ):
      writers['online'].check('online', episode)
    fitting = episode._replace(observation=np.zeros([3, 4], np.float32))
    writers['online'].check('online', fitting)


if __name__ == '__main__':
  absltest.main()
