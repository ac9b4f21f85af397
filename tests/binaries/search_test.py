"""Tests of `parl-search`: the choice of a search, and its use on a run."""

import csv
import functools
import json
import os
import shlex
import shutil
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf.binaries import restored_run
from parl_tf.binaries import search_outputs
from parl_tf.binaries import search_run
from parl_tf.binaries import search_settings
from parl_tf.critics import iql
from parl_tf.policies import remote
from parl_tf.search import cross_entropy_method
from parl_tf.serving import policy_spec
from parl_tf.serving import server
from parl_tf.training import evaluation
from parl_tf.training import run_directory
from tests.agents import small_agent
from tests.agents import small_dppo
from tests.binaries import tiny
from tests.serving import toy_policy
from tests.training import small_run

Axes = search_settings.Axes
Scores = search_settings.Scores
Setting = search_settings.Setting

_OWN = Setting(32, 0.5, 3, 3, 0.1)
_FEW = Setting(4, 0.5, 1, 0, 0.0)
_ALONE = Setting(1, 0.5, 1, 0, 0.0)


def _scores(num_episodes, rate):
  outcomes = ('1' * round(rate * num_episodes)).ljust(num_episodes, '0')
  return Scores(outcomes, -10.0)


class OutputsTest(absltest.TestCase):

  def _found(self, best, rates):
    scores = {x: _scores(32, rate) for x, rate in rates.items()}
    return search_outputs.Found(best, _OWN, _ALONE, scores)

  def test_the_verdict_is_that_of_the_fresh_episodes(self):
    found = self._found(_FEW, {_FEW: 0.5, _OWN: 0.4, _ALONE: 0.0})
    self.assertRegex(
        found.verdict(),
        r"^The run's own search is within chance of the one found\. The policy"
        r' alone is worse by more than chance explains\.$',
    )
    self.assertRegex(
        found.table(), r"(?m)0\.406 .* the run's own \(0\.2\d+ to 0\.5\d+\)$"
    )
    found = self._found(_FEW, {_FEW: 0.5, _OWN: 0.1, _ALONE: 0.5})
    self.assertRegex(found.verdict(), 'own search is worse.*alone is within')
    found = self._found(_OWN, {_OWN: 0.5, _ALONE: 0.0})
    self.assertStartsWith(
        found.verdict(), "The run's own search is the one found."
    )
    self.assertFalse(found.is_refuted)
    self.assertIn("found and the run's own (", found.table())
    found = self._found(_ALONE, {_OWN: 0.0, _ALONE: 0.5})
    self.assertRegex(found.verdict(), 'alone is the one .* critic misleads')
    # The cheapest of several that are as good.
    found = self._found(_ALONE, {_OWN: 1.0, _ALONE: 0.97})
    self.assertNotIn('misleads', found.verdict())

  def test_a_search_that_fresh_episodes_refute_is_not_bound(self):
    found = self._found(_FEW, {_FEW: 0.72, _OWN: 0.85, _ALONE: 0.1})
    self.assertTrue(found.is_refuted)
    self.assertRegex(found.verdict(), 'by more than a standard error: keep it.')
    found = self._found(_FEW, {_FEW: 0.78, _OWN: 0.85, _ALONE: 0.1})
    self.assertFalse(found.is_refuted)
    found = self._found(_FEW, {_FEW: 0.2, _OWN: 0.8, _ALONE: 0.1})
    self.assertTrue(found.is_refuted)
    self.assertRegex(found.verdict(), 'own search is better .*: keep it.')
    found = self._found(_OWN, {_OWN: 0.1, _ALONE: 0.8})
    self.assertTrue(found.is_refuted)
    self.assertRegex(found.verdict(), 'alone is better .*The critic misleads')

  def test_the_new_run_has_an_online_phase_after_the_offline_one(self):
    folder = self.create_tempdir()
    folder.create_file(
        'config.gin',
        "# seed = 5\nrun_experiment.phase_names = ('offline',)\n"
        "run_experiment.initial_phase = 'behavior_cloning'\n",
    )
    text = search_outputs.usage(
        folder.full_path, 'offline', 'few.gin', ['Reach.limit = 9']
    )
    self.assertEqual(text.count("--gin_bindings 'Reach.limit = 9'"), 2)
    (line,) = [x for x in text.splitlines() if 'parl-train' in x]
    words = shlex.split(line)
    self.assertEqual(words[words.index('--seed') + 1], '5')
    self.assertContainsSubset(
        [
            f'run_experiment.initial_run = "{folder.full_path}"',
            'run_experiment.initial_phase = "offline"',
            'run_experiment.phase_names = ("behavior_cloning", "offline",'
            ' "online")',
        ],
        words,
    )


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._run = os.path.join(self.create_tempdir().full_path, 'run')
    ignored = shutil.ignore_patterns('policies', 'tensorboard')
    shutil.copytree(tiny.finished_run(), self._run, ignore=ignored)

  def _search(self, checkpoint='offline', num_rounds=2, **axes):
    gin.clear_config()
    axes = {'num_samples': [2], 'num_gradient_steps': [0, 2], **axes}
    return search_run.search(
        self._run,
        checkpoint,
        Axes(**axes),
        num_episodes=4,
        num_rounds=num_rounds,
        num_final_episodes=3,
    )

  def _rows(self, checkpoint='offline'):
    path = os.path.join(self._run, f'searches_{checkpoint}.csv')
    with open(path, newline='') as file:
      return list(csv.DictReader(file))

  def test_the_best_search_is_found_once_and_can_be_used(self):
    with open(os.path.join(self._run, 'summary.json')) as file:
      offline = json.load(file)['phases']['offline']
    played = []
    run_policy = evaluation.Evaluator.run_policy

    def killed(evaluator, policy):
      if len(played) == 4:  # Within the second round.
        raise KeyboardInterrupt
      played.append(policy)
      return run_policy(evaluator, policy)

    with mock.patch.object(evaluation.Evaluator, 'run_policy', killed):
      with self.assertRaises(KeyboardInterrupt):
        self._search()
    before = self._rows()
    with mock.patch.object(
        evaluation.Evaluator, 'run_policy', autospec=True,
        side_effect=run_policy,
    ) as again:
      printed = self._search()

    rows = self._rows()
    self.assertEqual(rows[:4], before)
    self.assertEqual(again.call_count, len(rows) - 4)
    counts = [sum(x['round'] == y for x in rows) for y in ('1', '2', 'final')]
    self.assertEqual(counts[:2], [3, 2])
    self.assertBetween(counts[2], 2, 3)
    # The first round has the episodes and draws of the run's evaluations.
    own, climbing, _ = sorted(
        rows[:3],
        key=lambda x: (-int(x['num_samples']), x['num_gradient_steps']),
    )
    self.assertEqual(climbing['num_gradient_steps'], '2')
    self.assertGreater(float(climbing['ascent_gain']), 0.0)
    self.assertEqual(own['limit'], '15')
    self.assertEqual(float(own['success_rate']), offline['success_rate'])
    self.assertAlmostEqual(
        float(own['mean_return']), offline['mean_return'], places=4
    )
    self.assertEqual(float(own['ascent_gain']), 0.0)
    self.assertIn('the policy alone', printed)
    # Bindings of the winner, for acting and evaluation but not for training.
    gin_file = os.path.join(self._run, 'search_offline.gin')
    self.assertIn(gin_file, printed)
    with open(gin_file) as file:  # As the searches were measured.
      self.assertIn("evaluation/Search.selection = 'argmax'", file.read())
    gin.clear_config()
    agent, _ = restored_run.restore(
        self._run, gin_files=[gin_file], searches=True
    )
    winner, _, _ = search_run.own_search(agent, self._run)
    self.assertEqual(
        {str(winner.num_samples), str(winner.num_gradient_steps)},
        {rows[-counts[2]][x] for x in ('num_samples', 'num_gradient_steps')},
    )
    self.assertIs(agent.searches.acting, agent.searches.evaluation)
    self.assertEqual(agent.searches.training.num_samples, 2)

  def test_a_refuted_search_leaves_no_gin_file(self):
    path = os.path.join(self._run, 'search_offline.gin')
    with open(path, 'w') as file:
      file.write('# Of an earlier search.\n')

    def play(name, num_episodes, settings):
      own = Setting(2, 1.0, 1, 0, 0.0)
      is_final = name == search_run.FINAL
      rates = {x: float((x == own) == is_final) for x in settings}
      return {x: _scores(32, rate) for x, rate in rates.items()}

    with mock.patch.object(search_run, 'Measurements') as measurements:
      measurements.return_value.play = play
      printed = self._search()

    self.assertIn('better by more than chance explains: keep it', printed)
    self.assertFalse(os.path.exists(path))

  def test_one_round_measures_the_grid_alone(self):
    def play(name, num_episodes, settings):
      self.assertEqual((name, num_episodes), ('1', 4))
      self.assertEqual([x.num_samples for x in settings], [4, 8])
      return {x: _scores(4, 0.5) for x in settings}

    with mock.patch.object(search_run, 'Measurements') as measurements:
      measurements.return_value.play = play
      printed = self._search(
          'last', num_rounds=1, num_samples=[4, 8], num_gradient_steps=[0]
      )
    self.assertEndsWith(printed, os.path.join(self._run, 'searches_last.csv'))
    self.assertFalse(os.path.exists(f'{self._run}/search_last.gin'))

  def test_the_best_networks_are_searched(self):
    with open(os.path.join(self._run, 'best', 'best.json')) as file:
      best = json.load(file)
    _, _, train_step = restored_run.restore_at(self._run, 'best')
    self.assertEqual(train_step, best['train_step'])

  def test_a_missing_checkpoint_is_named(self):
    shutil.rmtree(os.path.join(self._run, 'phases', 'offline'))
    with self.assertRaisesRegex(ValueError, 'phases/offline must hold a check'):
      self._search()

  def test_two_processes_do_not_overwrite_each_others_rows(self):
    with run_directory.hold(self._run, 'search.lock'):
      with self.assertRaisesRegex(ValueError, f'by process {os.getpid()}'):
        self._search()

  def test_rounds_have_different_episodes(self):
    starts = [
        evaluation.episode_seed(search_run.round_seed(seed, name), i)
        for seed in (0, 1)
        for name in ('1', '2', '3', search_run.FINAL)
        for i in range(64)
    ]
    self.assertLen(set(starts), len(starts))
    self.assertEqual(search_run.round_seed(3, '1'), 3)


class MeasurementsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'searches.csv')

  def _play(self, agent, num_samples=2, num_episodes=2, **kwargs):
    setting = Setting(num_samples, 1.0, 1, 0, 0.0)
    found = search_run.Measurements(
        self._path, agent, small_run.make_domain(), seed=0, **kwargs
    ).play('1', num_episodes, [setting])
    return found[setting]

  def test_other_networks_episodes_and_bindings_are_measured_again(self):
    agent = small_run.make_agent()
    first = self._play(agent, train_step=7)
    with mock.patch.object(evaluation.Evaluator, 'run_policy') as run_policy:
      self.assertEqual(self._play(agent, train_step=7), first)
      run_policy.side_effect = KeyboardInterrupt
      for changed in (
          {'train_step': 8},
          {'train_step': 7, 'num_episodes': 3},
          {'train_step': 7, 'gin_bindings': 'PointMaze.size = "Medium"'},
      ):
        with self.assertRaises(KeyboardInterrupt):
          self._play(agent, **changed)

  def test_a_served_policy_is_searched(self):
    draws = []

    def sample(observation, num_samples, seed):
      draws.append(num_samples)
      shape = (len(observation['observation']), num_samples, 1, 2)
      return np.random.default_rng(seed).uniform(-1.0, 1.0, shape)

    spec = policy_spec.PolicySpec(
        {'observation': policy_spec.ArraySpec((4,))}, action_size=2
    )
    served = self.enter_context(
        toy_policy.serving(server.Policy(sample), spec)
    )
    agent = small_agent.make_agent(
        iql.IQLCritic,
        functools.partial(remote.RemotePolicy, address=served.address),
        observation_spec=tf.TensorSpec([4], tf.float32, 'observation'),
        search=small_agent.make_search(num_gradient_steps=0),
    )
    self.assertEqual(self._play(agent, num_samples=3).num_episodes, 2)
    self.assertEqual(set(draws), {3})


class OwnSearchTest(absltest.TestCase):

  def test_the_step_size_is_that_of_the_search_that_climbs(self):
    ranking = small_agent.make_search(num_gradient_steps=0, step_size=0.3)
    searches = small_run.make_agent().searches._replace(
        training=small_agent.make_search(), evaluation=ranking
    )
    agent = mock.Mock(searches=searches)
    own, _, climb = search_run.own_search(agent, 'x')
    self.assertEqual(own.num_gradient_steps, 0)
    self.assertEqual(climb, search_settings.Climb({0, 1}, 0.1))

  def test_a_run_without_a_search_by_a_critic_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'x must be .* critic.*DPPOAgent'):
      search_run.own_search(small_dppo.make_agent(), 'x')
    agent = small_run.make_agent()
    for optimizer, name in (
        (None, 'None'),
        (cross_entropy_method.CrossEntropyMethod(), 'CrossEntropyMethod'),
    ):
      agent.searches.evaluation.optimizer = optimizer
      with self.assertRaisesRegex(ValueError, f'that of x is {name}'):
        search_run.own_search(agent, 'x')


if __name__ == '__main__':
  absltest.main()
