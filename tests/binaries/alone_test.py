"""Tests of `parl-evaluate --alone`."""

from absl.testing import absltest
import gin
import numpy as np

from parl_tf.binaries import evaluation_run
from parl_tf.binaries import restored_run
from tests.binaries import tiny


class AloneTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._run = tiny.finished_run()

  def _act(self, temperature=None, checkpoint='last'):
    gin.clear_config()
    act, domain = evaluation_run.alone_act(
        self._run, (), (), checkpoint, temperature
    )
    observation = np.random.default_rng(0).normal(size=[5, 4])
    seeds = np.array([[1, 2], [3, 4]], np.int32)
    return act, domain, [act(observation.astype(np.float32), x) for x in seeds]

  def test_the_policy_acts_without_the_search(self):
    act, domain, (first, second) = self._act()
    result = evaluation_run.play(act, domain, num_episodes=2, seed=0)
    self.assertLen(result.episodes, 2)

    gin.clear_config()
    agent = restored_run.restore_agent(self._run)
    observation = np.random.default_rng(0).normal(size=[5, 4])
    wanted = agent.named_policies['base_policy'].act(
        observation.astype(np.float32), np.array([1, 2], np.int32)
    )
    np.testing.assert_allclose(first[:, 0], wanted, atol=1e-6)
    self.assertGreater(np.max(np.abs(first - second)), 0.01)

  def test_a_temperature_scales_the_noise(self):
    _, _, actions = self._act()
    _, _, others = self._act(temperature=0.0)
    self.assertGreater(np.max(np.abs(np.subtract(actions, others))), 1e-4)

  def test_an_earlier_checkpoint_acts(self):
    variables = {}
    for name in 'last', 'offline':
      act, _, _ = self._act(checkpoint=name)
      variables[name] = [x.numpy() for x in act.policy.variables()]
    differences = [
        np.max(np.abs(x - y))
        for x, y in zip(variables['last'], variables['offline'], strict=True)
    ]
    self.assertGreater(max(differences), 1e-4)


if __name__ == '__main__':
  absltest.main()
