"""Tests that the benchmark of the hot path can build its agents."""

from absl.testing import absltest
from absl.testing import parameterized
import gin

from benchmarks import hot_path_rows
from benchmarks import hot_path_settings


class HotPathTest(parameterized.TestCase):

  @parameterized.parameters(*hot_path_settings.SETTINGS)
  def test_every_setting_builds_its_agent(self, name):
    self.addCleanup(gin.clear_config)
    setting = hot_path_settings.SETTINGS[name]
    path = hot_path_rows.HotPath(setting)
    self.addCleanup(path.close)
    self.assertEqual(path.agent.action_spec.shape, [setting.action_size])
    self.assertContainsSubset(path.rows(), hot_path_rows.NAMES)
    counts = hot_path_settings.Counts(setting)
    self.assertGreater(counts.critic_fresh(), counts.critic_given())
    self.assertGreater(counts.distillation(), counts.search())


if __name__ == '__main__':
  absltest.main()
