"""Tests with which critic a served policy is searched, and its version."""

import dataclasses
import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf.binaries import evaluation_run
from parl_tf.binaries import restored_run
from parl_tf.binaries import served_policy
from parl_tf.binaries import training_run
from parl_tf.serving import policy_spec
from parl_tf.training import best_policies
from parl_tf.training import served_acting
from tests import eager
from tests.binaries import tiny
from tests.serving import toy_policy

_SPEC = dataclasses.replace(
    toy_policy.SPEC,
    observation={'state': policy_spec.ArraySpec((4,))},
    action_low=None,
    action_high=None,
)


class ServedVersionTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self.addCleanup(gin.clear_config)
    self.folder = self.create_tempdir().full_path
    self.server = self.enter_context(
        toy_policy.serving(
            toy_policy.ToyPolicy().functions(),
            _SPEC,
            directory=os.path.join(self.folder, 'versions'),
        )
    )

  @parameterized.parameters(
      ('online', tiny.CHEAP_CRITIC),
      ('offline', ()),  # Only its samples have a version.
  )
  def test_a_version_that_is_not_the_last_one_of_the_run_is_warned_of(
      self, phase, critic
  ):
    run = os.path.join(self.folder, 'run')
    address = f'ws://{self.server.address}'
    training_run.train(
        run,
        (tiny.GIN_FILE, 'policies/served.gin', 'variants/served_online.gin'),
        (
            *tiny.BINDINGS,
            *critic,
            f'run_experiment.phase_names = ({phase!r},)',
            'run_experiment.num_recorded_steps = 100',
            'run_experiment.exported_policies = ()',
            f'RemotePolicy.address = {address!r}',
            "RemotePolicy.keys = {'observation': 'state'}",
            'ServedOnline.num_epochs = 1',
            'ServedOnline.episodes_per_epoch = 1',
            'ServedOnline.critic_batch_size = 8',
            'ServedOnline.num_fitted_rows = 16',
            'ServedOnline.num_fit_steps = 2',
        ),
    )
    last = self.server.weights.version

    gin.clear_config()
    with self.assertNoLogs(level='WARNING'):
      act, _ = evaluation_run.searched_act(address, run)
    self.assertEqual(act.version, last)

    with toy_policy.connect(self.server) as client:
      other = client.train(
          {'state': np.zeros([2, 4])}, np.ones([2, 4, 2]), num_steps=1, seed=0,
          version=last,
      ).version
    gin.clear_config()
    with self.assertLogs(level='WARNING') as logs:
      act, domain = evaluation_run.searched_act(address, run)
    self.assertEqual(act.version, other)
    self.assertIn(
        f'has version {other} of the weights, but the last one of {run} is'
        f' {last},',
        logs.output[0],
    )
    gin.clear_config()
    with self.assertLogs(level='WARNING') as logs:
      restored_run.warn_of_other_version(
          run, restored_run.restore_agent(run), address, other, 'offline'
      )
    self.assertIn(f'but the offline one of {run} is initial,', logs.output[0])
    gin.clear_config()
    if phase == 'online':  # Its only evaluation is the best.
      with self.assertLogs(level='WARNING') as logs:
        restored_run.restore_at(run, 'best')
      self.assertIn(
          f'has version {other} of the weights, but the best one of {run} is'
          f' {last},',
          logs.output[0],
      )
      self._check_other_checkpoints(address, run)
    result = evaluation_run.play(act, domain, num_episodes=1, seed=0)
    line = evaluation_run.describe(result, act.version)
    self.assertEndsWith(line, f' environment steps, version {other}')
    summary = evaluation_run.summarize('policy', 0, result, act.version)
    self.assertEqual(summary['policy_version'], other)

  def _check_other_checkpoints(self, address, run):
    """Checks that `--checkpoint` chooses the critic."""
    gin.clear_config()
    agent, _ = restored_run.restore(run, searches=True)
    last = [x.numpy() for x in agent.critic.variables]
    for variable in agent.critic.variables:
      variable.assign(tf.ones_like(variable))
    best = best_policies.BestPolicies(run, agent)
    agent.generative_policy.version = self.server.weights.version
    best.offer(
        {
            'success_rate_without_search': 1.0,
            'num_evaluation_episodes': 1,
            'mean_return_without_search': 1e6,
            'outcomes_without_search': '1',
        },
        episodes=2,
    )
    versions = set()
    for name, wanted in (
        ('best', [np.ones_like(x) for x in last]), ('last', last)
    ):
      gin.clear_config()
      with mock.patch.object(
          served_acting, 'act_searched', wraps=served_acting.act_searched
      ) as searched:
        versions.add(
            served_policy.steered_policy(
                address, run, checkpoint_name=name
            ).version
        )
      (_, _, agent), _ = searched.call_args
      for found, values in zip(agent.critic.variables, wanted, strict=True):
        np.testing.assert_array_equal(found, values)
    self.assertLen(versions, 2)


if __name__ == '__main__':
  absltest.main()
