"""Tests of the settings that two runs must share."""

from absl.testing import absltest
import gin

from parl_tf.networks import small_image_encoder  # noqa: F401
from parl_tf.training import phase_checkpoint
from tests import small_images
from tests.agents import small_agent


class SettingsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  def test_only_runs_with_images_share_their_encoder(self):
    name = 'ObservationEncoder.image_encoder_ctor'
    gin.parse_config(f'{name} = @SmallImageEncoder')
    for agent, is_shared in (
        (small_agent.make_agent(), False), (small_images.make_agent(), True)
    ):
      policy = phase_checkpoint.policy_settings(agent, 'offline')
      # Checkpoints that were written before stacks existed have no such key.
      self.assertNotIn('build_agent.num_frames', policy)
      critic = phase_checkpoint.critic_settings(agent)
      self.assertEqual([name in policy, name in critic], [is_shared] * 2)


if __name__ == '__main__':
  absltest.main()
