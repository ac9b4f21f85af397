"""Tests of a whole run with a non-default policy, critic and experience."""

import functools
import json
import os
import pathlib
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import pytest

from parl_tf import types
from parl_tf.binaries import configs
from parl_tf.domains import gymnasium as gymnasium_domain
from parl_tf.domains import pointmaze
from parl_tf.replay import memory_experience
from parl_tf.training import experiment
from parl_tf.training import phases
from parl_tf.training import run_constants
from parl_tf.training import run_policies
from parl_tf.training import run_summary
from parl_tf.training import sources
from parl_tf.training import table_writers
from tests.agents import small_agent
from tests.binaries import tiny

_BINDINGS = (
    'import parl_tf.replay.reverb_experience',
    'run_experiment.experience_ctor = @ReverbExperience',
    'run_experiment.num_recorded_steps = 200',
    'run_experiment.num_evaluation_episodes = 2',
    'BehaviorCloning.num_steps = 2',
    'BehaviorCloning.min_steps = 0',
    'Offline.num_steps = 2',
    'Online.num_episodes = 1',
    *tiny.CHEAP_PARTS,
    # The critic's loss has one trace for both phases.
    'Offline.batch_size = 8',
    'Online.critic_batch_size = 8',
    # Searches without an ascent, and an export without a search.
    'ActionOptimizer.num_gradient_steps = 0',
    "run_experiment.exported_policies = ('base_policy',)",
)


class _Environments:
  """Counts the environments of the point maze."""

  def __init__(self):
    self._make = pointmaze.PointMaze.make_environment
    self.num_made = self.num_open = 0

  @property
  def make(self):
    def make_environment(domain, *args, **kwargs):
      environment = self._make(domain, *args, **kwargs)
      self.num_made += 1
      self.num_open += 1
      environment.close = self._close
      return environment

    return make_environment

  def _close(self):
    self.num_open -= 1


class ExperimentTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  @pytest.mark.reverb
  def test_rows_may_come_from_a_replay_server(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse([tiny.GIN_FILE], [*tiny.BINDINGS, *_BINDINGS])
    best = run_summary.BestEvaluation(2, 4, 1.0, 1.0, 2, -1.0)
    environments = _Environments()
    with (
        mock.patch.object(run_policies, 'export_best', return_value=best),
        mock.patch.object(
            pointmaze.PointMaze, 'make_environment', environments.make
        ),
    ):
      summary = experiment.run_experiment(root_dir, 0)
    self.assertEqual(summary.best, best)
    # Of two evaluation episodes, and of collection.
    self.assertEqual(environments.num_made, 3)
    self.assertEqual(environments.num_open, 0)
    rows = tiny.read_metrics(root_dir)
    self.assertEqual(
        [row['phase'] for row in rows],
        ['behavior_cloning'] * 2 + ['offline'] + ['online'] * 2,
    )
    self.assertTrue(all(row['losses/td'] for row in (rows[2], rows[4])))
    self.assertEqual(
        summary.phases['online'].train_steps, int(rows[4]['collect/length'])
    )
    with open(os.path.join(root_dir, 'summary.json')) as file:
      self.assertEqual(
          json.load(file)['phases']['online'],
          summary.phases['online']._asdict(),
      )
    self.assertLen(summary.policies, 1)


  def test_a_robot_that_cannot_be_used_ends_a_run_before_its_phases(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse([tiny.GIN_FILE], tiny.BINDINGS)
    with mock.patch.object(
        sources.LocalSource, 'check_domain', side_effect=ValueError('in use')
    ):
      with self.assertRaisesRegex(ValueError, 'in use'):
        experiment.run_experiment(root_dir, 0)
    self.assertFalse(os.path.exists(os.path.join(root_dir, 'checkpoints')))


class ArgumentsTest(absltest.TestCase):

  def test_settings_must_be_bound(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config('run_experiment.held_out_fraction = 0.1')
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    for name, value in (
        ('timeouts_fail_online', True),
        ('held_out_fraction', 0.05),
        ('phase_names', ('offline',)),
        ('dataset_path', pathlib.Path('data.hdf5')),
        ('online_ctor', functools.partial(phases.Online, num_episodes=3)),
    ):
      with self.assertRaisesRegex(
          ValueError, f'run_experiment.{name}` must be bound in gin'
      ):
        experiment.run_experiment(root_dir, 0, **{name: value})
    self.assertFalse(os.path.exists(root_dir))


class MakeWritersTest(parameterized.TestCase):

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
    self.addCleanup(gin.clear_config)
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
    self.addCleanup(gin.clear_config)
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
    agent.critic.gamma = 1.0  # Their sum would be infinite.
    self.assertFalse(run_constants.read(domain, agent).extrapolates_returns)

  def test_processes_of_a_run_share_the_steps_of_a_row(self):
    self.addCleanup(gin.clear_config)
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
    self.addCleanup(gin.clear_config)
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
    self.addCleanup(gin.clear_config)
    agent = small_agent.make_agent()
    tables = memory_experience.MemoryExperience(
        capacity=2, seed=0, reward_scale=1.0, reward_bias=0.0
    )
    writers = table_writers.make(pointmaze.PointMaze(), agent, tables)
    episode = types.Episode(
        observation=np.zeros([3, 4], np.float32),
        action=np.zeros([2, 2], np.float32),
        reward=np.zeros([2], np.float32),
        discount=np.ones([2], np.float32),
        success=np.zeros([2], bool),
    )
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


if __name__ == '__main__':
  absltest.main()
