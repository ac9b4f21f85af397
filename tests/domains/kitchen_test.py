"""Tests of D4RL's kitchen; those that step it need `make d4rl`."""

import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from parl_tf import types
from parl_tf.domains import kitchen
from tests.domains import domain_conformance


class _ShortKitchen(kitchen.Kitchen):
  """Has short episodes, to keep tests fast."""

  def make_environment(self, seed, evaluation):
    environment = super().make_environment(seed, evaluation)
    environment._max_episode_steps = self.max_episode_steps
    return environment

  max_episode_steps = 6


@pytest.mark.full
class KitchenConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return _ShortKitchen()


@pytest.mark.full
class OriginalTest(parameterized.TestCase):

  @parameterized.parameters(('complete', 'slide'), ('mixed', 'bottom'))
  def test_reward_counts_the_sub_tasks_solved_so_far(self, task, last):
    domain = kitchen.Kitchen(task=task)
    environment = domain.make_environment(0, evaluation=True)
    environment.reset()
    action = np.zeros([9], np.float32)
    self.assertEqual(environment.step(action).reward, 0.0)

    original = environment.gymnasium_environment.step.__closure__
    (scene,) = (
        cell.cell_contents
        for cell in original
        if hasattr(cell.cell_contents, 'tasks_to_complete')
    )
    self.assertTrue(any(last in x for x in scene.tasks_to_complete))
    scene.tasks_to_complete.remove('kettle')
    self.assertEqual(environment.step(action).reward, 1.0)
    scene.tasks_to_complete.clear()
    step = environment.step(action)
    self.assertEqual((step.reward, step.discount), (4.0, 0.0))
    self.assertTrue(step.last())
    self.assertTrue(environment.is_success())

  def test_score_matches_d4rl(self):
    import d4rl.kitchen  # noqa: F401
    import gym

    original = gym.make('kitchen-complete-v0').unwrapped
    # D4RL rewards each sub-task once.
    self.assertAlmostEqual(
        kitchen.Kitchen().score([_episode([0, 1, 1, 3])]),
        100 * original.get_normalized_score(3.0),
    )


class KitchenTest(parameterized.TestCase):

  def test_without_d4rl_the_error_tells_how_to_install_it(self):
    absent = {'d4rl': None, 'd4rl.kitchen': None}
    with mock.patch.dict(sys.modules, absent):
      with self.assertRaisesRegex(ImportError, 'make d4rl'):
        kitchen.Kitchen().make_environment(0, evaluation=True)

  def test_score_counts_sub_tasks(self):
    episodes = [_episode([0, 1, 2]), _episode([0, 0, 1])]

    self.assertAlmostEqual(kitchen.Kitchen().score(episodes), 37.5)

  def test_score_without_episodes_is_an_error(self):
    with self.assertRaisesRegex(ValueError, '`episodes`'):
      kitchen.Kitchen().score([])

  def test_value_of_never_succeeding_is_unknown(self):
    self.assertIsNone(kitchen.Kitchen().never_succeeds_value(0.99))

  def test_lowest_return_is_that_of_solving_nothing(self):
    # -4 / (1 - 0.99); -4 + 4.
    self.assertSequenceAlmostEqual(
        kitchen.Kitchen().value_range(0.99), (-400.0, 0.0)
    )

  @parameterized.parameters(
      ('task', 'new', 'one of'), ('reward_scale', 0.0, 'positive')
  )
  def test_an_argument_out_of_range_is_named(self, name, value, wanted):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be .*{wanted}'):
      kitchen.Kitchen(**{name: value})


def _episode(rewards):
  steps = len(rewards)
  return types.Episode(
      observation=np.zeros([steps + 1, 60], np.float32),
      action=np.zeros([steps, 9], np.float32),
      reward=np.array(rewards, np.float32),
      discount=np.ones(steps, np.float32),
      success=np.zeros(steps, np.bool_),
  )


if __name__ == '__main__':
  absltest.main()
