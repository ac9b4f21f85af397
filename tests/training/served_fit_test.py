"""Tests of the actions that a served policy is fitted to."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.training import served_online
from tests.agents import small_agent
from tests.training import served_run


class ServedFitTest(parameterized.TestCase):

  def test_a_sample_replaces_elements_past_the_end(self):
    rows, mask = small_agent.make_rows(4), np.float32([1.0, 0.0])
    info = dict(
        rows.policy_info, action_mask=tf.constant(mask, shape=[1, 1, 2])
    )
    info['action_mask'] = tf.tile(info['action_mask'], [4, 2, 1])
    session = mock.Mock(seed=0, train_step=0)
    session.state.policy_versions = ['a', 'b']
    session.experience.iterate.return_value = iter(
        [types.Experience(policy=rows._replace(policy_info=info))]
    )
    session.agent.best_actions = lambda observation, samples, action, seed: (
        action, tf.zeros([4])
    )
    policy = mock.Mock(version='b')
    policy.sample.return_value = tf.fill([4, 3, 2], 0.75)
    policy.fit.return_value.losses = {'loss': np.zeros([3])}
    phase = served_online.ServedOnline(
        num_epochs=1,
        episodes_per_epoch=2,
        num_samples=3,
        num_fitted_rows=16,
        num_fit_steps=3,
    )

    phase._fit(session, policy)

    _, fitted, _ = policy.fit.call_args.args
    np.testing.assert_array_equal(
        fitted, np.where(mask, rows.action[:, 0], np.float32(0.75))
    )

  def test_the_number_of_updates_changes_linearly(self):
    phase = served_run.phase(5, num_fit_steps=300, final_fit_steps=20)
    self.assertEqual(
        [phase._fit_steps(epoch) for epoch in range(6)],
        [300, 230, 160, 90, 20, 20],
    )
    phase = served_run.phase(5, num_fit_steps=300)
    self.assertEqual([phase._fit_steps(x) for x in (0, 4)], [300, 300])
    with self.assertRaisesRegex(ValueError, 'final_fit_steps.*positive'):
      served_run.phase(5, final_fit_steps=0)

  @parameterized.parameters(
      (0, []), (1, ['b', 'c']), (2, ['a', 'c']), (9, ['a', 'c'])
  )
  def test_an_earlier_version_draws_the_candidates(self, lag, restored):
    session = mock.Mock(seed=0, train_step=0)
    session.state.policy_versions = ['a', 'b', 'c']
    session.experience.iterate.return_value = iter(
        [types.Experience(policy=small_agent.make_rows(4))]
    )
    session.agent.best_actions = lambda observation, samples, action, seed: (
        action, tf.zeros([4])
    )
    policy = mock.Mock(version='c')
    policy.sample.return_value = tf.zeros([4, 3, 2])
    policy.fit.return_value.losses = {'loss': np.zeros([3])}
    phase = served_online.ServedOnline(candidate_lag=lag, num_samples=3)

    phase._fit(session, policy)

    calls = [
        (name, *arguments[:1])
        for name, arguments, _ in policy.method_calls
        if name in ('restore', 'sample', 'fit')
    ]
    self.assertEqual(
        [x for x in calls if x[0] == 'restore'],
        [('restore', version) for version in restored],
    )
    # The present version is the one that is trained.
    self.assertEqual(
        [name for name, *_ in calls],
        ['restore', 'sample', 'restore', 'fit'] if restored
        else ['sample', 'fit'],
    )


if __name__ == '__main__':
  absltest.main()
