"""Tests of the actions at a batch of states, and of their search."""

from absl.testing import absltest
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import iql
from parl_tf.policies import gaussian
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import state_actions
from tests import tensor_case
from tests.agents import small_agent

_SEED = (3, 5)


class _CountingOptimizer(action_optimizer.ActionOptimizer):
  """Counts its searches."""

  num_searches = 0

  def optimize(self, *args, **kwargs):
    self.num_searches += 1
    return super().optimize(*args, **kwargs)


class _CountingPolicy(gaussian.GaussianPolicy):
  """Counts its draws."""

  num_draws = 0

  def sample_with_log_prob(self, *args, **kwargs):
    self.num_draws += 1
    return super().sample_with_log_prob(*args, **kwargs)


class _GivenActions:
  """Returns given actions `{purpose: ActionSamples}`."""

  def __init__(self, samples):
    self._samples = samples

  def optimized(self, n, purpose='target', **unused_options):
    del n
    return self._samples[purpose]


def _make_policy():
  return small_agent.make_policy(_CountingPolicy)


def _make_search(num_samples=4, selection='argmax', **kwargs):
  optimizer = _CountingOptimizer(2, 2, 0.1)
  return action_source.Search(num_samples, optimizer, selection, **kwargs)


def _make_source(search, policy=None, critic=None, seed=_SEED, **kwargs):
  """Returns the source of a small batch."""
  transition = small_agent.make_transition()
  return state_actions.make_source(
      search,
      policy or _make_policy(),
      critic or small_agent.make_critic(),
      transition,
      tf.constant(seed),
      **kwargs,
  )


def _is_among(actions, others):
  """Returns `[B, N]`, whether each of `[B, N, A]` is one of `[B, M, A]`."""
  is_equal = actions[:, :, tf.newaxis] == others[:, tf.newaxis]
  return tf.reduce_any(tf.reduce_all(is_equal, axis=-1), axis=-1)


class CountingTest(tensor_case.TensorCase):

  def test_one_search_at_each_state_serves_the_whole_critic_loss(self):
    search, policy = _make_search(), _make_policy()
    critic = small_agent.make_critic()
    source = _make_source(search, policy, critic)

    critic.loss(small_agent.make_transition(), source, tf.constant(_SEED))

    # One search at s', for target and penalty, and one at s.
    self.assertEqual(search.optimizer.num_searches, 2)
    self.assertEqual(policy.num_draws, 2)

  def test_iql_draws_no_actions(self):
    search, policy = _make_search(), _make_policy()
    critic = small_agent.make_critic(iql.IQLCritic)
    source = _make_source(search, policy, critic)

    critic.loss(small_agent.make_transition(), source, tf.constant(_SEED))

    self.assertEqual(search.optimizer.num_searches, 0)
    self.assertEqual(policy.num_draws, 0)

  def test_candidates_are_cached(self):
    search, policy = _make_search(), _make_policy()
    source = _make_source(search, policy)

    first = source.here.candidates()
    again = source.here.candidates()

    self.assertIs(first.actions, again.actions)
    self.assertEqual(search.optimizer.num_searches, 1)
    self.assertEqual(policy.num_draws, 1)

  def test_searches_with_and_without_dataset_action_share_samples(self):
    search, policy = _make_search(), _make_policy()
    source = _make_source(search, policy)

    source.here.candidates()
    action = small_agent.make_transition().action_step.action
    source.here.candidates(action)

    self.assertEqual(search.optimizer.num_searches, 2)
    self.assertEqual(policy.num_draws, 1)


class SamplesTest(tensor_case.TensorCase):

  def test_cached_samples_replace_draws(self):
    policy = _make_policy()
    samples = tf.random.stateless_uniform([8, 2, 4, 2], [1, 2], -1.0, 1.0)
    source = _make_source(
        small_agent.make_search(num_gradient_steps=0),
        policy,
        samples=samples,
    )

    for actions, cached in zip(source, tf.unstack(samples, axis=1)):
      self.assertAllEqual(actions.base(), cached)
      kept = actions.candidates().actions
      self.assertAllEqual(_is_among(kept, cached), tf.fill([8, 2], True))
    self.assertEqual(policy.num_draws, 0)

  def test_argmax_returns_only_the_best_action(self):
    source = _make_source(_make_search(selection='argmax'))
    found = source.next.optimized(3)

    self.assertAllEqual(
        found.actions, source.next.candidates().actions[:, :1]
    )
    self.assertIsNone(found.log_probs)

  def test_sampling_returns_the_requested_number(self):
    source = _make_source(_make_search(selection='sample'))
    found = source.here.optimized(3).actions
    candidates = source.here.candidates().actions

    self.assertAllEqual(found.shape, [8, 3, 2])
    self.assertAllEqual(_is_among(found, candidates), tf.fill([8, 3], True))

  def test_targets_may_come_from_the_base_policy(self):
    search = _make_search(optimize_targets=False)
    source = _make_source(search)
    found = source.here.optimized(3)

    self.assertAllEqual(found.actions, source.here.base()[:, :3])
    self.assertEqual(search.optimizer.num_searches, 0)

  def test_samples_of_a_gaussian_have_densities(self):
    source = _make_source(action_source.Search(4, optimizer=None))
    found = source.here.optimized(3)

    # The density of tanh(x) is the density of x divided by 1 - tanh(x)^2 in
    # each dimension. It integrates to 1, so the mean of its inverse is the
    # volume, 4.
    self.assertAllEqual(found.log_probs.shape, [8, 3])
    wide = _make_source(action_source.Search(20_000, optimizer=None))
    log_probs = wide.here.optimized(20_000).log_probs
    volume = tf.reduce_mean(tf.exp(-log_probs), axis=-1)
    self.assertAllClose(volume, tf.fill([8], 4.0), rtol=0.1)

  def test_samples_of_a_diffusion_policy_have_no_densities(self):
    source = _make_source(
        action_source.Search(4, optimizer=None), small_agent.make_policy()
    )

    self.assertIsNone(source.here.optimized(3).log_probs)

  def test_optimized_actions_have_no_densities(self):
    source = _make_source(_make_search(selection='sample'))

    self.assertIsNone(source.here.optimized(3).log_probs)

  def test_fewer_samples_than_requested_is_an_error(self):
    source = _make_source(action_source.Search(4, optimizer=None))
    with self.assertRaisesRegex(ValueError, 'num_samples.*5.*penalty.*got 4'):
      source.here.optimized(5, 'penalty')

  def test_fewer_samples_will_do(self):
    for num_samples, n, wanted in ((4, 3, 3), (4, 8, 4), (4, 6, 4), (1, 4, 1)):
      source = _make_source(action_source.Search(num_samples, optimizer=None))
      found = source.here.optimized(n, 'penalty', at_most=True)

      self.assertAllEqual(found.actions, source.here.base()[:, :wanted])
      self.assertAllEqual(found.log_probs.shape, [8, wanted])

  def test_a_temperature_of_zero_draws_only_the_mode(self):
    search = action_source.Search(4, _CountingOptimizer(2, 0), temperature=0.0)
    drawn = _make_source(search).here.base()

    self.assertAllEqual(drawn, tf.repeat(drawn[:, :1], 4, axis=1))
    self.assertNotAllEqual(drawn, _make_source(_make_search()).here.base())

  def test_without_search_keeps_the_temperature(self):
    search = action_source.Search(4, _CountingOptimizer(2, 0), temperature=0.0)
    own = search.without_search()

    self.assertIsNone(own.optimizer)
    self.assertEqual(own.num_samples, 1)
    self.assertEqual(own.temperature, 0.0)
    self.assertFalse(own.is_greedy)

  def test_without_local_optimization_it_only_ranks(self):
    optimizer = _CountingOptimizer(2, 2, 0.1)
    search = action_source.Search(4, optimizer, local_optimization=False)
    ranked = _make_source(search).here
    is_sample = _is_among(ranked.candidates().actions, ranked.base())
    self.assertTrue(tf.reduce_all(is_sample))
    # The given one may serve another search.
    self.assertEqual(optimizer.num_gradient_steps, 2)
    climbed = _make_source(action_source.Search(4, optimizer)).here
    is_sample = _is_among(climbed.candidates().actions, climbed.base())
    self.assertFalse(tf.reduce_all(is_sample))

  def test_the_target_may_rank_by_its_least_member(self):
    critic = small_agent.make_critic(num_target_members=None)
    for i, variable in enumerate(critic.variables):
      variable.assign_add(
          0.3 * tf.random.stateless_normal(variable.shape, [1, i])
      )
    source = _make_source(_make_search(ranking='target'), critic=critic)
    candidates = source.here.candidates()
    observation = small_agent.make_transition().time_step.observation
    members = critic.bind(observation, target=True).members(candidates.actions)
    self.assertAllClose(
        candidates.values, tf.reduce_min(members, axis=0), rtol=1e-5, atol=1e-5
    )

  def test_densities_need_a_temperature_of_one(self):
    source = _make_source(
        action_source.Search(4, optimizer=None, temperature=0.5)
    )
    own = source.here.optimized(1)
    self.assertAllEqual(own.actions, source.here.base()[:, :1])
    self.assertIsNone(own.log_probs)
    with self.assertRaisesRegex(ValueError, 'Search.temperature` .*got 0.5'):
      source.here.optimized(1, with_densities=True)

  def test_candidates_without_an_optimizer_are_an_error(self):
    source = _make_source(action_source.Search(4, optimizer=None))
    with self.assertRaisesRegex(ValueError, 'Search.optimizer'):
      source.here.candidates()


class TapeTest(tensor_case.TensorCase):

  def test_the_critic_loss_treats_the_search_as_constant(self):
    transition = small_agent.make_transition()
    critic = small_agent.make_critic(conservative_weight=1.0)
    policy = small_agent.make_policy()
    variables = [*critic.trainable_variables, *policy.trainable_variables]
    seed = tf.constant(_SEED)

    search = small_agent.make_search()
    with tf.GradientTape() as tape:
      source = _make_source(search, policy, critic, tape=tape)
      loss = critic.loss(transition, source, seed).per_example
    gradients = tape.gradient(loss, variables)

    given = state_actions.ActionSource(*(
        _GivenActions({
            purpose: types.ActionSamples(
                actions.optimized(10, purpose).actions.numpy()
            )
            for purpose in ('target', 'penalty')
        })
        for actions in source
    ))
    with tf.GradientTape() as tape:
      expected_loss = critic.loss(transition, given, seed).per_example
    expected = tape.gradient(expected_loss, variables)

    self.assertAllEqual(loss, expected_loss)
    self.assertEqual(
        [x is None for x in gradients], [x is None for x in expected]
    )
    for gradient, wanted in zip(gradients, expected):
      if wanted is not None:
        self.assertAllEqual(gradient, wanted)

  def test_the_tape_records_nothing(self):
    critic, policy = small_agent.make_critic(), small_agent.make_policy()
    variables = [*critic.trainable_variables, *policy.trainable_variables]

    with tf.GradientTape(persistent=True) as tape:
      source = _make_source(
          small_agent.make_search(selection='sample'), policy, critic, tape=tape
      )
      samples = source.next.base()
      found = source.next.candidates()
      picked = source.next.optimized(3).actions

    # The tape has not even recorded an operation with a stopped gradient.
    self.assertEmpty(tape.watched_variables())
    for result in (samples, *found, picked):
      self.assertEqual(
          tape.gradient(result, variables), [None] * len(variables)
      )


class SeedTest(tensor_case.TensorCase):

  def test_the_same_seed_gives_the_same_candidates(self):
    policy, critic = _make_policy(), small_agent.make_critic()
    first, again, other = (
        _make_source(_make_search(), policy, critic, seed)
        .here.candidates()
        .actions
        for seed in (_SEED, _SEED, (3, 6))
    )

    self.assertAllEqual(first, again)
    self.assertNotAllEqual(first, other)

  def test_purposes_draw_independently(self):
    search = _make_search(selection='sample')
    source = _make_source(search)

    target = source.here.optimized(8, 'target').actions
    penalty = source.here.optimized(8, 'penalty').actions

    self.assertNotAllEqual(target, penalty)
    self.assertAllEqual(source.here.optimized(8, 'target').actions, target)

  def test_draws_of_one_purpose_differ(self):
    source = _make_source(_make_search(selection='sample'))
    found = source.here.optimized(8).actions

    self.assertNotAllEqual(found[:, :4], found[:, 4:])

  def test_both_states_draw_independently(self):
    transition = small_agent.make_transition()
    source = state_actions.make_source(
        _make_search(),
        _make_policy(),
        small_agent.make_critic(),
        transition._replace(next_time_step=transition.time_step),
        tf.constant(_SEED),
    )

    self.assertNotAllEqual(source.here.base(), source.next.base())


class SearchTest(tensor_case.TensorCase):

  def test_a_loss_draws_only_the_samples_that_it_reads(self):
    plain = _make_search(optimize_targets=False, temperature=0.5)
    fewer = plain.for_loss(3)
    self.assertEqual((fewer.num_samples, fewer.temperature), (3, 0.5))
    self.assertFalse(fewer.optimize_targets)
    for num_actions in (4, 7, None):
      self.assertIs(plain.for_loss(num_actions), plain)
    optimizing = _make_search()
    self.assertIs(optimizing.for_loss(1), optimizing)

  def test_options_out_of_range_are_named(self):
    optimizer = action_optimizer.ActionOptimizer(num_candidates=5)
    with self.assertRaisesRegex(ValueError, '`num_samples`.*got 0'):
      action_source.Search(num_samples=0)
    with self.assertRaisesRegex(ValueError, "`selection`.*got 'best'"):
      action_source.Search(selection='best')
    with self.assertRaisesRegex(ValueError, "`ranking`.*got 'best'"):
      action_source.Search(ranking='best')
    with self.assertRaisesRegex(ValueError, '`temperature`.*got -1'):
      action_source.Search(temperature=-1.0)
    with self.assertRaisesRegex(ValueError, 'K = 5.*N = 4'):
      action_source.Search(4, optimizer)


if __name__ == '__main__':
  absltest.main()
