"""Tests that a run of a served policy resumes after faults."""

import glob
import os
import threading
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import interruption
from parl_tf.training import cached_samples
from parl_tf.training import sample_segments
from parl_tf.training import served_online
from tests.training import served_run


class ServedResumeTest(served_run.ServedRunTest):

  def _whole(self, **settings):
    """Returns policy and versions of an undisturbed run of two epochs."""
    policy, server = self.serve('whole')
    session = self.make_session('whole_run', server)
    served_run.phase(2, **settings).run(session)
    return policy, session.state.policy_versions

  def test_damaged_samples_are_drawn_again(self):
    whole, versions = self._whole()
    for name in ('samples.npy', 'shards.txt', 'header.json'):
      with self.subTest(name):
        policy, server = self.serve(name)
        session = self.make_session(f'run_{name}', server)
        served_run.phase(1).run(session)
        paths = glob.glob(
            os.path.join(session.root_dir, 'action_segments', '*', '*', name)
        )
        self.assertNotEmpty(paths)
        for path in paths:
          os.truncate(path, os.path.getsize(path) // 2)
        session = self.make_session(f'run_{name}', server)
        served_run.phase(2).run(session)
        self.assertEqual(session.state.policy_versions, versions)
        np.testing.assert_array_equal(policy.offset, whole.offset)

  def test_a_kill_while_an_earlier_version_draws_undoes_nothing(self):
    whole, versions = self._whole(candidate_lag=9)
    policy, server = self.serve('killed')
    served_run.phase(1, candidate_lag=9).run(self.make_session('run', server))
    session = self.make_session('run', server)
    candidates = session.agent.generative_policy
    sample = candidates.sample

    def sample_or_fail(*args, **kwargs):
      if server.weights.version == 'initial':
        raise OSError('killed')
      return sample(*args, **kwargs)

    with mock.patch.object(candidates, 'sample', sample_or_fail):
      with self.assertRaisesRegex(OSError, 'killed'):
        served_run.phase(2, candidate_lag=9).run(session)
    self.assertEqual(server.weights.version, 'initial')
    session = self.make_session('run', server)
    served_run.phase(2, candidate_lag=9).run(session)
    self.assertEqual(session.state.policy_versions, versions)
    np.testing.assert_array_equal(policy.offset, whole.offset)

  def test_a_server_that_is_away_while_the_critic_trains_costs_no_epoch(self):
    self.enter_context(
        mock.patch.object(cached_samples, '_RETRY_SECONDS', 0.01)
    )
    _, server = self.serve('away')
    session = self.make_session('run', server)
    policy, is_back = session.agent.generative_policy, threading.Event()

    def sample(*args, **kwargs):
      del args, kwargs
      if sampled.call_count < 3:
        raise ConnectionError('away')
      is_back.set()
      return tf.zeros([1, 1, 2])

    sampled = mock.Mock(side_effect=sample)

    def refresh(self, versions, sampler, share, is_stopped):
      with mock.patch.object(policy, 'sample', sampled):
        sampler(np.zeros([1, 4]), 1, np.zeros([2], np.int32))
      return 0.25

    with (
        mock.patch.object(sample_segments.SampleSegments, 'refresh', refresh),
        # Until then, the critic trains.
        mock.patch.object(session, 'train', lambda *_: is_back.wait(20.0)),
        mock.patch.object(
            served_online.ServedOnline, '_fit', side_effect=EOFError('fits')
        ),
        self.assertLogs(level='WARNING') as logs,
    ):
      with self.assertRaisesRegex(EOFError, 'fits'):
        served_run.phase(1).run(session)

    self.assertEqual(sampled.call_count, 3)
    self.assertLen([x for x in logs.output if 'again: away' in x], 2)

  def test_sigterm_ends_a_run_before_a_fit_or_after_an_epoch(self):
    policy, server = self.serve('ended')
    session = self.make_session('run', server)
    end = interruption._ends_after_turn.set
    with mock.patch.object(session, 'train', lambda *_: end()):
      with interruption.turns(), self.assertRaises(KeyboardInterrupt):
        served_run.phase(2).run(session)
    self.assertEqual(policy.num_trainings, 0)

    session = self.make_session('run', server)
    self.assertLen(session.log, 2)  # The episodes are not collected again.
    with (
        mock.patch.object(session, 'train'),
        mock.patch.object(session, 'write_row', lambda _: end()),
        interruption.turns(),
        self.assertRaises(KeyboardInterrupt),
    ):
      served_run.phase(2).run(session)
    self.assertEqual(policy.num_trainings, 1)
    state = self.make_session('run', server).state
    self.assertEqual((state.phase_step, len(state.policy_versions)), (1, 2))


if __name__ == '__main__':
  absltest.main()
