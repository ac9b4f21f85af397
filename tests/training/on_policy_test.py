"""Tests of rollouts, the phase that trains on them, and a whole run."""

import csv
import json
import os
from unittest import mock

from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec

from parl_tf.binaries import configs
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import memory_experience
from parl_tf.training import experiment
from parl_tf.training import on_policy
from parl_tf.training import rollouts
from parl_tf.training import session as session_lib
from parl_tf.training import sources
from tests import eager
from tests import tensor_case
from tests.agents import small_dppo
from tests.training import line_walk

_NUM_ENVIRONMENTS = 3
_TIME_LIMIT = 5  # Environment steps; truncates a chunk of two.
_BINDINGS = (
    'select_domain.domain = @Walk()',
    'Walk.time_limit = 5',  # environment steps; shorter than a rollout
    'Search.jit_compile = False',
    'run_experiment.checkpoint_seconds = 0.0',
    'run_experiment.num_recorded_steps = 50',
    'run_experiment.num_evaluation_episodes = 2',
    'BehaviorCloning.num_steps = 2',
    'BehaviorCloning.batch_size = 8',
    'build_agent.chunk_length = 2',
    'OnPolicy.num_turns = 2',
    'OnPolicy.num_environments = 2',
    'OnPolicy.num_decisions = 3',
    'OnPolicy.num_warm_up_turns = 1',
    'OnPolicy.evaluation_interval = 1',
    'DPPOAgent.num_epochs = 1',
    'CriticEnsemble.hidden_sizes = (8,)',
    'DiffusionPolicy.num_denoising_steps = 2',
    'DenoisingNetwork.hidden_size = 8',
    'DenoisingNetwork.time_size = 8',
    'DenoisingNetwork.num_blocks = 1',
    "run_experiment.exported_policies = ('greedy_policy',)",
    # A new process imports TensorFlow, which takes seconds.
    'exports.in_new_process = False',
)


class _Killed(Exception):
  """Simulates a kill."""


class _Environment(line_walk.LineWalkEnvironment):
  """Kills the run at a reset if the domain requests it."""

  def reset(self):
    self._domain.num_resets_left -= 1
    if not self._domain.num_resets_left:
      raise _Killed
    return super().reset()


@gin.configurable('Walk')
class _Walk(line_walk.LineWalk):
  """A walk for collecting rollouts."""

  reward_scale = 2.0
  reward_bias = -1.0
  num_resets_left = -1

  def make_environment(self, seed, evaluation):
    if evaluation:
      return super().make_environment(seed, evaluation)
    return _Environment(self, seed)

  def make_data_environment(self, seed):
    return line_walk.LineWalkEnvironment(self, seed)


def _make_agent():
  return small_dppo.make_agent(
      observation_spec=tf.TensorSpec([2], tf.float32, 'observation'),
      action_spec=tensor_spec.BoundedTensorSpec(
          [1], tf.float32, -1.0, 1.0, 'action'
      ),
      chunk_length=2,
      num_epochs=2,
      minibatch_size=16,
  )


def _make_session(root_dir, domain, checkpoint_seconds=0.0):
  agent = _make_agent()
  return session_lib.Session(
      root_dir,
      seed=0,
      domain=domain,
      agent=agent,
      source=sources.LocalSource(
          memory_experience.MemoryExperience, domain, agent, 0
      ),
      writers={},
      num_evaluation_episodes=2,
      checkpoint_seconds=checkpoint_seconds,
  )


def _make_phase(num_turns=4):
  return on_policy.OnPolicy(
      num_turns=num_turns,
      num_environments=_NUM_ENVIRONMENTS,
      evaluation_interval=2,
  )


def _read_rows(root_dir):
  with open(os.path.join(root_dir, 'metrics.csv')) as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    del row['wall_seconds']
  return rows


class RolloutActorTest(tensor_case.TensorCase):

  def test_decisions_match_the_task(self):
    agent, gamma = _make_agent(), 0.99
    actor = rollouts.RolloutActor(
        _Walk(time_limit=_TIME_LIMIT),
        agent,
        num_environments=_NUM_ENVIRONMENTS,
        num_decisions=5,
        seed=0,
    )
    acted = actor.act(3)
    rollout = acted.rollout
    actions = np.clip(rollout.chain.draws[:, :, -1], -1.0, 1.0)
    num_steps, lengths, successes = 0, [], []
    for p in range(_NUM_ENVIRONMENTS):
      for d in range(5):
        place, time = rollout.observation[d, p].numpy()
        reward, discount = 0.0, 1.0
        for k, action in enumerate(actions[d, p]):
          place, time = place + line_walk.STEP * action, time + 1
          has_arrived = place >= line_walk.GOAL
          reward += gamma**k * (2.0 * has_arrived - 1.0)
          discount = gamma**k * (not has_arrived)
          num_steps += 1
          is_over = has_arrived or time == _TIME_LIMIT
          if is_over:
            lengths.append(time)
            successes.append(has_arrived)
            break
        self.assertAllClose(rollout.next_observation[d, p], [place, time])
        self.assertAllClose(rollout.reward[d, p], reward)
        self.assertAllClose(rollout.discount[d, p], discount)
        self.assertEqual(rollout.is_last[d, p], is_over or d == 4)
        if d < 4 and is_over:
          self.assertEqual(rollout.observation[d + 1, p, 1], 0.0)
        elif d < 4:
          self.assertAllClose(rollout.observation[d + 1, p], [place, time])
    self.assertEqual(acted.num_steps, num_steps)
    self.assertEqual(acted.lengths, lengths)
    self.assertEqual(acted.successes, successes)
    again, other = actor.act(3).rollout, actor.act(4).rollout
    self.assertAllEqual(again.observation, rollout.observation)
    self.assertAllEqual(again.chain.draws, rollout.chain.draws)
    self.assertNotAllEqual(other.observation, rollout.observation)


  def test_a_lost_episode_repeats_the_rollout(self):
    environments = []

    class Walk(_Walk):

      def make_environment(self, seed, evaluation):
        environments.append(super().make_environment(seed, evaluation))
        return environments[-1]

    actor = rollouts.RolloutActor(
        Walk(time_limit=_TIME_LIMIT),
        _make_agent(),
        num_environments=2,
        num_decisions=2,
        seed=0,
    )
    wanted = actor.act(1).rollout
    step, attempts = environments[1].step, []

    def lost_step(action):
      attempts.append(True)
      if len(attempts) == 2:
        raise domain_lib.EpisodeLostError('The second step is lost.')
      return step(action)

    environments[1].step = lost_step
    rollout = actor.act(1).rollout
    self.assertGreater(len(attempts), 2)
    self.assertAllEqual(rollout.observation, wanted.observation)
    self.assertAllEqual(rollout.chain.draws, wanted.chain.draws)

  def test_more_environments_than_the_domain_has_is_an_error(self):
    domain = _Walk(time_limit=_TIME_LIMIT)
    domain.max_environments = 1
    with self.assertRaisesRegex(
        ValueError, 'must be at most 1 for the domain _Walk, got 2'
    ):
      rollouts.RolloutActor(
          domain, _make_agent(), num_environments=2, num_decisions=1, seed=0
      )


class OnPolicyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    gin.parse_config('Search.jit_compile = False')

  def test_a_run_that_was_killed_gives_the_same_numbers(self):
    folder = self.create_tempdir().full_path
    roots = [os.path.join(folder, name) for name in ('undisturbed', 'killed')]
    domain = _Walk(time_limit=_TIME_LIMIT)
    domain.num_resets_left = 6 * _NUM_ENVIRONMENTS
    with self.assertRaises(_Killed):
      _make_phase().run(_make_session(roots[1], domain))
    self.assertBetween(len(_read_rows(roots[1])), 1, 3)
    for root_dir in roots:
      session = _make_session(root_dir, _Walk(time_limit=_TIME_LIMIT))
      _make_phase().run(session)
    rows = _read_rows(roots[0])
    self.assertEqual(_read_rows(roots[1]), rows)
    self.assertEqual([r['phase'] for r in rows], ['online'] * 4)
    self.assertEqual([bool(r['score']) for r in rows], [False, True] * 2)
    # The log does not have the episodes; the counters include them.
    self.assertEmpty(session.log)
    self.assertGreaterEqual(int(rows[-1]['episodes']), 4 * _NUM_ENVIRONMENTS)
    self.assertEqual(
        session.state.summaries['online']['env_steps'],
        int(rows[-1]['env_steps']),
    )

  def test_networks_of_another_run_are_evaluated_first(self):
    root_dir = self.create_tempdir().full_path
    session = _make_session(root_dir, _Walk(time_limit=_TIME_LIMIT))
    session.evaluate_start('offline')
    [row] = _read_rows(root_dir)
    self.assertEqual(row['success_rate'], row['success_rate_without_search'])

  @parameterized.named_parameters(
      ('turns', 'num_turns', -1),
      ('environments', 'num_environments', 0),
      ('warm_up', 'num_warm_up_turns', -2),
      ('interval', 'evaluation_interval', 0),
  )
  def test_value_out_of_range_is_named(self, name, value):
    with self.assertRaisesRegex(ValueError, f'{name}`.*{value}'):
      on_policy.OnPolicy(**{name: value})


class ExperimentTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  @parameterized.parameters(
      ('run_experiment.timeouts_fail_online = True', 'timeouts_fail.*`OnPol'),
      ('Hindsight.online_goals = 2', r'online_goals` must be 0.*got 2'),
  )
  def test_what_needs_replay(self, binding, message):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse(
        ['methods/dppo.gin', 'policies/diffusion.gin'],
        [*_BINDINGS, 'import parl_tf.training.hindsight', binding],
    )
    with mock.patch.object(
        domain_lib.Domain, 'goals', lambda domain: domain
    ), self.assertRaisesRegex(ValueError, message):
      experiment.run_experiment(root_dir, 0)
    self.assertFalse(os.path.exists(os.path.join(root_dir, 'data.hdf5')))

  def test_method_runs_and_resumes_from_its_gin_files(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse(['methods/dppo.gin', 'policies/diffusion.gin'], _BINDINGS)
    # Each of the two environments is reset twice in the first turn. Only the
    # resumed run traces graphs.
    eager.run_eagerly(self)
    with mock.patch.object(_Walk, 'num_resets_left', 5):
      with self.assertRaises(_Killed):
        experiment.run_experiment(root_dir, 0)
    tf.config.run_functions_eagerly(False)
    self.assertLen(_read_rows(root_dir), 3)
    summary = experiment.run_experiment(root_dir, 0)
    rows = _read_rows(root_dir)
    self.assertEqual(
        [row['phase'] for row in rows],
        ['behavior_cloning'] * 2 + ['online'] * 2,
    )
    # The first turn trains only the baseline.
    self.assertEqual([bool(r['policy/kl']) for r in rows[2:]], [False, True])
    online = summary.phases['online']
    self.assertEqual(online.success_rate, online.success_rate_without_search)
    with open(os.path.join(root_dir, 'best', 'best.json'), 'rb') as file:
      best = json.load(file)
    self.assertEqual(best['success_rate'], online.success_rate)
    for path in summary.policies.values():
      self.assertTrue(os.path.exists(os.path.join(path, 'saved_model.pb')))
    plot = os.path.join(root_dir, 'report', 'learning_curve.png')
    self.assertTrue(os.path.exists(plot))


if __name__ == '__main__':
  tf.test.main()
