"""Tests of a whole run with a non-default policy, critic and experience."""

import json
import os

from absl.testing import absltest
import gin
import pytest

from parl_tf.binaries import configs
from parl_tf.training import experiment
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


class ExperimentTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  @pytest.mark.reverb
  def test_rows_may_come_from_a_replay_server(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse([tiny.GIN_FILE], [*tiny.BINDINGS, *_BINDINGS])
    summary = experiment.run_experiment(root_dir, 0)
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


if __name__ == '__main__':
  absltest.main()
