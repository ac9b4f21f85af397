"""Tests of building the agent that gin configures."""

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import cal_ql
from parl_tf.critics import iql
from parl_tf.critics import td
from parl_tf.policies import diffusion
from parl_tf.policies import gaussian
from parl_tf.training import builder
from tests import eager
from tests import tensor_case
from tests.training import line_walk

_CONFIG = """
import parl_tf.search.action_optimizer
import parl_tf.improvers.distillation
import parl_tf.training.schedules

build_agent.critic_ctor = @CalQLCritic
build_agent.policy_ctor = @DiffusionPolicy
build_agent.improver_ctor = @DistillationImprover
build_agent.critic_optimizer_ctor = @critic/Adam
build_agent.policy_optimizer_ctor = @policy/Adam
build_agent.pretrain_optimizer_ctor = @pretrain/Adam
critic/Adam.learning_rate = 1e-3
policy/Adam.learning_rate = @WarmUpCosineDecay()
pretrain/Adam.learning_rate = 3e-4
WarmUpCosineDecay.learning_rate = 2e-3
WarmUpCosineDecay.num_warm_up_steps = 2

Search.num_samples = 8
Search.optimizer = @ActionOptimizer()
ActionOptimizer.num_candidates = 2
ActionOptimizer.num_gradient_steps = 1

CriticEnsemble.num_members = 2
CriticEnsemble.hidden_sizes = (16,)
DenoisingNetwork.hidden_size = 16
DenoisingNetwork.num_blocks = 1
GaussianPolicy.hidden_sizes = (16,)
"""


class BuildAgentTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  def _build(self, *bindings, domain=None, seed=0):
    gin.clear_config()
    gin.parse_config('\n'.join([_CONFIG, *bindings]))
    return builder.build_agent(
        domain or line_walk.LineWalk(), None, seed, tf.Variable(0, tf.int64)
    )

  def test_a_critic_that_is_none_or_has_no_networks_raises(self):
    for own, message in (
        (type('Own', (), {'__init__': lambda self, spec: None}),
         'critic_ctor` must make a `Critic`.*critic.Critic`, got a Own'),
        (type('Own', (td.TDCritic,), {'__init__': lambda self, spec: None}),
         r'`Own.__init__` must call `super\(\).__init__\(spec, ...\)`'),
    ):
      gin.clear_config()
      gin.parse_config(_CONFIG)
      gin.bind_parameter('build_agent.critic_ctor', own)
      with self.assertRaisesRegex(TypeError, message):
        builder.build_agent(
            line_walk.LineWalk(), None, 0, tf.Variable(0, tf.int64)
        )

  def test_the_operative_configuration_has_the_optimizers_defaults(self):
    self._build()
    self.assertIn('critic/Adam.beta_1 = 0.9', gin.operative_config_str())

  def test_a_policy_that_is_none_raises(self):
    gin.clear_config()
    gin.parse_config(_CONFIG)
    gin.bind_parameter('build_agent.policy_ctor', lambda spec: None)
    with self.assertRaisesRegex(
        TypeError, 'policy_ctor` must make a `GenerativePolicy`.*a NoneType'
    ):
      builder.build_agent(
          line_walk.LineWalk(), None, 0, tf.Variable(0, tf.int64)
      )

  @parameterized.product(
      critic_ctor=[cal_ql.CalQLCritic, iql.IQLCritic],
      policy_ctor=[diffusion.DiffusionPolicy, gaussian.GaussianPolicy],
  )
  def test_one_line_changes_the_critic_or_the_policy(
      self, critic_ctor, policy_ctor
  ):
    eager.run_eagerly(self)
    agent = self._build(
        f'build_agent.critic_ctor = @{critic_ctor.__name__}',
        f'build_agent.policy_ctor = @{policy_ctor.__name__}',
    )

    self.assertIsInstance(agent.critic, critic_ctor)
    self.assertIsInstance(agent.generative_policy, policy_ctor)
    self.assertEqual(agent.critic.num_members, 2)
    action = agent.greedy_policy.act(tf.zeros([3, 2]), tf.constant([3, 5]))
    self.assertAllEqual(action.shape, [3, 1])

  def test_dictionary_observations_are_concatenated(self):
    eager.run_eagerly(self)
    agent = self._build(domain=line_walk.LineWalk(is_dict=True))
    observation = {'place': tf.zeros([3, 1]), 'time': tf.ones([3, 1])}

    self.assertEqual(
        tf.nest.map_structure(
            lambda spec: spec.name, agent.time_step_spec.observation
        ),
        {'place': 'place', 'time': 'time'},
    )
    action = agent.greedy_policy.act(observation, tf.constant([3, 5]))
    self.assertAllEqual(action.shape, [3, 1])

  def test_each_search_has_its_own_numbers(self):
    agent = self._build(
        'acting/Search.num_samples = 6',
        'evaluation/Search.num_samples = 4',
        "evaluation/Search.selection = 'sample'",
        'acting/ActionOptimizer.num_candidates = 3',
    )
    searches = agent.searches

    self.assertEqual([search.num_samples for search in searches], [8, 6, 4])
    self.assertEqual(
        [search.optimizer.num_candidates for search in searches], [2, 3, 2]
    )
    self.assertEqual(
        [search.is_greedy for search in searches], [True, True, False]
    )

  def test_equal_searches_are_one(self):
    training, acting, evaluation = self._build(
        'acting/ActionOptimizer.num_candidates = 3',
    ).searches

    self.assertIs(training, evaluation)
    self.assertIsNot(training, acting)

  def test_no_binding_gives_the_base_policy_a_search(self):
    agent = self._build()

    self.assertLess(
        len(agent.base_policy.variables()), len(agent.policy.variables())
    )

  def test_the_initial_policy_makes_targets_if_bound(self):
    current = self._build().checkpoint_items
    agent = self._build("build_agent.target_policy_rate = 0.0")
    target = agent.checkpoint_items['target_policy']

    self.assertNotIn('target_policy', current)
    self.assertIsNot(target.policy, agent.generative_policy)
    for frozen, variable in zip(
        target.policy.variables,
        agent.generative_policy.variables,
        strict=True,
    ):
      self.assertAllEqual(frozen, variable)

  def test_the_sampling_policy_needs_an_improver(self):
    binding = 'build_agent.sampling_policy_rate = 0.0'
    without = self._build(binding, 'build_agent.improver_ctor = None')

    self.assertIn('sampling_policy', self._build(binding).checkpoint_items)
    self.assertNotIn('sampling_policy', without.checkpoint_items)

  def test_a_critic_that_draws_no_actions_has_no_target_policy(self):
    items = self._build(
        "build_agent.target_policy_rate = 0.0",
        'build_agent.critic_ctor = @IQLCritic',
    ).checkpoint_items

    self.assertNotIn('target_policy', items)

  @parameterized.parameters('target', 'sampling')
  def test_rates_of_following_policies_above_1_are_errors(self, name):
    with self.assertRaisesRegex(
        ValueError, rf'`{name}_policy_rate` must be in \[0, 1\], got 1.5'
    ):
      self._build(f'build_agent.{name}_policy_rate = 1.5')

  def test_each_optimizer_has_its_own_rate(self):
    items = self._build().checkpoint_items
    rates = [
        float(items[f'{name}_optimizer'].learning_rate)
        for name in ('critic', 'policy', 'pretrain')
    ]

    # The second rate warms up and starts at half of 2e-3.
    self.assertAllClose(rates, [1e-3, 1e-3, 3e-4])

  def test_statistics_and_seed_reach_the_networks(self):
    statistics = types.Normalization(
        np.array([1.0, 2.0]), np.array([3.0, 4.0])
    )
    gin.parse_config(_CONFIG)
    agent = builder.build_agent(
        line_walk.LineWalk(), statistics, 0, tf.Variable(0, tf.int64)
    )
    plain, other = self._build(), self._build(seed=1)

    for part in (agent.critic, agent.generative_policy):
      values = [v.numpy().tolist() for v in part.variables]
      self.assertIn([1.0, 2.0], values)
      self.assertIn([3.0, 4.0], values)
    for name in ('critic', 'generative_policy'):
      weights = [
          np.concatenate([
              np.ravel(v.numpy()) for v in getattr(x, name).trainable_variables
          ])
          for x in (agent, plain, other)
      ]
      self.assertAllEqual(weights[0], weights[1])
      self.assertNotAllEqual(weights[0], weights[2])

  @parameterized.parameters(
      ('Serch.num_samples = 4', 'Serch'),
      ('Search.num_sample = 4', 'num_sample'),
      ('build_agent.critic = @CalQLCritic', 'critic'),
      ('build_agent.critic_ctor = @CalQL', 'CalQL'),
      ('build_agent.seed = 1', 'seed'),
      ('CriticEnsemble.seed = 1', 'seed'),
  )
  def test_an_unknown_name_is_an_error_that_names_it(self, binding, name):
    with self.assertRaisesRegex(ValueError, name):
      self._build(binding)

  def test_an_unknown_argument_of_the_critic_is_named(self):
    # Critics forward `**kwargs`, so gin cannot reject an unknown argument.
    with self.assertRaisesRegex(TypeError, 'conservative_wait'):
      self._build('CalQLCritic.conservative_wait = 0.1')

  @parameterized.parameters(
      ('Search.num_samples = 0', '`num_samples`.*got 0'),
      ('evaluation/Search.num_samples = 1', 'K = 2.*N = 1'),
      ("Search.selection = 'best'", "`selection`.*got 'best'"),
      ('ActionOptimizer.num_candidates = 0', '`num_candidates`.*got 0'),
      ('ActionOptimizer.step_size = -1.0', '`step_size`.*got -1'),
      ("ActionOptimizer.acceptance = 'all'", "`acceptance`.*got 'all'"),
      ('Critic.gamma = 1.5', '`gamma`.*got 1.5'),
      ('CalQLCritic.conservative_weight = -1.0', '`conservative_weight`.*-1'),
      ('CriticEnsemble.num_members = 0', '`num_members`.*got 0'),
      ('DiffusionPolicy.num_denoising_steps = 0', '`num_steps`.*got 0'),
      ('PARLAgent.critic_utd = 0', '`critic_utd`.*got 0'),
      ("DistillationImprover.selection = 'auto'", '`spread_threshold`'),
      ('WarmUpCosineDecay.learning_rate = 0.0', '`learning_rate`.*got 0'),
  )
  def test_a_value_out_of_range_is_named(self, binding, message):
    with self.assertRaisesRegex(ValueError, message):
      self._build(binding)

  def test_entropy_in_the_backup_needs_rows_of_one_decision(self):
    bindings = (
        'import parl_tf.improvers.reparameterized',
        'build_agent.policy_ctor = @GaussianPolicy',
        'build_agent.improver_ctor = @ReparameterizedImprover',
        'n_step_returns.online_steps = 3',
    )
    self._build(*bindings)
    entropy = 'ReparameterizedImprover.entropy_backup = True'
    with self.assertRaisesRegex(
        ValueError, 'online_steps` must be at most 1.*entropy_backup.*got 3'
    ):
      self._build(*bindings, entropy)
    self._build(*bindings, entropy, 'build_agent.chunk_length = 3')

  def test_missing_required_binding_is_named(self):
    gin.parse_config(
        '\n'.join(x for x in _CONFIG.splitlines() if 'critic_ctor' not in x)
    )
    with self.assertRaisesRegex(RuntimeError, 'critic_ctor'):
      builder.build_agent(
          line_walk.LineWalk(), None, 0, tf.Variable(0, tf.int64)
      )


if __name__ == '__main__':
  absltest.main()
