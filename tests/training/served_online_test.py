"""Tests fine-tuning of a served policy by epochs."""

import csv
import glob
import os
import threading
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf.critics import iql
from parl_tf.replay import action_cache
from parl_tf.training import cached_samples
from parl_tf.training import sample_segments
from parl_tf.training import served_online
from tests.serving import toy_policy
from tests.training import served_run
from tests.training import small_run


class _LatePolicy(toy_policy.ToyPolicy):
  """In the second epoch, draws samples once the critic is being trained.

  Attributes:
    critic_is_trained: To be set when that training begins.
    waited: For each draw that waited, whether it was set in time.
  """

  def __init__(self):
    super().__init__()
    self.critic_is_trained = threading.Event()
    self.waited = []

  def sample(self, observation, num_samples, seed):
    # Acting, new episodes and the fit ask for at most 16 states at once.
    if self.num_trainings == 1 and len(observation['state']) > 16:
      self.waited.append(self.critic_is_trained.wait(20.0))
    return super().sample(observation, num_samples, seed)


class ServedOnlineTest(served_run.ServedRunTest):

  def test_epochs_train_critic_and_policy_and_resume_exactly(self):
    toy, server = self.serve('whole')
    session = self.make_session('whole_run', server)
    before = [v.numpy() for v in session.agent.critic.trainable_variables]
    served_run.phase(2).run(session)

    versions = session.state.policy_versions
    self.assertLen(versions, 3)
    self.assertEqual(server.weights.version, versions[-1])
    self.assertCountEqual(server.weights.saved(), versions)
    self.assertEqual(toy.num_trainings, 2)
    # Only the first action of a chunk is used, and fitted.
    self.assertTrue(np.all(toy.offset[0] != 0.0))
    np.testing.assert_array_equal(toy.offset[1:], 0.0)
    after = session.agent.critic.trainable_variables
    self.assertTrue(
        any(np.any(x != y.numpy()) for x, y in zip(before, after))
    )
    self.assertEqual(session.state.episodes, 4)
    with open(os.path.join(session.root_dir, 'metrics.csv')) as file:
      rows = list(csv.DictReader(file))
    self.assertLen(rows, 2)
    self.assertEqual(float(rows[0]['cache/share_drawn']), 1.0)
    self.assertEqual(float(rows[0]['cache/staleness']), 0.0)
    # Only the new episodes have samples of the second version. While the critic
    # is trained, half of the states at least get them, too.
    self.assertBetween(float(rows[1]['cache/staleness']), 0.5, 0.99)
    self.assertGreaterEqual(float(rows[1]['cache/share_drawn']), 0.5)
    self.assertEqual([bool(r['success_rate']) for r in rows], [False, True])
    self.assertGreaterEqual(float(rows[1]['values/advantage']), 0.0)

    # The cached samples are as many as this phase asks for.
    segments = glob.glob(
        os.path.join(session.root_dir, 'action_segments', '*', '*')
    )
    self.assertNotEmpty(segments)
    for directory in segments:
      self.assertEqual(
          action_cache.ActionCache(directory).header.num_samples, 3
      )

    # A run that ends after one epoch, whose server then goes its own way.
    other, server = self.serve('halves')
    served_run.phase(1).run(self.make_session('halves_run', server))
    with toy_policy.connect(server) as client:
      client.train(
          {'state': np.zeros([4, 4])}, np.ones([4, 4, 2]), num_steps=1, seed=0,
          version=versions[1],
      )
    resumed = self.make_session('halves_run', server)
    served_run.phase(2).run(resumed)

    self.assertEqual(resumed.state.policy_versions, versions)
    np.testing.assert_array_equal(other.offset, toy.offset)

  def test_a_critic_of_stored_actions_needs_no_samples(self):
    _, server = self.serve('in_sample')
    session = self.make_session('in_sample_run', server, iql.IQLCritic)
    served_run.phase(1).run(session)
    self.assertFalse(
        os.path.exists(os.path.join(session.root_dir, 'action_segments'))
    )
    self.assertLen(session.state.policy_versions, 2)

  def test_critic_trains_while_samples_are_drawn(self):
    toy = _LatePolicy()
    _, server = self.serve('beside', toy=toy)
    session = self.make_session('run', server)
    train = session.train

    def train_loudly(num_steps, request):
      if toy.num_trainings == 1:
        toy.critic_is_trained.set()
      return train(num_steps, request)

    with mock.patch.object(session, 'train', train_loudly):
      served_run.phase(2).run(session)

    self.assertEqual(set(toy.waited), {True})

  def test_repeated_epoch_has_the_same_samples(self):
    critics = []
    for name in ('whole', 'killed', 'undone'):
      _, server = self.serve(name)
      served_run.phase(1).run(self.make_session(f'{name}_run', server))
      session = self.make_session(f'{name}_run', server)
      if name == 'killed':
        with mock.patch.object(
            served_online.ServedOnline, '_fit', side_effect=OSError('killed')
        ):
          with self.assertRaisesRegex(OSError, 'killed'):
            served_run.phase(2).run(session)
        session = self.make_session(f'{name}_run', server)
      if name == 'undone':
        # As if an older checkpoint was restored, and the fit then gave another
        # second version.
        [folder] = glob.glob(
            os.path.join(session.root_dir, 'action_segments', 'offline_*')
        )
        header = action_cache.Header('initial+1-other', 3, 2)
        self._fill(session, os.path.join(folder, '1'), header)
      served_run.phase(2).run(session)
      critics.append([v.numpy() for v in session.agent.critic.variables])

    for whole, killed, undone in zip(*critics, strict=True):
      np.testing.assert_array_equal(whole, killed)
      np.testing.assert_array_equal(whole, undone)

  def _fill(self, session, path, header):
    """Writes a complete cache of zeros for the offline table."""
    cache = action_cache.ActionCache.open_or_create(
        path, header, session.experience.states('offline')
    )
    for shard in cache.missing_shards:
      places = cache.places(shard)
      cache.write(
          shard, np.zeros([places.stop - places.start, header.num_samples, 2])
      )

  def test_a_cache_of_too_few_samples_is_not_used(self):
    _, server = self.serve('few')
    session = self.make_session('run', server)
    path = os.path.join(self.folder, 'cache')
    self._fill(session, path, action_cache.Header('initial', 2, 2))

    served_run.phase(1, base_cache=path).run(session)

    [folder] = glob.glob(
        os.path.join(session.root_dir, 'action_segments', 'offline_*')
    )
    drawn = action_cache.ActionCache(os.path.join(folder, '0')).samples
    self.assertEqual(drawn.shape[1:], (3, 2))
    self.assertGreater(np.mean(np.std(drawn, axis=1)), 0.0)

  def test_a_cache_of_another_version_is_warned_of(self):
    _, server = self.serve('other')
    session = self.make_session('run', server)
    path = os.path.join(self.folder, 'cache')
    self._fill(session, path, action_cache.Header('another', 3, 2))
    with self.assertLogs(level='WARNING') as logs:
      served_run.phase(1, base_cache=path).run(session)

    self.assertRegex(
        logs.output[0], 'of version another.* has initial: they are drawn again'
    )

  def test_offline_samples_make_the_server_load_their_version(self):
    _, server = self.serve('back')
    served_run.phase(1).run(self.make_session('run', server))  # Trains it.
    session = self.make_session('other', server)
    count = session.agent.searches.training.num_samples
    header = action_cache.Header('initial', count, 2)
    self._fill(session, cached_samples.own_directory(session), header)
    cached_samples.attach(session, None)
    policy = session.agent.generative_policy
    self.assertEqual(policy.current_version(), 'initial')

  def test_a_run_killed_after_offline_rl_begins_with_its_version(self):
    _, server = self.serve('killed')
    session = self.make_session('run', server)
    count = session.agent.searches.training.num_samples
    self._fill(
        session,
        cached_samples.own_directory(session),
        action_cache.Header('initial', count, 2),
    )
    cached_samples.attach(session, None)
    session.save()
    served_run.phase(1).run(self.make_session('other', server))  # Trains it.
    self.assertNotEqual(server.weights.version, 'initial')

    session = self.make_session('run', server)
    served_run.phase(1).run(session)

    self.assertEqual(session.state.policy_versions[0], 'initial')

  def test_the_cache_of_the_offline_phase_is_taken_over(self):
    self.addCleanup(gin.clear_config)
    _, server = self.serve('given')
    session = self.make_session('run', server)
    path = os.path.join(self.folder, 'cache')
    self._fill(session, path, action_cache.Header('initial', 3, 2))
    with gin.unlock_config():
      gin.bind_parameter('Offline.action_cache', path)

    served_run.phase(1).run(session)

    [folder] = glob.glob(
        os.path.join(session.root_dir, 'action_segments', 'offline_*')
    )
    drawn = action_cache.ActionCache(os.path.join(folder, '0')).samples
    np.testing.assert_array_equal(drawn, 0.0)

  def test_segments_and_versions_differ_in_their_noise(self):
    _, server = self.serve('noise')
    session = self.make_session('run', server)
    served_run.phase(2, refresh_share=1.0).run(session)
    seeds = [
        action_cache.ActionCache(directory).header.seed
        for directory in glob.glob(
            os.path.join(session.root_dir, 'action_segments', '*', '*')
        )
    ]
    self.assertLen(set(seeds), len(seeds))
    self.assertGreater(len(seeds), 5)

  def test_an_error_of_training_does_not_wait_for_samples(self):
    _, server = self.serve('error')
    session = self.make_session('run', server)
    served_run.phase(1).run(session)
    stopped = []

    def refresh(self, versions, sampler, share, is_stopped):
      stopped.append(is_stopped.wait(20.0))

    with (
        mock.patch.object(
            sample_segments.SampleSegments, 'refresh', refresh
        ),
        mock.patch.object(session, 'train', side_effect=ValueError('NaN')),
    ):
      with self.assertRaisesRegex(ValueError, 'NaN'):
        served_run.phase(2).run(session)

    self.assertEqual(stopped, [True])

  def test_phase_with_fewer_epochs_than_before_is_evaluated(self):
    _, server = self.serve('fewer')
    session = self.make_session('run', server)
    with mock.patch.object(session, 'evaluate', side_effect=OSError('killed')):
      with self.assertRaisesRegex(OSError, 'killed'):
        served_run.phase(2).run(session)
    session = self.make_session('run', server)

    served_run.phase(1).run(session)

    self.assertIn('online', session.state.summaries)

  @parameterized.parameters(
      dict(offline_fraction=0.3), dict(fitted_offline_fraction=1.5)
  )
  def test_fractions_are_checked_before_any_work(self, **fraction):
    with self.assertRaisesRegex(ValueError, 'offline_fraction'):
      served_run.phase(1, **fraction)

  def test_critic_may_wait_for_samples_of_the_present_version(self):
    _, server = self.serve('waiting')
    session = self.make_session('run', server)

    served_run.phase(
        2, refresh_beside_training=False, refresh_share=1.0
    ).run(session)

    with open(os.path.join(session.root_dir, 'metrics.csv')) as file:
      rows = list(csv.DictReader(file))
    self.assertEqual([float(r['cache/staleness']) for r in rows], [0.0, 0.0])
    self.assertEqual([float(r['cache/share_drawn']) for r in rows], [1.0, 1.0])

  def test_a_server_without_the_version_of_the_run_is_named(self):
    _, server = self.serve('without', can_save=False)
    session = self.make_session('run', server)
    session.state.policy_versions = ['initial+1-0123']

    with self.assertRaisesRegex(
        ValueError, "must have version 'initial.1-0123'.*got 'initial'"
    ):
      served_run.phase(1).run(session)

  def test_a_run_may_end_after_a_fit_although_the_server_keeps_no_version(self):
    _, server = self.serve('keeps_none', can_save=False)
    session = self.make_session('keeps_none_run', server)
    with mock.patch.object(session, 'write_row', side_effect=KeyboardInterrupt):
      with self.assertRaises(KeyboardInterrupt):
        served_run.phase(2).run(session)

    served_run.phase(2).run(self.make_session('keeps_none_run', server))

  def test_unsuitable_settings_are_refused_before_any_work(self):
    _, server = self.serve('settings')
    session = self.make_session('run', server)
    agent = session.agent
    served_run.phase(1).check(session.domain, agent)
    with self.assertRaisesRegex(
        ValueError, 'num_samples.*num_candidates`, 2, got 1'
    ):
      served_run.phase(1, num_samples=1).check(session.domain, agent)
    with mock.patch.object(agent.searches.training, 'optimizer', None):
      with self.assertRaisesRegex(ValueError, '`Search.optimizer`.* None'):
        served_run.phase(1).check(session.domain, agent)

  def test_a_server_that_cannot_train_is_named_before_any_work(self):
    toy = toy_policy.ToyPolicy()
    server = self.enter_context(
        toy_policy.serving(
            toy.functions()._replace(train=None), served_run.SPEC
        )
    )
    session = self.make_session('run', server)

    with self.assertRaisesRegex(ValueError, 'must be able to train its policy'):
      served_run.phase(1).check(session.domain, session.agent)
    served_run.phase(0).check(session.domain, session.agent)

  def test_policies_of_this_process_are_refused(self):
    session = small_run.make_session(os.path.join(self.folder, 'run'))

    with self.assertRaisesRegex(ValueError, 'got GaussianPolicy'):
      served_run.phase(1).check(session.domain, session.agent)

  def test_candidates_of_the_first_version_train_the_present_one(self):
    trained, fitted = {}, {}
    for lag in (0, 9):
      toy, server = self.serve(f'lag_{lag}')
      session = self.make_session(f'lag_{lag}_run', server)
      # Without a search, the first sample is fitted.
      session.agent.best_actions = lambda observation, samples, *_: (
          samples[:, 0], tf.zeros([len(samples)])
      )
      with mock.patch.object(
          session.agent.generative_policy, 'fit',
          side_effect=session.agent.generative_policy.fit,
      ) as fit:
        served_run.phase(2, candidate_lag=lag).run(session)
      fitted[lag] = [call.args[1] for call in fit.call_args_list]
      versions = session.state.policy_versions
      self.assertLen(set(versions), 3)
      self.assertEqual(server.weights.version, versions[-1])
      trained[lag] = toy.offset
    np.testing.assert_array_equal(fitted[0][0], fitted[9][0])
    # In the second epoch, the trained policy would have drawn others.
    self.assertGreater(np.max(np.abs(fitted[0][1] - fitted[9][1])), 1e-4)
    self.assertGreater(np.max(np.abs(trained[0] - trained[9])), 1e-4)

  def test_an_earlier_version_needs_a_server_that_saves(self):
    _, server = self.serve('unsaved', can_save=False)
    session = self.make_session('unsaved', server)
    phase = served_run.phase(1, candidate_lag=1)
    with self.assertRaisesRegex(ValueError, 'must save versions for .*lag'):
      phase.check(session.domain, session.agent)
    with self.assertRaisesRegex(ValueError, '`candidate_lag` must not be neg'):
      served_run.phase(1, candidate_lag=-1)


if __name__ == '__main__':
  absltest.main()
