"""Tests of which policies a run exports, and when."""

import os
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.networks import low_rank
from parl_tf.training import export
from parl_tf.training import run_policies
from tests import eager
from tests.training import small_run


class RunPoliciesTest(absltest.TestCase):

  def test_latency_is_measured_after_a_phase_and_at_the_end(self):
    eager.run_eagerly(self)
    folder = self.create_tempdir().full_path
    episodes = small_run.make_episodes(os.path.join(folder, 'data.hdf5'))
    session = small_run.make_session(os.path.join(folder, 'run'))
    session.begin_phase('offline')
    with mock.patch.object(export, 'export_policies') as exporter:
      exporter.return_value = {}
      run_policies.export_run(session, episodes, ['base_policy'], 'offline')
      paths = run_policies.export_run(session, episodes, ['base_policy'])

    self.assertEqual(
        paths,
        {'base_policy': os.path.join(
            session.root_dir, 'policies', 'base_policy'
        )},
    )
    measured = [call.kwargs['measure_latency'] for call in exporter.mock_calls]
    self.assertEqual(measured, [True, True])

  def test_no_policy_searches_with_an_untrained_critic(self):
    folder = self.create_tempdir().full_path
    session = small_run.make_session(os.path.join(folder, 'run'))
    names = ['base_policy', 'greedy_policy']
    for phase, wanted in ('behavior_cloning', names[:1]), ('offline', names):
      session.state.phase = phase
      with mock.patch.object(export, 'export_policies', return_value={}):
        with mock.patch.object(run_policies, '_example'):
          paths = run_policies.export_run(session, [], names)
      self.assertCountEqual(paths, wanted)

  def test_adapters_are_written_beside_the_policies(self):
    eager.run_eagerly(self)
    folder = self.create_tempdir().full_path
    episodes = small_run.make_episodes(os.path.join(folder, 'data.hdf5'))
    session = small_run.make_session(os.path.join(folder, 'run'))
    adapters, other = (_make_adapters(seed) for seed in (0, 1))
    session.agent.generative_policy.adapters = adapters
    os.makedirs(os.path.join(session.root_dir, 'policies'))

    with mock.patch.object(export, 'export_policies', return_value={}):
      run_policies.export_run(session, episodes, ['base_policy'])

    file = os.path.join(session.root_dir, 'policies', run_policies.ADAPTERS)
    other.load(file)
    np.testing.assert_array_equal(
        other.adapters[0].down, adapters.adapters[0].down
    )

  def test_exports_that_are_no_longer_wanted_are_set_aside(self):
    folder = self.create_tempdir().full_path
    session = small_run.make_session(os.path.join(folder, 'run'))
    session.state.phase = 'online'
    policies = os.path.join(session.root_dir, 'policies')
    for name in ('base_policy', 'greedy_policy', 'mine', 'offline/policy'):
      os.makedirs(os.path.join(policies, name))
    with open(os.path.join(policies, run_policies.ADAPTERS), 'wb'):
      pass
    for names, wanted in (
        (
            ['base_policy'],
            ['adapters.npz', 'base_policy', 'greedy_policy.replaced-1'],
        ),
        (
            [],
            [
                'adapters.replaced-1.npz',
                'base_policy.replaced-1',
                'greedy_policy.replaced-1',
            ],
        ),
    ):
      with mock.patch.object(export, 'export_policies', return_value={}):
        with mock.patch.object(run_policies, '_example'):
          run_policies.export_run(session, [], names)
      self.assertCountEqual(
          os.listdir(policies), [*wanted, 'mine', 'offline']
      )
    self.assertEqual(os.listdir(os.path.join(policies, 'offline')), ['policy'])

  def test_the_best_policies_are_exported_if_success_fell(self):
    eager.run_eagerly(self)
    folder = self.create_tempdir().full_path
    episodes = small_run.make_episodes(os.path.join(folder, 'data.hdf5'))
    session = small_run.make_session(
        os.path.join(folder, 'run'), keep_best=True
    )
    (weight, *_) = session.agent.generative_policy.variables
    metrics = {
        'success_rate': 0.9,
        'success_rate_without_search': 0.5,
        'num_evaluation_episodes': 64,
        'mean_return': -20.0,
        'mean_return_without_search': -30.0,
        'outcomes': '1' * 18 + '00',
        'outcomes_without_search': '0' * 20,
    }
    weight.assign(tf.ones_like(weight))
    session.best_policies.offer(metrics, episodes=11)
    weight.assign(tf.zeros_like(weight))
    exported = []

    def export_policies(policies, *args, **kwargs):
      exported.append((list(policies), weight.numpy().max()))
      return {}

    with mock.patch.object(export, 'export_policies', export_policies):
      session.state.num_online_evaluations = 5
      # Seven lost starts have 1 / 128, for each of four earlier evaluations.
      for num_successes in (17, 11, 4):
        session.state.summaries['online'] = dict(
            metrics, outcomes='1' * num_successes + '0' * (20 - num_successes)
        )
        best = run_policies.export_best(session, episodes, ['base_policy'])
        if num_successes > 4:
          self.assertIsNone(best)

    path = os.path.join(session.root_dir, 'policies', 'best', 'base_policy')
    self.assertEqual(exported, [([path], 1.0)])
    self.assertEqual(best.policies, {'base_policy': path})
    self.assertEqual(best.success_rate, 0.9)
    self.assertEqual(weight.numpy().max(), 0.0)


def _make_adapters(seed):
  module = tf.Module()
  module.layer = low_rank.make_dense(2, 3, seed=0)
  return low_rank.Adapters(module, seed, rank=1)


if __name__ == '__main__':
  absltest.main()
