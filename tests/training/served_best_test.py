"""Tests that a run of a served policy keeps its best evaluation."""

import json
import os

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.binaries import finished_run
from parl_tf.training import best_policies
from parl_tf.training import run_policies
from parl_tf.training import run_summary
from tests.training import served_run


def _metrics(num_successes):
  outcomes = ('1' * num_successes).ljust(64, '0')
  rate = num_successes / 64
  return {
      'success_rate': rate,
      'success_rate_without_search': rate,
      'mean_return': -20.0,
      'mean_return_without_search': -20.0,
      'num_evaluation_episodes': 64,
      'outcomes': outcomes,
      'outcomes_without_search': outcomes,
  }


class ServedBestTest(served_run.ServedRunTest):

  def test_the_critic_and_the_name_of_the_version_are_kept(self):
    _, server = self.serve('kept')
    session = self.make_session('kept_run', server, keep_best=True)
    agent, kept = session.agent, session.best_policies
    agent.generative_policy.version = 'first'
    before = [x.numpy() for x in agent.critic.variables]
    kept.offer(_metrics(60), episodes=10)
    agent.generative_policy.version = 'second'
    for variable in agent.critic.variables:
      variable.assign_add(tf.ones_like(variable))
    kept.offer(_metrics(20), episodes=20, num_evaluations=2)

    self.assertEqual(kept.best.policy_version, 'first')
    with kept.restored():
      for found, wanted in zip(agent.critic.variables, before, strict=True):
        np.testing.assert_array_equal(found, wanted)
    # The server has loaded nothing.
    self.assertEqual(server.weights.version, 'initial')
    session.state.summaries['online'] = _metrics(20)
    session.state.num_online_evaluations = 2
    best = run_policies.export_best(session, [], ('policy', 'base_policy'))
    self.assertEqual(best.policy_version, 'first')
    summary = run_summary.RunSummary(
        0, 'Toy', 1.0, None, {}, {}, best=best, policy_version='second'
    )
    self.assertIn(
        'Policy: version second, which its server has',
        finished_run.describe(summary, session.root_dir),
    )
    self.assertIn(
        'Success fell after 10 online episodes; for causes, see'
        " docs/troubleshooting.md. In that evaluation the policy's server had"
        ' version first; --checkpoint best of parl-evaluate and parl-serve has'
        ' its critic.',
        finished_run.describe(summary, session.root_dir),
    )

  def test_a_run_keeps_the_version_of_an_evaluation(self):
    _, server = self.serve('run')
    session = self.make_session('run_of_two', server, keep_best=True)
    served_run.phase(2, evaluation_interval=1).run(session)
    path = os.path.join(
        best_policies.directory(session.root_dir), 'best.json'
    )
    with open(path, encoding='utf-8') as file:
      version = json.load(file)['policy_version']
    self.assertIn(version, session.state.policy_versions[1:])

  def test_a_version_that_no_server_can_load_is_not_kept(self):
    _, server = self.serve('keeps_none', can_save=False)
    session = self.make_session('keeps_none_run', server, keep_best=True)
    session.best_policies.offer(_metrics(60), episodes=10)
    self.assertIsNone(session.best_policies.best)


if __name__ == '__main__':
  absltest.main()
