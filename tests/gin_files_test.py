"""Tests that the gin files parse alone and work together."""

import functools
import pathlib

from absl.testing import parameterized
import gin
import pytest
import tensorflow as tf

from parl_tf.binaries import configs
from parl_tf.domains import domain as domain_lib
from parl_tf.training import builder
from parl_tf.training import phases
from parl_tf.training import run_constants
from parl_tf.training import schedules
from tests import programs
from tests import tensor_case
from tests.domains import example_server

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_GIN_FILES = sorted(
    str(path.relative_to(_ROOT / 'gin'))
    for path in (_ROOT / 'gin').rglob('*.gin')
)
# An arm must be bound to OpenVLA's, and its sizes are those of real robots.
_EXPERIMENTS = sorted(
    path.stem
    for path in (_ROOT / 'gin' / 'experiments').glob('*.gin')
    if path.stem != 'openvla'
)


# Small networks, for tests of which parts the files select.
_SMALL = (
    'import parl_tf.networks.action_transformer',
    'import parl_tf.networks.denoising_network',
    'import parl_tf.networks.ensemble',
    'import parl_tf.networks.flow_network',
    'import parl_tf.networks.image_networks',
    'ActionTransformer.num_blocks = 1',
    'CriticEnsemble.hidden_sizes = (8,)',
    'DenoisingNetwork.num_blocks = 1',
    'FlowNetwork.hidden_sizes = (8,)',
    'ImageEncoder.blocks_per_stage = 1',
    'ImageEncoder.stage_widths = (4,)',
)


def _build_agent(domain):
  return builder.build_agent(domain, None, 0, tf.Variable(0, dtype=tf.int64))


def _value(parameter):
  """Returns what a parameter is bound to, or None; replaces macros."""
  name, argument = parameter.split('.')
  return gin.get_bindings(name).get(argument)


@functools.lru_cache(maxsize=None)
def _parse_each_alone():
  """Returns the files that cannot be parsed alone, and the errors."""
  output = programs.run('tests.parse_alone', *_GIN_FILES)
  return set(output.splitlines()) & set(_GIN_FILES), output


class GinFilesTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  def test_each_file_parses_alone(self):
    self.assertContainsSubset(
        ['quickstart.gin', 'methods/parl_iql.gin'], _GIN_FILES
    )
    failed, errors = _parse_each_alone()

    self.assertEmpty(failed - {'distributed.gin'}, errors)

  @pytest.mark.reverb
  def test_file_of_the_roles_parses_alone(self):
    failed, errors = _parse_each_alone()

    self.assertNotIn('distributed.gin', failed, errors)

  @parameterized.product(
      policy=[
          'DiffusionPolicy',
          'FlowPolicy',
          'GaussianPolicy',
          'TransformerPolicy',
      ],
      critic=['CalQLCritic', 'IQLCritic', 'TDCritic'],
  )
  def test_quickstart_accepts_any_policy_and_critic(self, policy, critic):
    configs.parse(
        ['quickstart.gin'],
        [
            *_SMALL,
            f'build_agent.policy_ctor = @{policy}',
            f'build_agent.critic_ctor = @{critic}',
        ],
    )
    agent = _build_agent(domain_lib.select_domain())
    self.assertEqual(type(agent.generative_policy).__name__, policy)
    self.assertEqual(type(agent.critic).__name__, critic)

  def test_an_agent_of_a_small_arm_trains_on_more_samples_than_it_acts(self):
    configs.parse(
        [
            'methods/parl_iql.gin', 'policies/diffusion.gin',
            'domains/pointmaze.gin', 'sizes/small_arm.gin',
        ]
    )
    agent = _build_agent(domain_lib.select_domain())
    self.assertEqual(agent.critic_utd, 4)
    self.assertIn('sampling_policy', agent.checkpoint_items)
    self.assertEqual([x.num_samples for x in agent.searches], [8, 2, 2])
    for search in agent.searches:
      self.assertEqual(search.optimizer.num_candidates, 1)
      self.assertEqual(search.optimizer.num_gradient_steps, 5)

  @parameterized.parameters(
      ('parl_cal_ql', 'diffusion', 'CalQLCritic', 'DistillationImprover'),
      ('parl_iql', 'transformer', 'IQLCritic', 'DistillationImprover'),
      ('parl_rlpd', 'flow', 'TDCritic', 'DistillationImprover'),
      ('idql', 'diffusion', 'IQLCritic', 'ImitationImprover'),
      ('diffusion_q_learning', None, 'TDCritic', 'ReparameterizedImprover'),
      ('fql', None, 'TDCritic', 'ReparameterizedImprover'),
      ('qc', None, 'TDCritic', 'ImitationImprover'),
      ('qc_fql', None, 'TDCritic', 'ReparameterizedImprover'),
      ('cal_ql', None, 'CalQLCritic', 'ReparameterizedImprover'),
      ('cql', None, 'CalQLCritic', 'ReparameterizedImprover'),
      ('expo', None, 'TDCritic', 'EditImprover'),
      ('dsrl', None, 'NoiseAliasedCritic', 'SteeringImprover'),
      ('ibrl', None, 'TDCritic', 'BootstrappedImprover'),
      ('wsrl', None, 'CalQLCritic', 'ReparameterizedImprover'),
      ('sac', None, 'TDCritic', 'ReparameterizedImprover'),
      ('rlpd', None, 'TDCritic', 'ReparameterizedImprover'),
      ('iql', None, 'IQLCritic', 'AdvantageWeightedImprover'),
      ('cem_random', None, 'CalQLCritic', None),
      ('cem_policy', None, 'CalQLCritic', None),
      ('self_imitation', 'gaussian', 'CalQLCritic', 'AdvantageWeighted'),
      ('cem', 'gaussian', 'CalQLCritic', None),
      ('bc', 'flow', None, None),
  )
  def test_methods_select_their_parts(self, method, policy, critic, improver):
    files = ['domains/pointmaze.gin', f'methods/{method}.gin']
    if policy is not None:
      files.append(f'policies/{policy}.gin')
    configs.parse(files, _SMALL)
    agent = _build_agent(domain_lib.select_domain())
    for part, name in ((agent.critic, critic), (agent._improver, improver)):
      if name is None:
        self.assertIsNone(part)
      else:
        self.assertStartsWith(type(part).__name__, name)

  @parameterized.parameters(
      ('variants/paper.gin', 'ActionOptimizer.acceptance', 'reject'),
      ('variants/released_code.gin', 'Critic.terminals_from_reward', True),
      ('ablations/no_global.gin', 'Search.num_samples', 1),
      ('ablations/no_local.gin', 'ActionOptimizer.num_gradient_steps', 0),
      ('ablations/base_policy_targets.gin', 'Search.optimize_targets', False),
  )
  def test_files_included_last_change_the_quickstart(self, file, name, value):
    configs.parse(['quickstart.gin', file], _SMALL)
    self.assertEqual(gin.query_parameter(name), value)
    domain = domain_lib.select_domain()
    run_constants.read(domain, _build_agent(domain))

  @parameterized.parameters(
      ([], 0),
      (['ablations/no_global.gin'], 3),
      (['variants/paper.gin'], 3),
      (['variants/released_code.gin'], 3),
  )
  def test_the_quickstart_climbs_in_training_alone(self, files, num_acting):
    configs.parse(
        ['quickstart.gin', *files],
        [*_SMALL, 'ActionOptimizer.num_gradient_steps = 3'],
    )
    searches = _build_agent(domain_lib.select_domain()).searches
    for search, number in zip(searches, (3, num_acting, num_acting)):
      self.assertEqual(search.optimizer.num_gradient_steps, number)

  def test_sac_has_targets_of_one_step_after_the_quickstart(self):
    configs.parse(['quickstart.gin', 'methods/sac.gin'])
    self.assertEqual(_value('n_step_returns.online_steps'), 1)

  @parameterized.parameters('qc', 'cem_policy')
  def test_a_method_searches_in_its_targets_after_small_pa_rl(self, method):
    configs.parse(
        ['experiments/cube_play_fast_small.gin', f'methods/{method}.gin']
    )
    self.assertIs(_value('Search.optimize_targets'), True)

  @parameterized.parameters('paper', 'released_code')
  def test_variants_have_their_own_targets_after_the_quickstart(self, variant):
    configs.parse(['quickstart.gin', f'variants/{variant}.gin'], _SMALL)
    agent = _build_agent(domain_lib.select_domain())
    self.assertTrue(agent.searches.training.optimize_targets)
    self.assertEqual(_value('TDCritic.target_noise'), 0.0)
    self.assertFalse(_value('TDCritic.return_floor'))
    self.assertEqual(_value('n_step_returns.online_steps'), 1)

  @parameterized.parameters(
      ('parl_cal_ql', True, False),
      ('parl_rlpd', True, False),
      # The choice by value in the target belongs to the method.
      ('ibrl', True, True),
  )
  def test_small_sizes_take_the_targets_of_pa_rl_from_its_policy(
      self, method, paper, small
  ):
    files = ['domains/pointmaze.gin', f'methods/{method}.gin']
    if method != 'ibrl':
      files.append('policies/diffusion.gin')
    for sizes, wanted in (('paper', paper), ('small', small)):
      gin.clear_config()
      configs.parse([*files, f'sizes/{sizes}.gin'], _SMALL)
      agent = _build_agent(domain_lib.select_domain())
      self.assertEqual(agent.searches.training.optimize_targets, wanted)

  @parameterized.parameters('cal_ql', 'cql', 'wsrl')
  def test_small_sizes_draw_the_actions_that_a_baseline_backs_up(self, method):
    for sizes, wanted in (('paper', 10), ('small', 4)):
      gin.clear_config()
      configs.parse([
          'domains/pointmaze.gin', f'methods/{method}.gin', f'sizes/{sizes}.gin'
      ])
      with gin.config_scope(None):
        number = gin.get_bindings('TDCritic')['num_backup_actions']
      self.assertEqual(number, wanted)
      self.assertLessEqual(number, gin.query_parameter('Search.num_samples'))

  @parameterized.parameters(
      ('cal_ql', 5.0, 0.5), ('cql', 5.0, 0.5), ('wsrl', 5.0, 0.0)
  )
  def test_images_do_not_change_what_defines_a_baseline(
      self, method, weight, offline_fraction
  ):
    configs.parse([
        'domains/calvin.gin', f'methods/{method}.gin', 'sizes/paper.gin',
        'sizes/images.gin',
    ])
    self.assertEqual(_value('CalQLCritic.conservative_weight'), weight)
    self.assertEqual(_value('CalQLCritic.num_conservative_actions'), 10)
    self.assertEqual(_value('Online.policy_offline_fraction'), offline_fraction)

  @parameterized.parameters(
      ('rlpd', 200), ('parl_rlpd', 200), ('parl_cal_ql', 1_000)
  )
  def test_papers_sizes_keep_a_methods_number_of_episodes(self, method, wanted):
    configs.parse([
        'domains/pointmaze.gin', f'methods/{method}.gin', 'sizes/paper.gin'
    ])
    self.assertEqual(phases.Online()._num_episodes, wanted)

  def test_fast_cube_has_the_offline_updates_of_the_slow_one(self):
    updates = {}
    for name in ('cube_play_small', 'cube_play_fast_small'):
      gin.clear_config()
      configs.parse([f'experiments/{name}.gin'])
      with gin.config_scope('critic'):
        rate = schedules.WarmUpCosineDecay()
      utd = gin.get_bindings('PARLAgent').get('critic_utd', 1)
      rate.set_updates_per_step(utd)
      updates[name] = gin.query_parameter('Offline.num_steps') * utd
      self.assertEqual(rate(updates[name]), 0.0)
      self.assertGreater(rate(updates[name] - 10), 0.0)
    self.assertLen(set(updates.values()), 1)

  @parameterized.parameters('cube', 'antmaze', 'adroit_door')
  def test_without_global_optimization_no_search_ranks(self, task):
    configs.parse([
        f'experiments/{task}_small.gin', 'ablations/no_global.gin'
    ])
    for scope in ('training', 'acting', 'evaluation'):
      with gin.config_scope(scope):
        self.assertEqual(gin.get_bindings('Search')['num_samples'], 1)

  # CALVIN needs a server, and its critic has no histogram.
  @parameterized.parameters(*(x for x in _EXPERIMENTS if 'calvin' not in x))
  def test_histograms_cover_the_returns_of_the_task(self, name):
    configs.parse([f'experiments/{name}.gin'], _SMALL)
    domain = domain_lib.select_domain()
    agent = _build_agent(domain)
    iql = ('antmaze_small', 'adroit_door_small', 'cube_small')
    is_play = 'play' in name
    critic = 'IQLCritic' if name in iql or is_play else 'CalQLCritic'
    self.assertEqual(type(agent.critic).__name__, critic)
    # The discounted sum of the worst reward, -1 or -4, with gamma 0.98, 0.99
    # or 0.995.
    lowest = {
        'antmaze_small': -200.0, 'kitchen': -400.0, 'kitchen_small': -400.0
    }
    histogram = agent.critic._distribution
    self.assertSequenceAlmostEqual(
        (histogram.min_value, histogram.max_value),
        (-50.0 if is_play else lowest.get(name, -100.0), 0.0),
    )

  @parameterized.parameters(*(x for x in _EXPERIMENTS if 'small' not in x))
  def test_experiments_have_the_papers_sizes(self, name):
    configs.parse([f'experiments/{name}.gin'])
    hidden_sizes = {
        'antmaze': (256, 256, 256, 256), 'calvin': (512, 512, 512)
    }
    sizes = {
        'Search.num_samples': 32,
        'ActionOptimizer.num_candidates': 10,
        'ActionOptimizer.num_gradient_steps': 10,
        'ActionOptimizer.step_size': 3e-4,
        'CriticEnsemble.num_members': 10,
        'CriticEnsemble.hidden_sizes': hidden_sizes.get(name, (256, 256)),
        'Critic.gamma': 0.99,
        'Critic.tau': 0.005,
        'BehaviorCloning.num_steps': 3_000_000,
        'Offline.num_steps': 1_000_000 if 'ant' in name else 500_000,
    }
    self.assertEqual({x: gin.query_parameter(x) for x in sizes}, sizes)

  def test_calvin_has_the_papers_constants(self):
    configs.parse(['experiments/calvin.gin'])
    constants = {
        'CalQLCritic.conservative_weight': 0.01,
        'CalQLCritic.num_conservative_actions': 4,
        'CriticEnsemble.action_in_every_layer': True,
        'DistillationImprover.selection': 'argmax',
        'Online.policy_offline_fraction': 0.5,
        'PARLAgent.image_padding': 4,
        'ImageEncoder.stage_widths': (64, 128, 256, 512),
        'ImageEncoder.blocks_per_stage': 2,
    }
    self.assertEqual({x: _value(x) for x in constants}, constants)

  def test_a_served_policy_follows_a_short_schedule(self):
    experiment = 'experiments/cube_play_fast_small.gin'
    configs.parse([experiment, 'policies/served.gin'])
    with gin.config_scope('policy'):
      schedules.WarmUpCosineDecay()  # Raises if the warm-up is longer.

  def test_openvla_composes_with_a_domain_of_pictures(self):
    configs.parse(
        ['experiments/openvla.gin', 'domains/drawn_maze.gin'],
        [
            *_SMALL,
            'DrawnMaze.goal_cells = ((7, 9), (1, 1))',
        ],
    )
    agent = _build_agent(domain_lib.select_domain())
    constants = {
        'Search.num_samples': 16,
        'ServedOnline.num_samples': 8,
        'ServedOnline.fitted_offline_fraction': 0.0,
        'ActionOptimizer.num_candidates': 8,
    }
    self.assertEqual({x: gin.query_parameter(x) for x in constants}, constants)
    self.assertTrue(agent.generative_policy.is_served)
    self.assertEqual(type(agent.critic).__name__, 'CalQLCritic')
    self.assertIsNone(agent.critic._distribution)  # squared errors


class CalvinExperimentsTest(tensor_case.TensorCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._server = example_server.ExampleServer('Calvin-v0', 'calvin_table')
    cls.addClassCleanup(cls._server.kill)

  @parameterized.parameters('calvin', 'calvin_small')
  def test_agents_have_an_image_encoder_for_each_camera(self, name):
    self.addCleanup(gin.clear_config)
    configs.parse(
        [f'experiments/{name}.gin'],
        [*_SMALL, f"Calvin.address = '{self._server.address}'"],
    )
    agent = _build_agent(domain_lib.select_domain())
    self.assertIsNone(agent.critic._distribution)  # squared errors
    spec = agent.time_step_spec.observation
    self.assertEqual(
        {x: spec[x].shape for x in spec},
        {
            'gripper': [100, 100, 3],
            'robot': [15],
            'static': [100, 100, 3],
        },
    )
    kernels = [
        v for v in agent.critic.trainable_variables if v.shape[:-2] == [7, 7]
    ]
    self.assertLen(kernels, 2)  # The first convolution of each camera.


if __name__ == '__main__':
  tf.test.main()
