"""Conformance tests of domains; inherit them and define `make_domain`.

  class PointMazeConformanceTest(
      domain_conformance.DomainConformance, parameterized.TestCase
  ):

    def make_domain(self):
      return pointmaze.PointMaze(max_episode_steps=20)

Use short episodes, because the tests play several.
"""

from dm_env import test_utils
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import extrapolation


class DomainConformance(test_utils.EnvironmentTestMixin):
  """Tests dm_env's contract, seeding, episode ends, success and constants."""

  def make_domain(self):
    """Returns the domain under test."""
    raise NotImplementedError

  def make_object_under_test(self):
    self.domain = self.make_domain()
    return self.domain.make_environment(seed=0, evaluation=True)

  def make_action_sequence(self):
    random = np.random.default_rng(0)
    for _ in range(2 * self.domain.max_episode_steps + 2):
      yield self._random_action(random)

  def test_specs_of_domain_and_environment_agree(self):
    self.assertEqual(
        self.domain.observation_spec(), self.environment.observation_spec()
    )
    self.assertEqual(self.domain.action_spec(), self.environment.action_spec())

  def test_actions_are_float32_in_the_unit_box(self):
    spec = self.environment.action_spec()
    self.assertLen(spec.shape, 1)
    self.assertEqual(spec.dtype, np.float32)
    self.assertTrue(np.all(spec.minimum == -1))
    self.assertTrue(np.all(spec.maximum == 1))

  def test_raw_action_bounds_have_the_shape_of_an_action(self):
    low, high = self.domain.raw_action_bounds
    self.assertEqual(low.shape, self.domain.action_spec().shape)
    self.assertEqual(high.shape, self.domain.action_spec().shape)
    self.assertTrue(np.all(low < high))

  def test_observations_are_float32_or_uint8(self):
    for spec in tree.flatten(self.environment.observation_spec()):
      self.assertIn(spec.dtype, (np.float32, np.uint8))

  def test_seed_determines_the_start_regardless_of_history(self):
    self.environment.seed(7)
    expected = self.environment.reset().observation
    self._play(self.environment, seed=1, max_steps=3)
    self.environment.seed(7)
    self._assert_same(self.environment.reset().observation, expected)

  def test_seed_at_construction_determines_the_start(self):
    self.environment.seed(11)
    expected = self.environment.reset().observation
    other = self.domain.make_environment(seed=11, evaluation=True)
    self._assert_same(other.reset().observation, expected)
    other.close()

  def test_resets_after_a_seed_repeat(self):
    def starts():
      self.environment.seed(3)
      return [self.environment.reset().observation for _ in range(4)]

    self._assert_same(starts(), starts())

  def test_seeds_give_different_starts(self):
    starts = []
    for seed in range(4):
      self.environment.seed(seed)
      starts.append(
          np.concatenate([
              np.ravel(x)
              for x in tree.flatten(self.environment.reset().observation)
          ])
      )
    self.assertGreater(np.max(np.ptp(starts, axis=0)), 0)

  def test_seed_and_actions_determine_an_episode_exactly(self):
    other = self.domain.make_environment(seed=0, evaluation=True)
    # A different history must have no effect.
    self._play(other, seed=9, max_steps=5)
    self._assert_same(
        self._play(self.environment, seed=5), self._play(other, seed=5)
    )
    other.close()

  def test_the_number_of_environments_is_limited(self):
    limit = self.domain.max_environments
    made = {id(self.environment): self.environment}
    for seed in range(limit or 3):
      environment = self.domain.make_environment(seed, evaluation=False)
      made[id(environment)] = environment
    self.assertLen(made, limit or 4)
    for environment in made.values():
      environment.close()

  def test_environments_do_not_disturb_each_other(self):
    if self.domain.max_environments == 1:
      return
    expected = self._play(self.environment, seed=2, max_steps=5)
    self.environment.seed(2)
    other = self.domain.make_environment(seed=8, evaluation=True)
    random = np.random.default_rng(2)
    observations = [self.environment.reset().observation]
    other.reset()
    for _ in range(len(expected) - 1):
      action = self._random_action(random)
      observations.append(self.environment.step(action).observation)
      other.step(-action)
    self._assert_same(observations, expected)
    other.close()

  def test_returned_observations_are_never_overwritten(self):
    first = self.environment.reset().observation
    kept = tree.map_structure(np.copy, first)
    self._play(self.environment, seed=0, max_steps=3)
    self._assert_same(first, kept)

  def test_no_episode_is_longer_than_max_episode_steps(self):
    self.environment.seed(0)
    self.environment.reset()
    random = np.random.default_rng(0)
    for _ in range(self.domain.max_episode_steps):
      time_step = self.environment.step(self._random_action(random))
      if time_step.last():
        break
    self.assertTrue(time_step.last())
    # Only terminal steps have discount 0; timeouts have discount 1.
    self.assertIn(float(time_step.discount), (0.0, 1.0))

  def test_success_is_defined_before_and_after_steps(self):
    self.environment.reset()
    self.assertIsInstance(self.environment.is_success(), bool)
    self.environment.step(self._random_action(np.random.default_rng(0)))
    self.assertIsInstance(self.environment.is_success(), bool)

  def test_an_action_of_the_wrong_shape_is_an_error(self):
    self.environment.reset()
    size = self.environment.action_spec().shape[0]
    with self.assertRaisesRegex(ValueError, 'shape'):
      self.environment.step(np.zeros([size + 1], np.float32))

  def test_an_action_that_is_not_finite_is_an_error(self):
    self.environment.reset()
    shape = self.environment.action_spec().shape
    with self.assertRaisesRegex(ValueError, 'finite'):
      self.environment.step(np.full(shape, np.nan, np.float32))

  def test_controller_repeats_with_its_seed_and_stays_in_bounds(self):
    controller = self.domain.make_data_controller(self.environment)
    if controller is None:
      return
    actions = []
    for _ in range(2):
      controller.reset(4)
      self.environment.seed(4)
      time_step = self.environment.reset()
      actions.append([])
      for _ in range(5):
        if time_step.last():
          break
        action = controller.action(time_step, self.environment)
        self.environment.action_spec().validate(action)
        actions[-1].append(action)
        time_step = self.environment.step(action)
    self._assert_same(actions[0], actions[1])

  def test_infos_keep_their_names_and_shapes(self):
    self.environment.reset()
    before = self.environment.info()
    self.environment.step(self._random_action(np.random.default_rng(0)))
    tree.map_structure(
        lambda x, y: self.assertEqual(np.shape(x), np.shape(y)),
        dict(before), dict(self.environment.info()),
    )

  def test_normalization_has_the_structure_of_the_observation(self):
    normalization = self.domain.normalization
    if normalization is None:
      return
    for statistic in (normalization.mean, normalization.standard_deviation):
      specs = self.domain.observation_spec()
      tree.assert_same_structure(statistic, specs)
      for x, spec in zip(tree.flatten(statistic), tree.flatten(specs)):
        if x is not None:  # Images have no statistics.
          self.assertEqual(x.shape, spec.shape)
    for deviation in tree.flatten(normalization.standard_deviation):
      if deviation is not None:
        self.assertTrue(np.all(deviation > 0))

  def test_value_of_never_succeeding_is_a_number_or_unknown(self):
    value = self.domain.never_succeeds_value(0.99)
    if value is not None:
      self.assertTrue(np.isfinite(value))
    else:  # Or the returns of failures would rise to 0 at the time limit.
      self.assertTrue(extrapolation.extrapolates_returns(self.domain, 0.99))

  def test_returns_are_in_the_value_range(self):
    value_range = self.domain.value_range(0.9)
    if value_range is None:
      return
    lowest, highest = value_range
    self.assertLess(lowest, highest)
    never = self.domain.never_succeeds_value(0.9)
    if never is not None:
      self.assertBetween(never, lowest, highest)
    self.environment.seed(0)
    time_step = self.environment.reset()
    random = np.random.default_rng(0)
    rewards = []
    while not time_step.last() and len(rewards) < 100:
      time_step = self.environment.step(self._random_action(random))
      rewards.append(
          self.domain.reward_scale * time_step.reward + self.domain.reward_bias
      )
    self.assertBetween(
        np.sum(rewards * 0.9 ** np.arange(len(rewards))), lowest, highest
    )

  def test_scores_are_between_0_and_100(self):
    for success in (False, True):
      score = self.domain.score([self._episode(success)] * 2)
      self.assertBetween(score, 0.0, 100.0)

  def _episode(self, success: bool) -> types.Episode:
    steps = 2
    return types.Episode(
        observation=tree.map_structure(
            lambda spec: np.zeros((steps + 1,) + spec.shape, spec.dtype),
            self.domain.observation_spec(),
        ),
        action=np.zeros(
            (steps,) + self.domain.action_spec().shape, np.float32
        ),
        reward=np.zeros([steps], np.float32),
        discount=np.ones([steps], np.float32),
        success=np.array([False, success]),
    )

  def _random_action(self, random: np.random.Generator) -> np.ndarray:
    shape = self.environment.action_spec().shape
    return random.uniform(-1, 1, shape).astype(np.float32)

  def _play(self, environment, seed: int, max_steps: int = 10_000):
    """Returns the observations of an episode of random actions."""
    environment.seed(seed)
    random = np.random.default_rng(seed)
    time_step = environment.reset()
    observations = [time_step.observation]
    while not time_step.last() and len(observations) <= max_steps:
      time_step = environment.step(self._random_action(random))
      observations.append(time_step.observation)
    return observations

  def _assert_same(self, seen, expected):
    tree.map_structure(np.testing.assert_array_equal, seen, expected)
