"""Tests evaluation and collection with a served policy."""

import dataclasses
import functools
from unittest import mock

from absl.testing import absltest
import gin
import numpy as np
import tensorflow as tf

from parl_tf.binaries import evaluation_run
from parl_tf.critics import iql
from parl_tf.domains import domain as domain_lib
from parl_tf.policies import remote
from parl_tf.search import state_actions
from parl_tf.serving import policy_spec
from parl_tf.training import episode_actor
from parl_tf.training import evaluation
from parl_tf.training import served_acting
from tests.agents import small_agent
from tests.serving import toy_policy
from tests.training import small_run

_SPEC = dataclasses.replace(
    toy_policy.SPEC,
    observation={'observation': policy_spec.ArraySpec((4,))},
    action_low=-np.ones(2, np.float32),
    action_high=np.ones(2, np.float32),
    max_batch=64,
)
_SEED = np.array([3, 5], np.int32)


class ServedActingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.batches = []  # (B, N) of each draw.

    def sample(observation, num_samples, seed):
      size = len(observation['observation'])
      self.batches.append((size, num_samples))
      random = np.random.default_rng(seed)
      return random.uniform(-1.0, 1.0, (size, num_samples, 4, 2))

    functions = toy_policy.ToyPolicy().functions()._replace(sample=sample)
    self.server = self.enter_context(toy_policy.serving(functions, _SPEC))
    self.address = f'ws://{self.server.address}'
    self.domain = small_run.make_domain()

  def _agent(self, policy_ctor=None, chunk_length=1):
    # One compiled function less to wait for.
    search = small_agent.make_search()
    search.jit_compile = False
    return small_agent.make_agent(
        iql.IQLCritic,
        policy_ctor or functools.partial(
            remote.RemotePolicy, address=self.address
        ),
        observation_spec=tf.TensorSpec([4], tf.float32, 'observation'),
        search=search,
        chunk_length=chunk_length,
    )

  def test_a_policy_alone_is_asked_once_a_chunk(self):
    # A chunk has four steps.
    domain = small_run.make_domain(5)
    evaluator = evaluation.Evaluator(domain, num_episodes=3, seed=0)
    act = served_acting.act_alone(self.address, domain)

    first, again = evaluator.run(act), evaluator.run(act)

    self.assertEqual(self.batches, [(3, 1)] * 4)
    for one, other in zip(first.episodes, again.episodes):
      np.testing.assert_array_equal(one.action, other.action)

  def test_a_policy_alone_plays_as_many_actions_as_are_bound(self):
    self.addCleanup(gin.clear_config)
    with mock.patch.object(
        domain_lib, 'select_domain', return_value=small_run.make_domain(5)
    ):
      act, domain = evaluation_run.served_act(
          self.address, (), ['build_agent.chunk_length = 2']
      )
    evaluation_run.play(act, domain, num_episodes=3, seed=0)
    self.assertEqual(self.batches, [(3, 1)] * 3)  # Of five steps.

  def test_an_evaluation_of_two_versions_is_an_error(self):
    act = served_acting.act_alone(self.address, self.domain)
    act(np.zeros([2, 4], np.float32), _SEED)
    self.server.weights.version = 'other'

    self.assertEqual(act.version, 'initial')
    with self.assertRaisesRegex(ValueError, "'other'.*'initial' was expected"):
      act(np.zeros([2, 4], np.float32), _SEED)

  def test_workers_draw_nothing_for_one_policy(self):
    gin.parse_config("RemotePolicy.workers = ('ws://nobody:1',)")
    self.addCleanup(gin.clear_config)
    act = served_acting.act_alone(self.address, self.domain)
    act(np.zeros([200, 4], np.float32), _SEED)
    self.assertEqual(sum(size for size, _ in self.batches), 200)

  def test_temperature_scales_the_noise_of_a_policy_alone(self):
    def sample(observation, num_samples, seed, temperature):
      del seed
      shape = (len(observation['observation']), num_samples, 4, 2)
      return np.full(shape, temperature)

    functions = toy_policy.ToyPolicy().functions()._replace(sample=sample)
    server = self.enter_context(toy_policy.serving(functions, _SPEC))

    act = served_acting.act_alone(server.address, self.domain, temperature=0.25)

    np.testing.assert_array_equal(
        act(np.zeros([3, 4], np.float32), _SEED), np.full([3, 4, 2], 0.25)
    )

  def test_a_policy_with_a_history_gets_the_last_observations(self):
    seen = []

    def sample(observation, num_samples, seed):
      del seed
      seen.append(observation['observation'])
      return np.zeros((len(seen[-1]), num_samples, 1, 2))

    spec = dataclasses.replace(
        _SPEC,
        observation={'observation': policy_spec.ArraySpec((8,))},
        chunk_length=1,
    )
    functions = toy_policy.ToyPolicy().functions()._replace(sample=sample)
    server = self.enter_context(toy_policy.serving(functions, spec))

    act = served_acting.act_alone(f'ws://{server.address}', self.domain)
    evaluator = evaluation.Evaluator(self.domain, num_episodes=1, seed=0)
    (episode,) = evaluator.run(act, num_frames=act.num_frames).episodes

    frames = episode.observation
    wanted = np.concatenate(
        [np.concatenate([frames[:1], frames[:-2]]), frames[:-1]], axis=1
    )
    np.testing.assert_array_equal(np.concatenate(seen), wanted)
    with self.assertRaisesRegex(
        ValueError, r"\[B, 8\], got \[1, 4\].*num_frames` must be 2 times"
    ):
      evaluator.run(act)

  def test_a_searched_policy_takes_the_best_of_one_draw(self):
    agent = self._agent()
    act = served_acting.act_searched(self.address, self.domain, agent)
    observation = np.random.default_rng(0).normal(size=(3, 4))
    observation = observation.astype(np.float32)

    action = act(observation, _SEED)

    self.assertEqual(self.batches, [(3, 4)])
    self.assertEqual(action.shape, (3, 1, 2))
    np.testing.assert_array_equal(action, act(observation, _SEED))
    source = state_actions.StateActions(
        agent.searches.evaluation,
        agent.generative_policy,
        agent.critic,
        observation,
        tf.constant(_SEED),
    )
    np.testing.assert_allclose(
        action[:, 0], source.candidates().actions[:, 0], atol=1e-5
    )

  def test_a_run_without_search_is_refused(self):
    agent = self._agent()
    agent.searches.evaluation.optimizer = None

    with self.assertRaisesRegex(ValueError, 'no `Search.optimizer`'):
      served_acting.act_searched(self.address, self.domain, agent)

  def test_an_actor_draws_once_a_decision(self):
    agent = self._agent(chunk_length=2)
    actor = episode_actor.EpisodeActor(self.domain, agent, seed=0)

    episode = actor.act(0)

    self.assertEqual(episode.num_steps, 3)
    self.assertEqual(self.batches, [(1, 4)] * 2)
    np.testing.assert_array_equal(episode.action, actor.act(0).action)

  def test_evaluation_of_a_live_policy_draws_eagerly(self):
    agent = self._agent()
    evaluator = evaluation.Evaluator(self.domain, num_episodes=2, seed=0)

    result = evaluator.run_policy(agent.evaluation_policy)
    evaluator.run_policy(agent.base_policy)

    self.assertLen(result.episodes, 2)
    self.assertEqual(self.batches, [(2, 4)] * 3 + [(2, 1)] * 3)
    self.assertEmpty(agent.named_policies)


if __name__ == '__main__':
  absltest.main()
