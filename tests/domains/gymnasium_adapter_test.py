"""Tests of the gymnasium adapter."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import gymnasium
import numpy as np

from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import success
from tests.domains import domain_conformance


class _Counter(gymnasium.Env):
  """Adds its action to a number, which must reach 10."""

  action_space = gymnasium.spaces.Box(0.0, 4.0, (1,), np.float32)
  observation_space = gymnasium.spaces.Dict({
      'value': gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64),
      'image': gymnasium.spaces.Box(0, 255, (2, 2), np.uint8),
  })

  def __init__(self, truncate_after=None):
    self._truncate_after = truncate_after
    self._value = np.zeros(1)
    self._num_steps = 0

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._value[:] = self.np_random.uniform(0, 1)
    self._num_steps = 0
    return self._observation(), {}

  def step(self, action):
    self._value += action
    self._num_steps += 1
    terminated = bool(self._value[0] >= 10)
    truncated = self._num_steps == self._truncate_after
    info = {'success': terminated}
    return self._observation(), float(action[0]), terminated, truncated, info

  def render(self):
    return None

  def _observation(self):
    # Returns the same array every time, as some environments do.
    return {'value': self._value, 'image': np.zeros((2, 2), np.uint8)}


class _CounterDomain(domain.Domain):

  max_episode_steps = 6

  def make_environment(self, seed, evaluation):
    return gymnasium_adapter.GymnasiumEnvironment(
        _Counter(), seed=seed, max_episode_steps=6
    )

  def observation_spec(self):
    return {
        'value': specs.Array((1,), np.float32, 'value'),
        'image': specs.Array((2, 2), np.uint8, 'image'),
    }

  def action_spec(self):
    return specs.BoundedArray((1,), np.float32, -1.0, 1.0, 'action')


class GymnasiumConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return _CounterDomain()


def _adapt(**kwargs):
  truncate_after = kwargs.pop('truncate_after', None)
  kwargs.setdefault(
      'select_observation', lambda observation: observation['value']
  )
  environment = gymnasium_adapter.GymnasiumEnvironment(
      _Counter(truncate_after), seed=0, **kwargs
  )
  return environment, environment.reset()


def _adapt_image(shape):
  counter = _Counter()
  counter.observation_space = gymnasium.spaces.Dict(
      {'camera': gymnasium.spaces.Box(0, 255, shape, np.uint8)}
  )
  return gymnasium_adapter.GymnasiumEnvironment(counter, seed=0)


class GymnasiumEnvironmentTest(parameterized.TestCase):

  @parameterized.parameters(
      (gymnasium.spaces.Discrete(3),),
      (gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(3)]),),
  )
  def test_other_observation_spaces_are_refused(self, space):
    environment = _Counter()
    environment.observation_space = space
    with self.assertRaisesRegex(ValueError, 'a box or a dict of boxes, got'):
      gymnasium_adapter.GymnasiumEnvironment(
          environment, seed=0, max_episode_steps=6
      )

  @parameterized.parameters((-1.0, 0.0), (0.0, 2.0), (0.5, 3.0), (1.0, 4.0))
  def test_actions_are_mapped_to_the_box(self, action, raw):
    # [-1, 1] -> [0, 4]: raw = 2 * action + 2.
    environment, first = _adapt()
    step = environment.step(np.array([action], np.float32))
    np.testing.assert_allclose(step.observation - first.observation, [raw])
    self.assertAlmostEqual(float(step.reward), raw)

  def test_a_reset_without_a_new_seed_continues_the_random_sequence(self):
    environment, first = _adapt()
    second = environment.reset()
    self.assertNotEqual(second.observation[0], first.observation[0])
    environment.seed(0)
    again = environment.reset()
    self.assertEqual(again.observation[0], first.observation[0])

  def test_actions_of_integers_are_rounded(self):
    counter = _Counter()
    counter.action_space = gymnasium.spaces.Box(0, 2, (1,), np.int64)
    environment = gymnasium_adapter.GymnasiumEnvironment(counter, seed=0)
    environment.reset()
    rewards = [
        float(environment.step(np.array([x], np.float32)).reward)
        for x in (-1.0, -0.6, -0.4, 0.4, 0.6, 1.0)
    ]
    self.assertEqual(rewards, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0])

  def test_action_repeat_sums_rewards(self):
    environment, _ = _adapt(action_repeat=3)
    step = environment.step(np.array([0.0], np.float32))
    self.assertEqual(float(step.reward), 6.0)  # 3 * 2.

  def test_success_stops_the_repetition(self):
    environment, _ = _adapt(
        action_repeat=3, success_signal=success.SuccessSignal(None, 1.0)
    )
    self.assertEqual(environment.step(np.zeros(1)).reward, 2.0)
    self.assertTrue(environment.is_success())

  def test_an_episode_end_stops_the_repetition(self):
    environment, _ = _adapt(action_repeat=100)
    step = environment.step(np.array([1.0], np.float32))
    # Starts below 1 and adds 4 per step: the third step reaches 10.
    self.assertEqual(float(step.reward), 12.0)
    self.assertTrue(step.last())
    self.assertEqual(float(step.discount), 0.0)
    self.assertTrue(environment.is_success())

  @parameterized.parameters(
      dict(truncate_after=2), dict(max_episode_steps=2)
  )
  def test_truncation_becomes_a_timeout(self, **kwargs):
    environment, _ = _adapt(**kwargs)
    steps = [environment.step(np.array([-1.0], np.float32)) for _ in range(2)]
    self.assertEqual([step.last() for step in steps], [False, True])
    self.assertEqual(float(steps[-1].discount), 1.0)
    self.assertFalse(environment.is_success())

  @parameterized.parameters(
      dict(truncate_after=2), dict(max_episode_steps=2), {}
  )
  def test_a_robot_stops_at_the_end_of_each_episode(self, **kwargs):
    stopped = []
    with mock.patch.object(
        _Counter, 'stop_robot', lambda self: stopped.append(True), create=True
    ):
      environment, _ = _adapt(**kwargs)
      environment.step(np.array([-1.0], np.float32))
      self.assertEmpty(stopped)
      if not kwargs:
        environment.abandon()
        self.assertTrue(environment.step(np.ones([1], np.float32)).first())
      else:
        environment.step(np.array([-1.0], np.float32))
    self.assertEqual(stopped, [True])

  def test_positive_reward_can_define_success(self):
    environment, _ = _adapt(success_signal=success.SuccessSignal(None))
    environment.step(np.array([-1.0], np.float32))
    self.assertFalse(environment.is_success())
    environment.step(np.array([0.0], np.float32))
    self.assertTrue(environment.is_success())

  def test_observations_are_cast_and_uint8_is_kept(self):
    environment, first = _adapt(select_observation=None)
    self.assertEqual(first.observation['value'].dtype, np.float32)
    self.assertEqual(first.observation['image'].dtype, np.uint8)
    self.assertEqual(environment.observation_spec()['image'].dtype, np.uint8)

  @parameterized.parameters(
      (dict(action_repeat=0), 'action_repeat'),
      (dict(max_episode_steps=0), 'max_episode_steps'),
  )
  def test_values_out_of_range_are_errors(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _adapt(**arguments)

  def test_a_reward_outside_its_range_is_warned_of_once(self):
    reward_range = gymnasium_adapter.RewardRange(0.0, 3.0)
    environment, _ = _adapt(reward_range=reward_range)
    with self.assertNoLogs(level='WARNING'):
      environment.step(np.full([1], 0.5, np.float32))  # A reward of 3.
    with self.assertLogs(level='WARNING') as logs:
      environment.step(np.ones([1], np.float32))
    self.assertIn('reward of 4, but `Gymnasium.reward_range` is (0, 3)',
                  logs.output[0])
    with self.assertNoLogs(level='WARNING'):
      environment.step(np.ones([1], np.float32))

  def test_an_observation_unlike_its_space_is_an_error(self):
    environment, _ = _adapt(select_observation=None)
    task = environment.gymnasium_environment
    for changed, message in (
        ({'value': np.zeros(2)}, r"'value' must have shape \[1\].*got \[2\]"),
        ({'goal': np.zeros(1)}, r"the parts.*\['image', 'value'\], got.*goal"),
    ):
      observation = {**task._observation(), **changed}
      task._observation = lambda x=observation: x
      with self.assertRaisesRegex(ValueError, message):
        environment.step(np.zeros([1], np.float32))
      del task._observation

  def test_an_error_without_a_render_mode_names_that(self):
    environment, _ = _adapt()
    task = environment.gymnasium_environment
    fault = AttributeError('Unexpected mode: None')
    with mock.patch.object(task, 'render', side_effect=fault):
      with self.assertRaisesRegex(NotImplementedError, 'rgb_array.*got None'):
        environment.render()
      with (
          mock.patch.object(task, 'render_mode', 'rgb_array'),
          self.assertRaisesRegex(AttributeError, 'Unexpected mode'),
      ):
        environment.render()

  def test_an_array_instead_of_a_dict_is_an_error(self):
    environment, _ = _adapt(select_observation=None)
    task = environment.gymnasium_environment
    observed = task._observation()
    with (
        mock.patch.object(task, '_observation', lambda: observed['value']),
        self.assertRaisesRegex(ValueError, r"'value'\], got one array"),
    ):
      environment.reset()

  def test_task_that_draws_nothing_names_the_render_mode(self):
    environment, _ = _adapt()
    with self.assertRaisesRegex(NotImplementedError, 'rgb_array.*got None'):
      environment.render()

  def test_a_dict_within_a_dict_is_named(self):
    environment = _Counter()
    environment.observation_space = gymnasium.spaces.Dict(
        {'goal': gymnasium.spaces.Dict({'kettle': environment.action_space})}
    )
    with self.assertRaisesRegex(ValueError, "'goal' is a dict of.*flatten"):
      gymnasium_adapter.GymnasiumEnvironment(environment, seed=0)

  @parameterized.parameters(
      ([3, 96, 96], '[96, 96, 3]'), ([4, 84, 60], '[84, 60, 4]')
  )
  def test_an_image_with_its_channels_first_is_refused(self, shape, wanted):
    with self.assertRaises(ValueError) as raised:
      _adapt_image(shape)
    message = str(raised.exception)
    for part in "'camera'", wanted, f'got {shape}', 'transpose(1, 2, 0)':
      self.assertIn(part, message)

  @parameterized.parameters([(96, 64, 3)], [(84, 84, 12)], [(1, 64, 3)])
  def test_an_image_with_its_channels_last_is_accepted(self, shape):
    spec = _adapt_image(shape).observation_spec()
    self.assertEqual(spec['camera'].shape, shape)

  def test_bounds_of_integers_such_as_tokens_are_in_the_spec(self):
    environment = _Counter()
    environment.observation_space = gymnasium.spaces.Dict({
        'words': gymnasium.spaces.Box(0, 63, (5,), np.int64),
        'bytes': gymnasium.spaces.Box(0, 255, (5,), np.uint8),
        'counts': gymnasium.spaces.Box(0, 2**31 - 1, (5,), np.int32),
        'state': gymnasium.spaces.Box(-1.0, 1.0, (5,), np.float32),
    })
    spec = gymnasium_adapter.GymnasiumEnvironment(
        environment, seed=0
    ).observation_spec()
    self.assertEqual(
        spec['words'], specs.BoundedArray((5,), np.float32, 0, 63, 'words')
    )
    # 255 is the limit of the dtype; it says nothing about a vocabulary.
    self.assertFalse(hasattr(spec['bytes'], 'maximum'))
    self.assertFalse(hasattr(spec['counts'], 'maximum'))
    self.assertFalse(hasattr(spec['state'], 'maximum'))

    changed = gymnasium_adapter.GymnasiumEnvironment(
        environment,
        seed=0,
        select_observation=lambda parts: {'words': 2 * parts['words']},
    ).observation_spec()
    self.assertFalse(hasattr(changed['words'], 'maximum'))

    environment.observation_space = gymnasium.spaces.Box(0, 9, (5,), np.int64)
    single = gymnasium_adapter.GymnasiumEnvironment(environment, seed=0)
    self.assertEqual(single.observation_spec().maximum.max(), 9)

  def test_rounding_stays_within_the_box(self):
    counter = _Counter()
    counter.action_space = gymnasium.spaces.Box(-0.75, -0.19, (1,), np.float64)
    environment = gymnasium_adapter.GymnasiumEnvironment(counter, seed=0)
    environment.reset()
    with mock.patch.object(counter, 'step', wraps=counter.step) as step:
      environment.step(np.ones([1], np.float32))
    self.assertTrue(counter.action_space.contains(step.call_args[0][0]))

  def test_a_dimension_without_choice_is_named(self):
    environment = _Counter()
    environment.action_space = gymnasium.spaces.Box(
        np.array([-1.0, 0.0]), np.array([1.0, 0.0]), dtype=np.float64
    )
    with self.assertRaisesRegex(ValueError, r'got \[0.0, 0.0\] in dimension 1'):
      gymnasium_adapter.GymnasiumEnvironment(environment, seed=0)

  def test_unbounded_actions_are_an_error(self):
    environment = _Counter()
    environment.action_space = gymnasium.spaces.Box(-np.inf, 1, (1,))
    with self.assertRaisesRegex(ValueError, 'one-axis bounded box'):
      gymnasium_adapter.GymnasiumEnvironment(environment, seed=0)


if __name__ == '__main__':
  absltest.main()
