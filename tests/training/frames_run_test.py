"""Tests a run whose networks see stacked frames."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import gin
import tensorflow as tf

from parl_tf.binaries import configs
from parl_tf.binaries import exported_policy
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import episode_log
from parl_tf.training import evaluation
from parl_tf.training import experiment
from tests.binaries import tiny

_BINDINGS = (
    *tiny.ONE_EXPORT,
    'build_agent.num_frames = 3',
    'build_agent.policy_ctor = @GaussianPolicy',
    'run_experiment.num_recorded_steps = 60',
    'BehaviorCloning.num_steps = 2',
    'BehaviorCloning.min_steps = 0',
    'Online.num_episodes = 1',
    'import parl_tf.networks.image_networks',
    'SmallImageEncoder.widths = (4, 4)',
    'SmallImageEncoder.feature_size = 8',
    'load_dataset.picture_memory_bytes = 0',
)


class FramesRunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  @parameterized.parameters(
      ('experiments/drawn_maze_small.gin', (48, 48, 3), 2),
      (tiny.GIN_FILE, (4,), 0),
  )
  def test_phases_log_and_export_agree_on_the_frames(
      self, gin_file, shape, num_evaluation_episodes
  ):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse(
        [gin_file, 'methods/self_distillation.gin'],
        [
            *tiny.BINDINGS,
            'Search.jit_compile = True',
            *_BINDINGS,
            'run_experiment.num_evaluation_episodes ='
            f' {num_evaluation_episodes}',
        ],
    )
    summary = experiment.run_experiment(root_dir, 0)
    (first, *_) = episode_log.EpisodeLog(
        os.path.join(root_dir, 'episodes')
    ).read(0, 1)
    # The log has single frames.
    observation = next(iter(tf.nest.flatten(first.observation)))
    self.assertEqual(observation.shape[1:], shape)
    domain = domain_lib.select_domain()
    act = exported_policy.ExportedPolicy(
        summary.policies['greedy_policy'], domain
    )
    self.assertEqual(act.num_frames, 3)
    result = evaluation.Evaluator(domain, num_episodes=2, seed=0).run(
        act, num_frames=act.num_frames
    )
    online = summary.phases['online']
    if not num_evaluation_episodes:
      self.assertIsNone(online.score)
      return
    self.assertEqual(
        result.success_rate, online.success_rate_without_search
    )
    self.assertEqual(
        result.mean_return, online.mean_return_without_search
    )


if __name__ == '__main__':
  absltest.main()
