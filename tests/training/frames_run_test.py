"""Tests a run whose networks see stacked frames."""

import os

from absl.testing import absltest
import gin

from parl_tf.binaries import configs
from parl_tf.binaries import exported_policy
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import episode_log
from parl_tf.training import evaluation
from parl_tf.training import experiment
from tests.binaries import tiny

_BINDINGS = (
    *tiny.ONE_EXPORT,
    'build_agent.policy_ctor = @GaussianPolicy',
    'run_experiment.num_recorded_steps = 60',
    'run_experiment.num_evaluation_episodes = 2',
    'BehaviorCloning.num_steps = 2',
    'BehaviorCloning.min_steps = 0',
    'Online.num_episodes = 1',
    'SmallImageEncoder.widths = (4, 4)',
    'SmallImageEncoder.feature_size = 8',
    'load_dataset.picture_memory_bytes = 0',
)


class FramesRunTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  def test_phases_log_and_export_agree_on_the_frames(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse(
        ['experiments/drawn_maze_small.gin', 'methods/self_distillation.gin'],
        [*tiny.BINDINGS, *_BINDINGS],
    )
    summary = experiment.run_experiment(root_dir, 0)
    (first, *_) = episode_log.EpisodeLog(
        os.path.join(root_dir, 'episodes')
    ).read(0, 1)
    # The log has single frames.
    self.assertEqual(first.observation['picture'].shape[1:], (48, 48, 3))
    domain = domain_lib.select_domain()
    act = exported_policy.ExportedPolicy(
        summary.policies['greedy_policy'], domain
    )
    self.assertEqual(act.num_frames, 3)
    result = evaluation.Evaluator(domain, num_episodes=2, seed=0).run(
        act, num_frames=act.num_frames
    )
    online = summary.phases['online']
    self.assertEqual(
        result.success_rate, online.success_rate_without_search
    )
    self.assertEqual(
        result.mean_return, online.mean_return_without_search
    )


if __name__ == '__main__':
  absltest.main()
