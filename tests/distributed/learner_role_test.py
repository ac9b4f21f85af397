"""Tests of the learner role."""

import os

from absl.testing import absltest
import gin

from parl_tf.binaries import configs
from parl_tf.distributed import learner_role


class LearnTest(absltest.TestCase):

  def test_a_method_that_collects_its_own_data_refuses_collectors(self):
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse(
        ['domains/pointmaze.gin', 'methods/dppo.gin', 'policies/diffusion.gin']
    )
    with self.assertRaisesRegex(ValueError, 'online_ctor.*got OnPolicy'):
      learner_role.learn(root_dir, 0, 'localhost:1')
    self.assertFalse(os.path.exists(root_dir))

  def test_without_an_online_phase_collectors_would_wait_for_ever(self):
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    configs.parse(
        ['domains/pointmaze.gin', 'methods/bc.gin', 'policies/diffusion.gin']
    )
    with self.assertRaisesRegex(ValueError, "must have 'online'.*behavior_clo"):
      learner_role.learn('run', 0, 'localhost:1')


if __name__ == '__main__':
  absltest.main()
