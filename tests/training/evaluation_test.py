"""Tests of evaluating a policy over whole episodes."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.domains import domain as domain_lib
from parl_tf.training import evaluation
from tests.training import line_walk
from tests.training import small_run


def _forward(observation, seed):
  del seed
  return np.ones([len(observation), 1], np.float32)


def _random(observation, seed):
  generator = np.random.default_rng(seed.view(np.uint32))
  return generator.uniform(-1.0, 1.0, [len(observation), 1])


def _starts(result):
  return np.stack([episode.observation[0] for episode in result.episodes])


def _evaluate(domain, act, **kwargs):
  return evaluation.Evaluator(domain, **kwargs).run(act)


class EvaluationTest(parameterized.TestCase):

  def test_successful_episode_ends_with_discount_0(self):
    result = _evaluate(
        line_walk.LineWalk(), _forward, num_episodes=8, seed=3
    )
    np.testing.assert_array_equal(result.successes, [True] * 8)
    self.assertEqual(result.success_rate, 1.0)
    self.assertEqual(result.score, 100.0)
    for i, episode in enumerate(result.episodes):
      start = episode.observation[0, 0]
      # Each step moves by 0.5; the goal is at 2.
      num_steps = int(np.ceil((2.0 - start) / 0.5))
      self.assertEqual(episode.num_steps, num_steps)
      self.assertEqual(episode.num_transitions, num_steps)
      self.assertEqual(episode.episode_id, i)
      np.testing.assert_allclose(
          episode.observation[:, 0],
          start + 0.5 * np.arange(num_steps + 1),
          atol=1e-6,
      )
      last = np.arange(num_steps) == num_steps - 1
      np.testing.assert_array_equal(episode.action, np.ones([num_steps, 1]))
      np.testing.assert_array_equal(episode.reward, last.astype(np.float32))
      np.testing.assert_array_equal(episode.discount, 1.0 - last)
      np.testing.assert_array_equal(episode.success, last)
    self.assertEqual(
        result.num_environment_steps, sum(e.num_steps for e in result.episodes)
    )

  def test_speed_is_measured(self):
    # From the starts, ceil((2 - start) / 0.5) steps reach the goal.
    domain = line_walk.LineWalk()
    domain.reward_scale, domain.reward_bias = 2.0, -3.0
    result = _evaluate(domain, _forward, num_episodes=3, seed=3)
    steps = np.ceil((2.0 - _starts(result)[:, 0]) / 0.5)
    self.assertAlmostEqual(result.steps_to_success, np.mean(steps))
    # -3 per step, and 2 - 3 for the last one.
    self.assertAlmostEqual(result.mean_return, np.mean(-3 * steps + 2), 5)
    self.assertEqual(
        result.metrics('_alone'),
        {
            'success_rate_alone': 1.0,
            'score_alone': 100.0,
            'steps_to_success_alone': result.steps_to_success,
            'mean_return_alone': result.mean_return,
        },
    )

  def test_without_success_there_are_no_steps_to_it(self):
    result = _evaluate(
        line_walk.LineWalk(max_episode_steps=2),
        lambda observation, seed: -_forward(observation, seed),
        num_episodes=2,
        seed=0,
    )
    self.assertIsNone(result.steps_to_success)
    self.assertNotIn('steps_to_success', result.metrics())

  def test_time_out_keeps_discount_1(self):
    result = _evaluate(
        line_walk.LineWalk(max_episode_steps=2),
        lambda observation, seed: -_forward(observation, seed),
        num_episodes=2,
        seed=0,
    )
    self.assertEqual(result.success_rate, 0.0)
    for episode in result.episodes:
      np.testing.assert_array_equal(episode.discount, [1.0, 1.0])
      np.testing.assert_array_equal(episode.success, [False, False])

  def test_every_run_has_the_same_start_states_and_draws(self):
    evaluator = evaluation.Evaluator(
        line_walk.LineWalk(), num_episodes=4, seed=5
    )
    first = evaluator.run(_random)
    other = evaluator.run(_forward)
    again = evaluator.run(_random)
    from_new_evaluator = _evaluate(
        line_walk.LineWalk(), _random, num_episodes=4, seed=5
    )
    np.testing.assert_array_equal(_starts(first), _starts(other))
    for i in range(4):
      for repeated in (again, from_new_evaluator):
        np.testing.assert_array_equal(
            first.episodes[i].observation, repeated.episodes[i].observation
        )

  def test_start_states_differ_between_episodes_and_seeds(self):
    starts = [
        _starts(
            _evaluate(
                line_walk.LineWalk(), _forward, num_episodes=4, seed=seed
            )
        )[:, 0]
        for seed in (0, 1)
    ]
    self.assertLen(np.unique(starts), 8)

  def test_environments_are_made_once(self):
    domain = line_walk.LineWalk()
    evaluator = evaluation.Evaluator(domain, num_episodes=3, seed=0)
    evaluator.run(_forward)
    evaluator.run_controller()
    evaluator.run(_forward)
    self.assertLen(domain.environments, 3)
    evaluator.close()
    self.assertTrue(all(e.is_closed for e in domain.environments))
    evaluator.run(_forward)
    self.assertLen(domain.environments, 6)

  def test_policy_sees_the_full_batch_and_finished_rows_repeat(self):
    calls = []

    def act(observation, seed):
      calls.append((observation.copy(), seed.copy()))
      return _forward(observation, seed)

    result = _evaluate(
        line_walk.LineWalk(), act, num_episodes=6, seed=1
    )
    lengths = [episode.num_steps for episode in result.episodes]
    self.assertGreater(len(set(lengths)), 1)
    self.assertLen(calls, max(lengths))
    for step, (observation, seed) in enumerate(calls):
      self.assertEqual(observation.shape, (6, 2))
      self.assertEqual(seed.dtype, np.int32)
      np.testing.assert_array_equal(seed, evaluation.decision_seed(1, step))
      for i, episode in enumerate(result.episodes):
        np.testing.assert_array_equal(
            observation[i], episode.observation[min(step, lengths[i])]
        )

  def test_seeds_of_decisions_are_fixed_pairs_that_differ(self):
    seeds = [tuple(evaluation.decision_seed(2, t)) for t in range(50)]
    seeds += [tuple(evaluation.decision_seed(3, t)) for t in range(50)]
    self.assertLen(set(seeds), 100)
    np.testing.assert_array_equal(
        evaluation.decision_seed(2, 7), evaluation.decision_seed(2, 7)
    )

  def test_dict_observations_are_batched_by_key(self):
    def act(observation, seed):
      del seed
      self.assertEqual(observation['place'].shape, (3, 1))
      self.assertEqual(observation['time'].shape, (3, 1))
      return np.ones_like(observation['place'])

    result = _evaluate(
        line_walk.LineWalk(is_dict=True), act, num_episodes=3, seed=0
    )
    episode = result.episodes[0]
    np.testing.assert_array_equal(
        episode.observation['time'][:, 0], np.arange(episode.num_steps + 1)
    )

  def test_observer_sees_every_state(self):
    seen = []
    domain = line_walk.LineWalk()
    result = evaluation.Evaluator(domain, num_episodes=2, seed=0).run(
        _forward, lambda _, running, unused_step: seen.append(running.copy())
    )
    self.assertLen(seen, 1 + max(e.num_steps for e in result.episodes))
    np.testing.assert_array_equal(seen[0], [True, True])
    np.testing.assert_array_equal(seen[-1], [False, False])

  def test_live_policy_repeats_its_episodes(self):
    evaluator = evaluation.Evaluator(
        small_run.make_domain(), num_episodes=2, seed=0
    )
    policy = small_run.make_agent().greedy_policy

    first, again = (evaluator.run_policy(policy) for _ in range(2))
    other = evaluation.Evaluator(
        small_run.make_domain(), num_episodes=2, seed=0
    )
    other.compile_ahead([policy])

    for result in (again, other.run_policy(policy)):
      for one, same in zip(first.episodes, result.episodes, strict=True):
        np.testing.assert_array_equal(one.action, same.action)

  def test_failed_compilation_is_an_error_of_the_evaluation(self):

    class Broken:
      is_served = False
      time_step_spec = small_run.make_agent().time_step_spec

      def act(self, observation, seed):
        raise ValueError('This policy cannot act.')

    evaluator = evaluation.Evaluator(
        small_run.make_domain(), num_episodes=2, seed=0
    )
    policy = Broken()
    evaluator.compile_ahead([policy])
    with self.assertRaisesRegex(ValueError, 'cannot act'):
      evaluator.run_policy(policy)

  def test_controller_plays_from_the_same_start_states(self):
    evaluator = evaluation.Evaluator(
        line_walk.LineWalk(), num_episodes=4, seed=5
    )
    first = evaluator.run_controller()
    again = evaluation.Evaluator(
        line_walk.LineWalk(), num_episodes=4, seed=5
    ).run_controller()
    self.assertEqual(first.success_rate, 1.0)
    np.testing.assert_array_equal(
        _starts(first), _starts(evaluator.run(_forward))
    )
    for one, other in zip(first.episodes, again.episodes, strict=True):
      np.testing.assert_array_equal(one.action, other.action)
    first_actions = [episode.action[0, 0] for episode in first.episodes]
    self.assertLen(set(first_actions), 4)

  def _limited(self, max_environments, **kwargs):
    domain = line_walk.LineWalk(**kwargs)
    domain.max_environments = max_environments
    return domain

  @parameterized.parameters(1, 4, 6, 99)
  def test_groups_play_the_episodes_of_one_batch(self, max_environments):
    domain = self._limited(max_environments)
    sizes = []

    def act(observation, seed):
      sizes.append(len(observation))
      return _forward(observation, seed)

    evaluator = evaluation.Evaluator(domain, num_episodes=6, seed=3)
    wanted = evaluation.Evaluator(
        line_walk.LineWalk(), num_episodes=6, seed=3
    )
    for seen, other in (
        (evaluator.run(act), wanted.run(_forward)),
        (evaluator.run_controller(), wanted.run_controller()),
    ):
      self.assertEqual(
          [e.episode_id for e in seen.episodes], [0, 1, 2, 3, 4, 5]
      )
      for one, episode in zip(seen.episodes, other.episodes, strict=True):
        np.testing.assert_array_equal(one.observation, episode.observation)
        np.testing.assert_array_equal(one.action, episode.action)
    self.assertLen(domain.environments, min(6, max_environments))
    # A compiled policy has a fixed batch size.
    self.assertEqual(set(sizes), {min(6, max_environments)})

  def test_padding_rows_of_the_last_group_repeat(self):
    rows = []

    def act(observation, seed):
      rows.append(observation.copy())
      return _forward(observation, seed)

    result = _evaluate(
        self._limited(4), act, num_episodes=5, seed=3
    )
    last = result.episodes[4]
    for step, observation in enumerate(rows[-last.num_steps :]):
      np.testing.assert_array_equal(observation[0], last.observation[step])
      for row in (1, 2, 3):
        np.testing.assert_array_equal(
            observation[row], result.episodes[row].observation[-1]
        )

  def test_decisions_of_groups_have_distinct_seeds(self):
    seeds = []

    def act(observation, seed):
      seeds.append(tuple(seed))
      return _forward(observation, seed)

    _evaluate(self._limited(1), act, num_episodes=3, seed=3)
    self.assertLen(set(seeds), len(seeds))
    self.assertEqual(seeds[0], tuple(evaluation.decision_seed(3, 0)))

  def test_observer_of_groups_sees_each_episode_run_once(self):
    domain, seen = self._limited(2), []

    def observe(environments, running, unused_step):
      self.assertEqual(environments, (domain.environments * 2)[:3])
      seen.append(running.tolist())

    result = evaluation.Evaluator(domain, num_episodes=3, seed=0).run(
        _forward, observe
    )
    first, second, third = (e.num_steps for e in result.episodes)
    size = 1 + max(first, second)
    self.assertLen(seen, size + 1 + third)
    for step, running in enumerate(seen[:size]):
      self.assertEqual(running, [step < first, step < second, False])
    for step, running in enumerate(seen[size:]):
      self.assertEqual(running, [False, False, step < third])

  def test_a_lost_episode_repeats_only_its_group(self):
    domain = self._limited(2)

    def act(observation, seed):
      del seed
      # Chunks: the lost attempt leaves unused actions.
      return np.linspace(0.5, 1.0, 3)[np.newaxis, :, np.newaxis].repeat(
          len(observation), axis=0
      )

    evaluator = evaluation.Evaluator(domain, num_episodes=4, seed=0)
    wanted = evaluator.run(act)
    for environment in domain.environments:
      environment.num_resets = 0
    walk, lost = domain.environments[1].step, []

    def step(action):
      if domain.environments[1].num_resets == 2 and not lost:
        lost.append(True)
        raise domain_lib.EpisodeLostError('The second group is lost.')
      return walk(action)

    domain.environments[1].step = step
    result = evaluator.run(act)
    self.assertEqual([e.num_resets for e in domain.environments], [3, 3])
    for one, other in zip(result.episodes, wanted.episodes, strict=True):
      np.testing.assert_array_equal(one.action, other.action)

  def test_domain_without_controller_returns_none(self):
    domain = line_walk.LineWalk(has_controller=False)
    evaluator = evaluation.Evaluator(domain, num_episodes=2, seed=0)
    for domain.max_environments in None, 1:  # A robot does not move.
      self.assertIsNone(evaluator.run_controller())
      self.assertEqual(domain.environments[0].num_resets, 1)

  @parameterized.named_parameters(
      ('nan', np.nan, 'got nan in dimension 0 of episode 1 at decision 0'),
      ('infinity', -np.inf, 'got -inf'),
      ('outside', 1.01, r'in \[-1, 1\], got 1.0'),
  )
  def test_bad_action_is_an_error(self, value, message):
    with self.assertRaisesRegex(ValueError, message):
      _evaluate(
          line_walk.LineWalk(),
          lambda observation, seed: np.array([[0.0], [value]]),
          num_episodes=2,
          seed=0,
      )

  def test_wrong_action_shape_is_an_error(self):
    with self.assertRaisesRegex(ValueError, r'shape \[2, 1\].*got \[2\]'):
      _evaluate(
          line_walk.LineWalk(), lambda *_: np.zeros([2]), num_episodes=2, seed=0
      )

  def test_episode_that_does_not_end_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'within the 2 steps'):
      _evaluate(
          line_walk.LineWalk(max_episode_steps=2, time_limit=5),
          lambda observation, seed: -_forward(observation, seed),
          num_episodes=2,
          seed=0,
      )

  @parameterized.named_parameters(
      ('no_episodes', 0, 0, 'num_episodes'), ('negative_seed', 1, -1, 'seed')
  )
  def test_bad_arguments_are_errors(self, num_episodes, seed, message):
    domain = line_walk.LineWalk()
    with self.assertRaisesRegex(ValueError, message):
      evaluation.Evaluator(domain, num_episodes=num_episodes, seed=seed)


if __name__ == '__main__':
  absltest.main()
