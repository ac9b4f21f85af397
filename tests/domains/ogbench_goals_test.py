"""Tests of the tasks whose observation has the goal."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.domains import ogbench_goals
from tests.domains import domain_conformance

_FAST = {'action_repeat': 2, 'oracle_min_norm': 0.4}


class GoalCubeConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench_goals.GoalCube(max_episode_steps=6)


class GoalSceneConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench_goals.GoalScene(max_episode_steps=6)


class GoalPuzzleConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return ogbench_goals.GoalPuzzle(max_episode_steps=6)


def _play(environment, controller, max_steps):
  """Returns the observations `[n + 1, O]` and the rewards `[n]`."""
  time_step = environment.reset()
  controller.reset(0)
  observations, rewards = [time_step.observation], []
  while not time_step.last() and len(rewards) < max_steps:
    time_step = environment.step(controller.action(time_step, environment))
    observations.append(time_step.observation)
    rewards.append(time_step.reward)
  return np.array(observations), np.array(rewards)


class GoalTaskTest(parameterized.TestCase):

  @parameterized.parameters(
      (ogbench_goals.GoalCube, {'size': 'single'}, 31),
      (ogbench_goals.GoalCube, {'size': 'double'}, 43),
      (ogbench_goals.GoalScene, {}, 47),
      (ogbench_goals.GoalPuzzle, {}, 64),
  )
  def test_goals_judge_an_episode_as_the_task_does(self, make, size, width):
    domain = make(task=1, max_episode_steps=300, **size, **_FAST)
    environment = domain.make_environment(3, evaluation=True)
    goals = domain.goals()

    observations, rewards = _play(
        environment, domain.make_controller(environment), max_steps=300
    )

    self.assertEqual(observations.shape[1], width)
    self.assertTrue(environment.is_success())
    desired = goals.desired(observations)
    np.testing.assert_array_equal(desired, desired[:1].repeat(len(desired), 0))
    judgment = goals.judge(goals.achieved(observations)[1:], desired[0])
    np.testing.assert_array_equal(judgment.reward, rewards)
    self.assertTrue(judgment.success[-1])
    self.assertTrue(judgment.is_terminal[-1])
    self.assertFalse(np.any(judgment.is_terminal[:-1]))
    np.testing.assert_array_equal(rewards[:-1], -2.0)
    self.assertEqual(domain.value_range(0.5), (-4.0, 0.0))
    self.assertEqual(domain.never_succeeds_value(0.5), -4.0)

  @parameterized.parameters(
      (ogbench_goals.GoalScene, 7), (ogbench_goals.GoalPuzzle, 9)
  )
  def test_the_goal_is_what_the_scene_itself_reports_there(self, make, size):
    for task in (4, 5):
      environment = make(task=task).make_environment(0, evaluation=True)
      goal = environment.reset().observation[-size:]
      scene = environment.gymnasium_environment
      # OGBench's own goal-conditioned observation of the goal.
      scene._use_oracle_rep = True
      scene.reset()
      np.testing.assert_allclose(goal, scene._cur_goal_ob, atol=0.02)

  def test_each_episode_draws_a_task(self):
    domain = ogbench_goals.GoalCube()
    environment = domain.make_environment(0, evaluation=True)

    found = {tuple(environment.reset().observation[-3:]) for _ in range(20)}

    self.assertLen(found, 5)

  def test_several_cubes_have_their_goals_in_any_order(self):
    domain = ogbench_goals.GoalCube(size='double', task=1)
    environment = domain.make_environment(0, evaluation=True)

    found = {tuple(environment.reset().observation[-6:]) for _ in range(12)}

    self.assertLen(found, 2)
    first, second = found
    self.assertEqual(first, second[3:] + second[:3])

  def test_one_task_has_its_goal(self):
    domain = ogbench_goals.GoalCube(task=2)
    environment = domain.make_environment(0, evaluation=True)

    for _ in range(3):
      # Decimetres from the centre of the table; OGBench's (0.5, 0, 0.02) m.
      np.testing.assert_allclose(
          environment.reset().observation[-3:], [0.75, 0.0, 0.2], atol=1e-6
      )

  @parameterized.parameters(
      ogbench_goals.GoalCube, ogbench_goals.GoalScene, ogbench_goals.GoalPuzzle
  )
  def test_play_is_judged_by_its_own_goal_or_by_another(self, make):
    domain = make(**_FAST)
    goals = domain.goals()
    environment = domain.make_play_environment(1)

    observations, rewards = _play(
        environment, domain.make_play_controller(environment), max_steps=120
    )

    desired = goals.desired(observations)[0]
    achieved = goals.achieved(observations)
    np.testing.assert_array_equal(
        goals.judge(achieved[1:], desired).reward, rewards
    )
    # Under a state that it reached as the goal, the rewards are other ones.
    reached = goals.judge(achieved[1:], achieved[-1])
    self.assertEqual(reached.reward[0], -2.0)
    self.assertEqual(reached.reward[-1], 0.0)
    self.assertTrue(reached.is_terminal[-1])
    replaced = goals.replaced(observations, achieved[-1])
    np.testing.assert_array_equal(
        goals.desired(replaced), [achieved[-1]] * len(observations)
    )
    np.testing.assert_array_equal(
        replaced[:, : -goals.size], observations[:, : -goals.size]
    )

  def test_an_unknown_task_is_refused(self):
    with self.assertRaisesRegex(ValueError, r'`task` must be .*\[1, 2'):
      ogbench_goals.GoalCube(task=0)

  def test_images_are_refused(self):
    with self.assertRaisesRegex(ValueError, '`image_size` must be None'):
      ogbench_goals.GoalCube(image_size=64)


if __name__ == '__main__':
  absltest.main()
