"""Tests of the goals of gymnasium's goal-conditioned tasks."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gymnasium
import numpy as np

from parl_tf.domains import gymnasium as gymnasium_domain

_REACH = 'gymnasium_robotics:FetchReach-v4'
_RANGE = (-1.0, 0.0)


class _Slide(gymnasium.Env):
  """A position that actions add to; the task ends at the goal."""

  action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
  observation_space = gymnasium.spaces.Dict({
      name: gymnasium.spaces.Box(-9.0, 9.0, (size,), np.float32)
      for name, size in (
          ('achieved_goal', 1), ('desired_goal', 1), ('observation', 2)
      )
  })

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._position = np.zeros(1, np.float32)
    return self._observation(), {}

  def step(self, action):
    self._position = self._position + action
    observation = self._observation()
    reached = (observation['achieved_goal'], observation['desired_goal'])
    return (
        observation,
        self.compute_reward(*reached, {}),
        self.compute_terminated(*reached, {}),
        False,
        {'is_success': self.compute_terminated(*reached, {})},
    )

  def compute_reward(self, achieved_goal, desired_goal, info):
    return float(abs(achieved_goal - desired_goal)[0] < 0.5)

  def compute_terminated(self, achieved_goal, desired_goal, info):
    return bool(abs(achieved_goal - desired_goal)[0] < 0.5)

  def _observation(self):
    return {
        'achieved_goal': self._position,
        'desired_goal': np.full(1, 4, np.float32),
        'observation': np.append(self._position, 7.0).astype(np.float32),
    }


gymnasium.register('Slide-v0', entry_point=_Slide)


def _play(task, num_steps, seed=0):
  """Returns observations, rewards and successes of the highest actions."""
  environment = task.make_environment(seed, evaluation=True)
  observations, rewards, successes = [environment.reset().observation], [], []
  for _ in range(num_steps):
    step = environment.step(np.ones(task.action_spec().shape, np.float32))
    observations.append(step.observation)
    rewards.append(step.reward)
    successes.append(environment.is_success())
  environment.close()
  if isinstance(observations[0], dict):
    stacked = {
        name: np.stack([x[name] for x in observations])
        for name in observations[0]
    }
  else:
    stacked = np.stack(observations)
  return stacked, np.array(rewards), np.array(successes)


class GymnasiumGoalsTest(parameterized.TestCase):

  @parameterized.parameters(False, True)
  def test_the_tasks_own_goal_gives_its_own_rewards(self, is_flat):
    task = gymnasium_domain.Gymnasium(
        'Slide-v0', max_episode_steps=9, reward_range=(0.0, 1.0),
        flatten_observation=is_flat,
    )
    observation, rewards, successes = _play(task, 4)
    goals = task.goals()
    judgment = goals.judge(goals.achieved(observation)[1:], np.full(1, 4.0))
    np.testing.assert_array_equal(judgment.reward, rewards)
    np.testing.assert_array_equal(judgment.reward, [0, 0, 0, 1])
    np.testing.assert_array_equal(judgment.success, successes)
    np.testing.assert_array_equal(judgment.is_terminal, [0, 0, 0, 1])

  @parameterized.parameters(False, True)
  def test_fetch_is_judged_as_it_judges_itself(self, is_flat):
    task = gymnasium_domain.Gymnasium(
        _REACH, reward_range=_RANGE, flatten_observation=is_flat
    )
    observation, rewards, successes = _play(task, 20)
    goals = task.goals()
    desired = observation[0, 3:6] if is_flat else observation['desired_goal'][0]
    achieved = goals.achieved(observation)
    judgment = goals.judge(achieved[1:], desired)
    np.testing.assert_array_equal(judgment.reward, rewards)
    np.testing.assert_array_equal(judgment.success, successes)
    judgment = goals.judge(achieved[1:], achieved[9])
    self.assertEqual(judgment.reward[8], 0.0)
    self.assertTrue(judgment.success[8])
    self.assertFalse(np.all(judgment.success))
    self.assertFalse(np.any(judgment.is_terminal))

  @parameterized.parameters(False, True)
  def test_only_the_desired_goal_is_replaced(self, is_flat):
    task = gymnasium_domain.Gymnasium(
        _REACH, reward_range=_RANGE, flatten_observation=is_flat,
        observation_keys=('observation', 'desired_goal', 'achieved_goal'),
    )
    observation, _, _ = _play(task, 3)
    replaced = task.goals().replaced(observation, np.array([7.0, 8.0, 9.0]))
    if is_flat:
      desired = task.goals().desired(observation)
      np.testing.assert_array_equal(observation[:, 10:13], desired)
      self.assertEqual(replaced.dtype, np.float32)
      np.testing.assert_array_equal(replaced[:, 10:13], [[7, 8, 9]] * 4)
      np.testing.assert_array_equal(
          np.delete(replaced, np.s_[10:13], axis=1),
          np.delete(observation, np.s_[10:13], axis=1),
      )
      self.assertNotEqual(observation[0, 10], 7)
    else:
      np.testing.assert_array_equal(replaced['desired_goal'], [[7, 8, 9]] * 4)
      self.assertEqual(replaced['desired_goal'].dtype, np.float32)
      self.assertIs(replaced['observation'], observation['observation'])
      self.assertNotEqual(observation['desired_goal'][0, 0], 7)

  def test_a_reward_above_the_bound_one_is_a_success(self):
    task = gymnasium_domain.Gymnasium(
        'Slide-v0', max_episode_steps=9, success_key=None, success_reward=0.5
    )
    judgment = task.goals().judge(np.array([[0.0], [3.0]]), np.array([3.0]))
    np.testing.assert_array_equal(judgment.success, [False, True])

  def test_a_wrapper_judges_in_place_of_its_task(self):

    class Strict(gymnasium.Wrapper):

      def compute_reward(self, achieved_goal, desired_goal, info):
        return float(abs(achieved_goal - desired_goal)[0] < 0.1)

    gymnasium.register(
        'StrictSlide-v0', entry_point=lambda: Strict(_Slide())
    )
    task = gymnasium_domain.Gymnasium(
        'StrictSlide-v0', max_episode_steps=9, reward_range=(0.0, 1.0)
    )
    judgment = task.goals().judge(np.array([[3.7], [4.0]]), np.array([4.0]))
    np.testing.assert_array_equal(judgment.reward, [0.0, 1.0])
    np.testing.assert_array_equal(judgment.is_terminal, [True, True])

  @parameterized.parameters(
      (lambda *_: np.zeros(2), r'finite number.*shape \[2\]'),
      (lambda *_: np.nan, 'finite number.*got nan'),
      (lambda task, a, d, info: info['energy'], "raises KeyError: 'energy'"),
  )
  def test_a_reward_that_is_none_raises(self, compute_reward, message):
    task = gymnasium_domain.Gymnasium(
        'Slide-v0', max_episode_steps=9, reward_range=(0.0, 1.0)
    )
    with mock.patch.object(_Slide, 'compute_reward', compute_reward):
      with self.assertRaisesRegex(
          ValueError, f'`compute_reward` of Slide-v0.*{message}'
      ):
        task.goals()

  def test_no_steps_are_judged(self):
    task = gymnasium_domain.Gymnasium(_REACH, reward_range=_RANGE)
    judgment = task.goals().judge(np.zeros([0, 3]), np.zeros(3))
    for array in judgment.success, judgment.is_terminal:
      self.assertEqual((array.shape, array.dtype), ((0,), np.bool_))

  def test_a_nested_goal_raises(self):
    space = gymnasium.spaces.Dict({
        name: gymnasium.spaces.Dict({'x': gymnasium.spaces.Box(-1, 1, (1,))})
        for name in ('achieved_goal', 'desired_goal')
    })
    with mock.patch.object(_Slide, 'observation_space', space):
      task = gymnasium_domain.Gymnasium(
          'Slide-v0', max_episode_steps=9, reward_range=(0.0, 1.0),
          flatten_observation=True,
      )
      with self.assertRaisesRegex(ValueError, 'box with one axis'):
        task.goals()

  def test_an_observation_of_one_array_raises(self):
    with mock.patch.object(
        _Slide, 'observation_space', gymnasium.spaces.Box(-1, 1, (2,))
    ):
      task = gymnasium_domain.Gymnasium(
          'Slide-v0', max_episode_steps=9, reward_range=(0.0, 1.0)
      )
      with self.assertRaisesRegex(ValueError, 'must return a dict'):
        task.goals()

  @parameterized.parameters(
      (dict(reward_range=None), 'reward_range. must be given'),
      (dict(action_repeat=2), 'action_repeat. must be 1'),
      (
          dict(observation_keys=('observation', 'desired_goal')),
          "must have 'achieved_goal'.*observation_keys",
      ),
  )
  def test_settings_that_prevent_it_raise(self, settings, message):
    task = gymnasium_domain.Gymnasium(
        _REACH, **{'reward_range': _RANGE, **settings}
    )
    with self.assertRaisesRegex(ValueError, message):
      task.goals()


if __name__ == '__main__':
  absltest.main()
