"""Tests of agents made without gin files."""

import inspect
import json
import typing

from absl.testing import absltest
from dm_env import specs
import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

import parl_tf
from parl_tf import agent_maker
from parl_tf.critics import iql
from parl_tf.critics import td
from parl_tf.domains import pointmaze
from parl_tf.policies import gaussian
from tests import absent_libraries
from tests.training import small_run

_FOLDER = absent_libraries.ROOT / 'examples' / 'from_python'


def _code(name):
  """Returns the code of a notebook."""
  with open(_FOLDER / name, encoding='utf-8') as file:
    cells = json.load(file)['cells']
  return [
      ''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code'
  ]


class AnnotationsTest(absltest.TestCase):

  def test_public_functions_are_annotated_completely(self):
    functions = [
        function
        for name, function in inspect.getmembers(agent_maker)
        if inspect.isfunction(function) and not name.startswith('_')
    ]

    self.assertIn(parl_tf.make_agent, functions)
    for function in functions:
      names = {*inspect.signature(function).parameters, 'return'}
      hints = typing.get_type_hints(function)
      self.assertEqual(hints.keys(), names, function.__name__)


class AgentMakerTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._domain = pointmaze.PointMaze(size='UMaze')

  def test_parts_and_settings_are_chosen_by_name(self):
    gin.bind_parameter('PointMaze.size', 'Medium')
    agent = parl_tf.make_agent(
        self._domain,
        critic='iql',
        policy='gaussian',
        settings={'build_agent.chunk_length': 3},
    )
    self.assertEqual(type(agent.critic).__name__, 'IQLCritic')
    self.assertEqual(agent.chunk_length, 3)
    policy = agent.base_policy
    step = policy.action(
        ts.restart(tf.zeros([2, 4]), 2), policy.get_initial_state(2)
    )
    self.assertEqual(step.action.shape, [2, 2])
    self.assertTrue(np.all(np.isfinite(step.action)))
    # The user's own configuration is kept.
    self.assertEqual(gin.query_parameter('PointMaze.size'), 'Medium')
    with self.assertRaises(ValueError):
      gin.query_parameter('Search.num_samples')

  def test_parts_may_be_classes(self):
    class Critic(iql.IQLCritic):
      """A critic of this module, which is checked."""

    class Policy(gaussian.GaussianPolicy):
      """Samples outside of the actions' range."""

      def sample(self, *args, **kwargs):
        return 2.0 + super().sample(*args, **kwargs)

    agent = parl_tf.make_agent(
        self._domain, critic=Critic, policy=gaussian.GaussianPolicy
    )
    self.assertIsInstance(agent.critic, Critic)
    self.assertIsInstance(agent.generative_policy, gaussian.GaussianPolicy)
    agent = parl_tf.make_agent(self._domain, critic=td.TDCritic)
    named = parl_tf.make_agent(self._domain, critic='td')
    self.assertEqual(agent.critic_utd, named.critic_utd)
    with self.assertRaisesRegex(TypeError, 'of GenerativePolicy, got .* IQLCr'):
      parl_tf.make_agent(self._domain, policy=iql.IQLCritic)
    with self.assertRaisesRegex(ValueError, r'Policy.sample .*\[-1, 1\]'):
      parl_tf.make_agent(self._domain, critic='iql', policy=Policy)

  def test_a_domain_of_another_kind_is_refused(self):
    with self.assertRaisesRegex(TypeError, '`domain` must be .* got a str'):
      parl_tf.make_agent('Pendulum-v1')

  def test_actions_of_other_bounds_are_refused(self):
    wrong = specs.BoundedArray((2,), np.float32, -2.0, 2.0)
    self._domain.action_spec = lambda: wrong
    with self.assertRaisesRegex(
        ValueError, r'PointMaze\.action_spec` must .* from -1 to 1, got Bounded'
    ):
      parl_tf.make_agent(self._domain)

  def test_settings_of_other_parts_are_refused(self):
    for name in (
        'Online.num_episodes',
        'n_step_returns.online_steps',
        'trainin/Search.num_samples',  # A misspelt scope.
        'policy_offline_fraction',
    ):
      with self.assertRaisesRegex(ValueError, f'{name} is no setting of this'):
        parl_tf.make_agent(self._domain, policy='gaussian', settings={name: 5})

  def test_a_macro_that_the_critic_does_not_read_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'target_noise is no setting of th'):
      parl_tf.make_agent(
          self._domain,
          critic='iql',
          policy='gaussian',
          settings={'target_noise': 0.1},
      )

  def test_settings_that_scoped_bindings_override_are_refused(self):
    name = 'Adam.learning_rate'
    with self.assertRaisesRegex(
        ValueError, f'{name} has no effect, because critic/{name} and policy/'
    ):
      parl_tf.make_agent(
          self._domain, policy='gaussian', settings={name: 1e-4}
      )
    name = 'Search.num_samples'
    settings = {name: 8, f'acting/{name}': 5}
    with self.assertLogs(level='WARNING') as logs:
      agent = parl_tf.make_agent(
          self._domain, policy='gaussian', settings=settings
      )
    self.assertIn(f'{name} does not change acting/{name}.', logs.output[0])
    self.assertEqual(agent.searches.training.num_samples, 8)

  def test_the_configuration_of_the_caller_stays(self):
    def own(spec):
      del spec

    gin.bind_parameter('Critic.distribution_ctor', own)
    gin.finalize()
    parl_tf.make_agent(self._domain, policy='gaussian')
    self.assertTrue(gin.config_is_locked())
    self.assertIs(gin.query_parameter('Critic.distribution_ctor'), own)

  def test_macros_are_settings(self):
    agent = parl_tf.make_agent(
        self._domain, policy='gaussian', settings={'target_policy_rate': 0.0}
    )
    self.assertIn('target_policy', agent.checkpoint_items)

  def test_a_critic_starts_at_the_value_of_the_episodes(self):
    options = dict(
        critic='td',
        policy='gaussian',
        settings={'Critic.initial_value': 'data'},
    )
    with self.assertRaisesRegex(ValueError, '`episodes` must be given'):
      parl_tf.make_agent(self._domain, **options)

    # A scaled reward of 1/4 - 1 in each step for ever.
    path = self.create_tempfile().full_path
    episodes = [
        x._replace(
            reward=np.full_like(x.reward, 0.25),
            discount=np.ones_like(x.discount),
        )
        for x in small_run.make_episodes(path)
    ]
    agent = parl_tf.make_agent(self._domain, episodes=episodes, **options)
    values = agent.critic.bind(tf.zeros([1, 4]))(tf.zeros([1, 1, 2]))
    self.assertAlmostEqual(float(values[0, 0]), -75.0, delta=1.0)

  def test_unknown_names_are_refused(self):
    with self.assertRaisesRegex(ValueError, "`critic` must be one of.*'sarsa'"):
      parl_tf.make_agent(self._domain, critic='sarsa')
    with self.assertRaisesRegex(ValueError, 'Search'):
      parl_tf.make_agent(self._domain, settings={'Search.samples': 3})
    with self.assertRaisesRegex(ValueError, 'target_polcy_rate'):
      parl_tf.make_agent(self._domain, settings={'target_polcy_rate': 0.0})

  def test_notebook_has_the_code_of_the_program(self):
    program = (_FOLDER / 'train.py').read_text(encoding='utf-8')
    for cell in _code('train.ipynb'):
      self.assertIn(cell.strip(), program)

  def test_training_loop_is_short(self):
    program = (_FOLDER / 'train.py').read_text(encoding='utf-8')
    loop = program[program.index('# The training'):program.index('evaluator')]
    lines = [line for line in loop.splitlines() if line.strip()]
    self.assertLessEqual(len(lines), 30)

  @pytest.mark.full
  def test_notebook_trains(self):
    folder = self.create_tempdir().full_path
    program = '\n'.join(
        ['import os', f'os.chdir({folder!r})', *_code('train.ipynb')]
    )
    recorded = absent_libraries.run(
        (), '-m', 'parl_tf.binaries.data', 'generate', 'pointmaze',
        f'--output={folder}/maze.hdf5', '--num_steps=30000',
    )
    self.assertEqual(recorded.returncode, 0, recorded.stderr)
    done = absent_libraries.run((), '-c', program)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertRegex(done.stdout, r'greedy_policy: success [01]\.\d\d')


if __name__ == '__main__':
  absltest.main()
