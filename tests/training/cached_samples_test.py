"""Tests the samples of a frozen policy in the offline phase."""

import dataclasses
import os
import threading
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.replay import action_cache
from parl_tf.replay import experience
from parl_tf.replay import stored_states
from parl_tf.training import cached_samples
from parl_tf.training import phases
from tests.agents import small_agent
from tests.training import small_run

_REQUEST = experience.ExperienceRequest(critic_slices=1, critic_batch_size=16)


class CachedSamplesTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.create_tempdir().full_path
    self._root = os.path.join(folder, 'run')
    self._own = os.path.join(self._root, 'action_cache')
    self.session = small_run.make_session(self._root)
    for episode in small_run.make_episodes(os.path.join(folder, 'data.hdf5')):
      self.session.write_episode('offline', episode)
    self.policy = self.session.agent.generative_policy

  def _samples(self):
    """Returns the samples of a batch, and its observations, `[16, 2, ...]`."""
    rows = next(self.session.experience.iterate(0, 1, _REQUEST)).critic
    return rows.policy_info['candidate_actions'].numpy(), rows.observation

  def test_a_cache_that_nothing_reads_is_warned_of(self):
    phase = phases.Offline(
        num_steps=1, cache_candidates=False, action_cache='/cache'
    )
    with (
        mock.patch.object(self.session, 'train', side_effect=KeyboardInterrupt),
        self.assertLogs(level='WARNING') as logs,
        self.assertRaises(KeyboardInterrupt),
    ):
      phase.run(self.session)
    self.assertIn('`Offline.action_cache` /cache is not used', logs.output[0])

  def test_samples_are_those_of_the_policy(self):
    cached_samples.attach(self.session, None)

    samples, observation = self._samples()

    self.assertEqual(samples.shape, (16, 2, 2, 2))
    # Draws of one state differ from those of another, not within a batch.
    states = self.session.experience.states('offline').observation
    cache = action_cache.ActionCache(self._own)
    for row in range(16):
      for place in range(2):
        same = np.all(states == observation[row, place].numpy(), axis=1)
        np.testing.assert_array_equal(
            samples[row, place], cache.samples[np.flatnonzero(same)[0]]
        )
    sampler = cached_samples.local_sampler(
        self.session.agent.searches.training, self.policy, len(states)
    )
    seed = np.array([0, 1], np.int32)
    np.testing.assert_allclose(
        sampler(states, 2, seed),
        self.policy.sample(tf.constant(states), 2, tf.constant(seed)),
        atol=1e-5,
    )

  def test_states_are_read_in_parts(self):
    # Stacks of pictures of all states at once would not fit into memory.
    states = self.session.experience.states('offline')
    sizes = []

    def rows(places):
      read = states.rows(places)
      sizes.append(len(read))
      return read

    with mock.patch.object(
        self.session.experience,
        'states',
        lambda table: dataclasses.replace(states, rows=rows),
    ), mock.patch.object(
        action_cache, 'STATES_PER_SHARD', 8
    ), mock.patch.object(
        stored_states, '_STATES_PER_READ', 8
    ):
      cached_samples.attach(self.session, None)

    self.assertGreater(len(states.episode_id), 16)
    self.assertNotEmpty(sizes)
    self.assertLessEqual(max(sizes), 8)

  def test_a_resumed_phase_draws_nothing_and_other_weights_draw_again(self):
    cached_samples.attach(self.session, None)
    before = self._samples()[0]
    created = os.path.getmtime(os.path.join(self._own, 'states.npz'))

    cached_samples.attach(self.session, None)
    np.testing.assert_array_equal(self._samples()[0], before)
    self.assertEqual(
        os.path.getmtime(os.path.join(self._own, 'states.npz')), created
    )
    with open(os.path.join(self._own, 'shards.txt')) as file:
      self.assertLen(file.readlines(), 1)

    variable = self.policy.trainable_variables[-1]
    variable.assign_add(tf.ones_like(variable))
    cached_samples.attach(self.session, None)
    self.assertTrue(np.any(self._samples()[0] != before))

  def test_a_version_is_of_all_weights_that_draw(self):
    policy = small_agent.make_policy()  # Draws from averaged weights.
    trained = {id(v) for v in policy.trainable_variables}
    average = [v for v in policy.variables if id(v) not in trained][-1]
    before = cached_samples._version(policy, is_known=False)
    average.assign_add(tf.ones_like(average))
    self.assertNotEqual(
        cached_samples._version(policy, is_known=False), before
    )

  def test_the_cache_of_a_run_is_removed_after_the_phase(self):
    cached_samples.attach(self.session, None)

    cached_samples.detach(self.session)

    self.assertFalse(os.path.exists(self._own))
    rows = next(self.session.experience.iterate(0, 1, _REQUEST)).critic
    self.assertNotIn('candidate_actions', rows.policy_info)

  def test_a_cache_whose_removal_was_killed_is_drawn_again(self):
    cached_samples.attach(self.session, None)
    for name in ('states.npz', 'header.json'):
      os.remove(os.path.join(self._own, name))
      cached_samples.attach(self.session, None)
      self.assertTrue(os.path.exists(os.path.join(self._own, name)))

    def kill(*unused_arguments, **unused_options):
      raise KeyboardInterrupt

    with mock.patch('shutil.rmtree', kill):
      with self.assertRaises(KeyboardInterrupt):
        cached_samples.detach(self.session)
    # What is removed first makes it no cache.
    self.assertNotIn('header.json', os.listdir(self._own))

  def test_a_given_cache_of_other_weights_is_refused_by_name(self):
    cached_samples.attach(self.session, None)
    variable = self.policy.trainable_variables[-1]
    variable.assign_add(tf.ones_like(variable))

    with self.assertRaisesRegex(ValueError, f'{self._own} must have `version`'):
      cached_samples.attach(self.session, self._own)


class PatientSamplerTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._are_awaited, self._is_stopped = threading.Event(), threading.Event()
    self._sampler = mock.Mock(side_effect=ConnectionError('away'))

  def _draw(self):
    draw = cached_samples.patient_sampler(
        self._sampler, self._are_awaited, self._is_stopped
    )
    return draw('observation', 2, 'seed')

  def test_a_server_that_stays_away_is_an_error_when_samples_are_awaited(self):
    retries = []

    def wait(seconds):
      retries.append(seconds)
      if len(retries) == 3:
        self._are_awaited.set()

    with mock.patch.object(self._are_awaited, 'wait', wait):
      with self.assertRaisesRegex(ConnectionError, 'away'):
        self._draw()
    # After the other work has ended, it is tried once more.
    self.assertEqual(self._sampler.call_count, 4)

  def test_it_stops_when_told_to(self):
    def stop():
      self._is_stopped.set()
      self._are_awaited.set()

    timer = threading.Timer(0.05, stop)
    timer.start()
    self.addCleanup(timer.join)
    # Else it would wait for five seconds, and try again.
    with self.assertRaisesRegex(ConnectionError, 'away'):
      self._draw()
    self.assertEqual(self._sampler.call_count, 1)


if __name__ == '__main__':
  absltest.main()
