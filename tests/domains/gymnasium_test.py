"""Tests of tasks selected by their gymnasium id."""

from absl.testing import absltest
from absl.testing import parameterized
import gymnasium
import numpy as np
import tree

from parl_tf import types
from parl_tf.datasets import reading
from parl_tf.domains import domain
from parl_tf.domains import gymnasium as gymnasium_domain
from tests.domains import domain_conformance

_REACH = 'gymnasium_robotics:FetchReach-v4'


class _Endless(gymnasium.Env):
  """A task without a time limit that shows its constructor argument."""

  action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
  observation_space = gymnasium.spaces.Box(-9.0, 9.0, (1,), np.float32)

  def __init__(self, value=0.0):
    self._observation = np.full([1], value, np.float32)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self._observation, {}

  def step(self, action):
    return self._observation, float(action[0]), False, False, {}


gymnasium.register('Endless-v0', entry_point=_Endless)


class _Nested(_Endless):
  """Returns parts in another order than that of its space."""

  observation_space = gymnasium.spaces.Dict({
      'a': _Endless.observation_space,
      'b': gymnasium.spaces.Dict({
          'x': _Endless.observation_space, 'y': _Endless.observation_space
      }),
  })

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    one, two, three = (np.full([1], x, np.float32) for x in (1, 2, 3))
    return {'b': {'y': three, 'x': two}, 'a': one}, {}


class _TowardsGoal(domain.Controller):

  def reset(self, seed):
    del seed  # The controller is deterministic.

  def action(self, time_step, environment):
    del environment
    x = time_step.observation
    offset = 10 * (x['desired_goal'] - x['achieved_goal'])
    return np.append(np.clip(offset, -1, 1), 0).astype(np.float32)


class ReachConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return gymnasium_domain.Gymnasium(
        _REACH,
        max_episode_steps=6,
        controller_ctor=_TowardsGoal,
    )


class GymnasiumTest(parameterized.TestCase):

  def test_raw_action_bounds_match_the_task(self):
    low, high = gymnasium_domain.Gymnasium('Pendulum-v1').raw_action_bounds
    np.testing.assert_array_equal(low, [-2.0])
    np.testing.assert_array_equal(high, [2.0])

  @parameterized.parameters((None, 1, 200), (None, 3, 67), (7, 3, 7))
  def test_time_limit_defaults_to_the_registered_one(
      self, limit, action_repeat, wanted
  ):
    task = gymnasium_domain.Gymnasium(
        'Pendulum-v1', max_episode_steps=limit, action_repeat=action_repeat
    )
    self.assertEqual(task.max_episode_steps, wanted)
    environment = task.make_environment(0, evaluation=True)
    time_step, num_steps = environment.reset(), 0
    while not time_step.last():
      time_step = environment.step(np.zeros([1], np.float32))
      num_steps += 1
    self.assertEqual(num_steps, wanted)
    self.assertEqual(time_step.discount, 1.0)

  def test_a_task_without_goals_has_none(self):
    task = gymnasium_domain.Gymnasium('Endless-v0', max_episode_steps=2)
    self.assertIsNone(task.goals())

  def test_a_limit_above_the_registered_one_takes_effect(self):
    task = gymnasium_domain.Gymnasium('Pendulum-v1', max_episode_steps=205)
    environment = task.make_environment(0, evaluation=True)
    environment.reset()
    for _ in range(204):
      self.assertFalse(environment.step(np.zeros([1], np.float32)).last())
    self.assertTrue(environment.step(np.zeros([1], np.float32)).last())

  def test_a_task_without_any_limit_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'max_episode_steps.*Endless-v0'):
      gymnasium_domain.Gymnasium('Endless-v0')

  def test_arguments_reach_the_task(self):
    task = gymnasium_domain.Gymnasium(
        'Endless-v0', kwargs={'value': 4.0}, max_episode_steps=2
    )
    environment = task.make_environment(0, evaluation=True)
    self.assertEqual(environment.reset().observation, 4.0)

  @parameterized.parameters(
      (None, None),
      # (0.5 * 3 * -1 - 1) / (1 - 0.99); 0.5 * 0 - 1, once.
      ((-1.0, 0.0), (-250.0, -1.0)),
      # 0.5 * 2 - 1, of one held step; (0.5 * 3 * 4 - 1) / (1 - 0.99).
      ((2.0, 4.0), (0.0, 500.0)),
  )
  def test_value_range_follows_from_that_of_the_rewards(self, rewards, wanted):
    task = gymnasium_domain.Gymnasium(
        'Pendulum-v1',
        action_repeat=3,
        reward_scale=0.5,
        reward_bias=-1.0,
        reward_range=rewards,
    )
    found = task.value_range(0.99)
    if wanted is None:
      self.assertIsNone(found)
    else:
      self.assertSequenceAlmostEqual(found, wanted)

  def test_an_endless_episode_without_success_has_a_value_if_sparse(self):
    for is_sparse, value in ((True, -4.0), (False, None)):
      domain = gymnasium_domain.Gymnasium(
          'Pendulum-v1',
          reward_range=(-1.0, 0.0),
          is_sparse=is_sparse,
          action_repeat=2,
      )
      self.assertEqual(domain.never_succeeds_value(0.5), value)
      self.assertEqual(domain.value_range(0.5)[0], -4.0)
    with self.assertRaisesRegex(ValueError, '`reward_range`.*`is_sparse`'):
      gymnasium_domain.Gymnasium('Pendulum-v1', is_sparse=True)
    with self.assertRaisesRegex(ValueError, 'must be negative.* 2.0'):
      gymnasium_domain.Gymnasium(
          'Pendulum-v1',
          reward_range=(-1.0, 0.0),
          reward_bias=2.0,
          is_sparse=True,
      )

  def test_rewards_out_of_order_are_refused(self):
    with self.assertRaisesRegex(ValueError, r'`reward_range`.*\(0.0, -1.0\)'):
      gymnasium_domain.Gymnasium('Pendulum-v1', reward_range=(0.0, -1.0))

  def test_controller_solves_its_task(self):
    task = gymnasium_domain.Gymnasium(
        _REACH, controller_ctor=_TowardsGoal
    )
    environment = task.make_environment(0, evaluation=True)
    controller = task.make_controller(environment)
    controller.reset(0)
    time_step = environment.reset()
    while not time_step.last() and not environment.is_success():
      time_step = environment.step(controller.action(time_step, environment))
    self.assertTrue(environment.is_success())

  @parameterized.parameters((None, [1, 2, 3]), (('b', 'a'), [2, 3, 1]))
  def test_nested_parts_have_the_order_of_the_space(self, keys, wanted):
    gymnasium.register('Nested-v0', _Nested)
    self.addCleanup(gymnasium.registry.pop, 'Nested-v0')
    task = gymnasium_domain.Gymnasium(
        'Nested-v0',
        max_episode_steps=9,
        observation_keys=keys,
        flatten_observation=True,
    )
    step = task.make_environment(0, evaluation=True).reset()
    np.testing.assert_array_equal(step.observation, wanted)

  def test_chosen_parts_of_the_observation_are_kept_or_flattened(self):
    keys = ('desired_goal', 'observation')
    for flatten, wanted in (
        (False, {'desired_goal': (3,), 'observation': (10,)}),
        (True, (13,)),
    ):
      task = gymnasium_domain.Gymnasium(
          _REACH, observation_keys=keys, flatten_observation=flatten
      )
      environment = task.make_environment(0, evaluation=True)
      observation = environment.reset().observation
      shapes = tree.map_structure(np.shape, observation)
      self.assertEqual(shapes, wanted)
      if flatten:
        goal = environment.gymnasium_environment.unwrapped.goal
        np.testing.assert_allclose(observation[:3], goal, rtol=1e-6)

  def test_a_missing_key_of_the_observation_is_refused(self):
    with self.assertRaisesRegex(ValueError, r"'achieved_goal'.*\['goal'\]"):
      gymnasium_domain.Gymnasium(_REACH, observation_keys=['goal'])
    with self.assertRaisesRegex(ValueError, 'one array'):
      gymnasium_domain.Gymnasium('Pendulum-v1', observation_keys=['goal'])

  def test_unknown_ids_and_modules_are_refused(self):
    with self.assertRaisesRegex(ValueError, "Did you mean 'Pendulum-v1'"):
      gymnasium_domain.Gymnasium('Pendulm-v1')
    with self.assertRaisesRegex(ImportError, 'no_such_module'):
      gymnasium_domain.Gymnasium('no_such_module:Pendulum-v1')

  def test_arguments_that_a_task_does_not_take_are_refused(self):
    with self.assertRaisesRegex(
        ValueError, '`kwargs` must not have.*`Gymnasium.max_episode_steps`'
    ):
      gymnasium_domain.Gymnasium(
          'Pendulum-v1', kwargs={'max_episode_steps': 9}
      )
    with self.assertRaisesRegex(
        ValueError, r"Gymnasium.kwargs.*'Pendulum-v1'.*{'mass': 2}.*'mass'"
    ):
      gymnasium_domain.Gymnasium('Pendulum-v1', kwargs={'mass': 2})

  @parameterized.parameters(
      # The rewards of `_Endless` are its actions.
      (dict(), 0, r"'success' or 'is_success' in 3 steps.*rewards were 1 to 1"),
      (dict(success_key='solved'), 0, "no entry 'solved'"),
      (dict(success_key=None), 1, None),
      (dict(success_key=None, success_reward=2.0), 0, None),
      (
          dict(success_key=None, success_reward=2.0, reward_range=(0.0, 1.0)),
          0,
          'highest reward',
      ),
  )
  def test_success_that_no_episode_can_reach_is_warned_of(
      self, arguments, wanted, warning
  ):
    context = self.assertNoLogs() if warning is None else self.assertLogs()
    with context as logged:
      task = gymnasium_domain.Gymnasium(
          'Endless-v0', max_episode_steps=2, **arguments
      )
      for seed in range(2):  # The second episode repeats no warning.
        environment = task.make_environment(seed, evaluation=True)
        environment.reset()
        for _ in range(2):
          environment.step(np.ones([1], np.float32))
        if arguments.get('reward_range') is None:
          self.assertEqual(environment.is_success(), wanted)
    if warning is not None:
      self.assertLen(logged.output, 1)
      self.assertRegex(logged.output[0], f'No episode can succeed.*{warning}')

  @parameterized.parameters(
      ([1.0, 1.0],), ([0.0, 1.0, 2.0],), ([-np.inf, 0.0],)
  )
  def test_score_returns_must_be_two_in_order(self, returns):
    with self.assertRaisesRegex(ValueError, '`score_returns`.*higher, got'):
      gymnasium_domain.Gymnasium('Pendulum-v1', score_returns=returns)

  def test_the_return_is_the_score_if_the_task_says_so(self):
    # The rewards of `_Endless` are its actions.
    arguments = dict(max_episode_steps=2, score_returns=(-2.0, 6.0))
    with self.assertNoLogs():  # It need not have successes.
      gymnasium_domain.Gymnasium(
          'Endless-v0', success_key=None, reward_range=(-1, 0), **arguments
      )
    task = gymnasium_domain.Gymnasium('Endless-v0', **arguments)
    environment = task.make_environment(0, evaluation=True)
    action = np.ones([1], np.float32)
    with self.assertNoLogs():
      environment.reset()
      rewards = [environment.step(action).reward for _ in range(2)]
    episode = types.Episode(
        observation=np.zeros([3, 1], np.float32),
        action=np.stack([action] * 2),
        reward=np.array(rewards, np.float32),
        discount=np.ones([2], np.float32),
        success=np.zeros([2], np.bool_),
    )
    self.assertEqual(task.score([episode]), 50.0)
    # No more are expected of the data.
    layout = reading.make_layout(**task.dataset_options())
    self.assertEqual(layout.success_reward, np.inf)
    with self.assertRaisesRegex(ValueError, 'must not be empty'):
      task.score([])

  def test_a_task_has_no_controller_by_default(self):
    task = gymnasium_domain.Gymnasium('Pendulum-v1')
    environment = task.make_environment(0, evaluation=True)
    self.assertIsNone(task.make_controller(environment))


if __name__ == '__main__':
  absltest.main()
