"""Tests of the Adroit tasks."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf import types
from parl_tf.domains import adroit
from tests.domains import domain_conformance


class _ShortAdroit(adroit.Adroit):
  """Has short episodes, to keep tests fast."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.max_episode_steps = 6


class DoorConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return _ShortAdroit()


class PenConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return _ShortAdroit(task='pen', reward='binary')


class AdroitTest(parameterized.TestCase):

  @parameterized.parameters('door', 'hammer', 'pen', 'relocate')
  def test_specs_match_the_environment(self, task):
    domain = adroit.Adroit(task=task)
    environment = domain.make_environment(0, evaluation=True)

    self.assertEqual(
        environment.reset().observation.shape, domain.observation_spec().shape
    )
    self.assertEqual(environment.action_spec(), domain.action_spec())

  @parameterized.parameters('door', 'hammer', 'relocate')
  def test_the_reward_falls_with_the_distance_of_the_palm(self, task):
    environment = adroit.Adroit(task=task).make_environment(0, True)
    environment.reset()
    step = environment.step(np.zeros(environment.action_spec().shape))
    scene = environment.gymnasium_environment.unwrapped
    palm = scene.data.site('S_grasp').xpos
    if task == 'door':
      distance = np.linalg.norm(palm - scene.data.site('S_handle').xpos)
      rest = -0.1 * (scene.data.qpos[scene.door_hinge_addrs] - 1.57) ** 2
      rest -= 1e-5 * np.sum(scene.data.qvel**2)
    elif task == 'hammer':
      distance = np.linalg.norm(palm - scene.data.body('Object').xpos)
      nail = scene.data.site('S_target').xpos
      rest = -np.linalg.norm(scene.data.site('tool').xpos - nail)
      rest -= 10 * np.linalg.norm(nail - scene.data.site('nail_goal').xpos)
      rest -= 1e-2 * np.linalg.norm(scene.data.qvel)
    else:
      distance = np.linalg.norm(palm - scene.data.body('Object').xpos)
      rest = 0.0  # The ball starts on the table.

    self.assertGreater(distance, 0.05)
    np.testing.assert_allclose(step.reward, rest - 0.1 * distance, rtol=1e-5)

  def test_a_binary_task_ends_when_it_is_solved(self):
    domain = adroit.Adroit(reward='binary', reward_bias=-1.0)
    environment = domain.make_environment(0, evaluation=True)
    environment.reset()
    hold = np.zeros(environment.action_spec().shape, np.float32)
    step = environment.step(hold)
    self.assertEqual((step.reward, step.discount), (0.0, 1.0))
    self.assertFalse(step.last())

    scene = environment.gymnasium_environment.unwrapped
    scene.data.qpos[scene.door_hinge_addrs] = 1.5
    step = environment.step(hold)
    self.assertEqual((step.reward, step.discount), (1.0, 0.0))
    self.assertTrue(step.last())
    self.assertTrue(environment.is_success())
    self.assertAlmostEqual(domain.never_succeeds_value(0.99), -100.0)
    self.assertSequenceAlmostEqual(domain.value_range(0.99), (-100.0, 0.0))

  @parameterized.parameters(('dense', 0.0), ('binary', 1.0))
  def test_a_dropped_pen_ends_an_episode_of_dense_rewards(self, reward, last):
    domain = adroit.Adroit(task='pen', reward=reward)
    environment = domain.make_environment(0, evaluation=True)
    environment.reset()
    hold = np.zeros(environment.action_spec().shape, np.float32)
    self.assertFalse(environment.step(hold).last())
    scene = environment.gymnasium_environment.unwrapped
    pen = scene.data.body('Object')
    scene.data.joint('OBJTx').qpos[0] += pen.xpos[2]  # It points down.
    step = environment.step(hold)
    self.assertLess(pen.xpos[2], 0.075)
    self.assertEqual(step.discount, last)

  def test_a_video_is_possible(self):
    environment = adroit.Adroit().make_environment(0, evaluation=True)
    scene = environment.gymnasium_environment.unwrapped
    self.assertEqual(scene.render_mode, 'rgb_array')

  def test_value_range_of_dense_rewards_is_unknown(self):
    self.assertIsNone(adroit.Adroit(reward='dense').value_range(0.99))

  def test_score_matches_d4rl(self):
    rewards = np.array([1_000.0, 412.02823, 0.0], np.float32)
    episode = types.Episode(
        observation=np.zeros([4, 39], np.float32),
        action=np.zeros([3, 28], np.float32),
        reward=rewards,
        discount=np.ones(3, np.float32),
        success=np.array([False, True, False]),
    )
    # (1412.03 - -56.51) / (2880.57 - -56.51).
    self.assertAlmostEqual(adroit.Adroit().score([episode]), 50.0, places=3)
    self.assertEqual(adroit.Adroit(reward='binary').score([episode]), 100.0)

  @parameterized.parameters(
      ('task', 'juggle', 'one of'),
      ('reward', 'none', 'one of'),
      ('reward_scale', 0.0, 'positive'),
  )
  def test_an_argument_out_of_range_is_named(self, name, value, wanted):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be .*{wanted}'):
      adroit.Adroit(**{name: value})


if __name__ == '__main__':
  absltest.main()
