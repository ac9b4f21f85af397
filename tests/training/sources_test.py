"""Tests of where training rows and online episodes come from."""

import functools
import os
from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.distributed import remote_source
from parl_tf.domains import pointmaze
from parl_tf.replay import episode_log
from parl_tf.replay import memory_experience
from parl_tf.training import checkpoint
from parl_tf.training import experiment  # noqa: F401 (registers its settings)
from parl_tf.training import sources
from tests import eager
from tests.training import small_run


class _OnlyEvaluations(pointmaze.PointMaze):
  """A task that allows evaluation but no collection."""

  def make_environment(self, seed, evaluation):
    if not evaluation:
      raise NotImplementedError('This task has no collection.')
    return super().make_environment(seed, evaluation)


class _Unstable(pointmaze.PointMaze):
  """A task whose physics fail in the first `num_bad` episodes."""

  def __init__(self, num_bad):
    super().__init__(
        size='UMaze', min_start_distance=2, max_episode_steps=5
    )
    self._num_bad = num_bad

  def make_environment(self, seed, evaluation):
    environment = super().make_environment(seed, evaluation)
    reset, step = environment.reset, environment.step
    resets = []

    def counted_reset():
      resets.append(True)
      return reset()

    def unstable_step(action):
      time_step = step(action)
      if len(resets) <= self._num_bad:
        return time_step._replace(reward=np.float32(np.nan))
      return time_step

    environment.reset, environment.step = counted_reset, unstable_step
    return environment


class LocalSourceTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self._dir = self.create_tempdir().full_path
    self._root = os.path.join(self._dir, 'run')

  def _session(self, name='run', **kwargs):
    return small_run.make_session(os.path.join(self._dir, name), **kwargs)

  def _collect(self, session, num_episodes):
    """Returns the episodes that the source collects, starting at the first."""
    with session.source.collection(session) as collection:
      collected = [collection.next(i) for i in range(num_episodes)]
    episodes = list(session.log.read(0, num_episodes))
    self.assertEqual(
        collected,
        [(e.num_steps, session.domain.is_success(e)) for e in episodes],
    )
    return episodes

  def test_collected_episodes_are_functions_of_seed_and_number(self):
    session = self._session()
    first, second = self._collect(session, 2)
    self.assertFalse(
        np.array_equal(first.observation[0], second.observation[0])
    )
    self.assertEqual((first.episode_id, second.episode_id), (0, 1))
    self.assertEqual(first.policy_version, 0)
    self.assertEqual(
        session.experience.num_transitions('online'),
        first.num_steps + second.num_steps,
    )
    again = self._collect(self._session('other'), 2)
    for seen, wanted in zip(again, (first, second), strict=True):
      np.testing.assert_array_equal(seen.action, wanted.action)

  def test_a_dataset_beyond_the_tables_is_refused_at_the_start(self):
    data = small_run.make_episodes(os.path.join(self._dir, 'data.hdf5'))
    source = sources.LocalSource(
        functools.partial(memory_experience.MemoryExperience, capacity=3),
        small_run.make_domain(),
        small_run.make_agent(),
        0,
    )
    session = mock.Mock(root_dir='run', state=checkpoint.RunState())
    with self.assertRaisesRegex(ValueError, 'MemoryExperience.capacity.*got 3'):
      source.begin(session, data)
    learner = remote_source.RemoteSource(
        'localhost:1',
        functools.partial(memory_experience.MemoryExperience, capacity=3),
        small_run.make_domain(),
        small_run.make_agent(),
        0,
    )
    with self.assertRaisesRegex(ValueError, 'MemoryExperience.capacity.*got 3'):
      learner.begin(session, data)

  def test_another_dataset_is_refused_when_a_run_goes_on(self):
    data = small_run.make_episodes(os.path.join(self._dir, 'data.hdf5'))
    session = self._session()
    source = session.source
    source.begin(session, data)
    source.begin(session, data)
    changed = data[0]._replace(reward=data[0].reward + 1)
    for other in (data[1:], [changed, *data[1:]]):
      with self.assertRaisesRegex(ValueError, 'must be the one with which the'):
        source.begin(session, other)

  def test_an_episode_that_is_not_finite_is_collected_anew(self):
    session = self._session(domain=_Unstable(num_bad=2))
    with self.assertLogs(level='ERROR') as logged:
      (episode,) = self._collect(session, 1)
    self.assertLen(logged.output, 2)
    self.assertRegex(logged.output[0], 'Dropping.*`reward` must be finite')
    self.assertEqual(episode.episode_id, 0)
    self.assertTrue(np.all(np.isfinite(episode.reward)))
    # Repeating the same start would repeat a fault of a deterministic task.
    (first,) = self._collect(
        self._session('other', domain=_Unstable(num_bad=0)), 1
    )
    self.assertFalse(
        np.array_equal(first.observation[0], episode.observation[0])
    )

  def test_a_task_that_is_never_finite_ends_the_run(self):
    session = self._session(domain=_Unstable(num_bad=9))
    with self.assertRaisesRegex(ValueError, '`reward` must be finite'):
      self._collect(session, 1)

  def test_goals_that_fail_end_the_run(self):
    make_copies = mock.Mock(side_effect=IndexError('no goal'))
    writer_ctor = functools.partial(
        small_run.episode_writer.EpisodeWriter, make_copies=make_copies
    )
    with mock.patch.object(
        small_run.episode_writer, 'EpisodeWriter', writer_ctor
    ):
      session = self._session()
    with self.assertLogs(level='ERROR') as logged:
      with self.assertRaisesRegex(ValueError, '`Domain.goals` failed: IndexEr'):
        self._collect(session, 1)
    self.assertLen(logged.output, 1)  # The traceback. A robot acts once only.

  def test_logged_episodes_after_the_checkpoint_are_not_repeated(self):
    data = small_run.make_episodes(os.path.join(self._dir, 'data.hdf5'))[:2]
    log = episode_log.EpisodeLog(os.path.join(self._root, 'episodes'))
    for episode in data:
      log.append(episode)
    session = self._session(
        domain=_OnlyEvaluations(
            size='UMaze', min_start_distance=2, max_episode_steps=5
        )
    )
    for seen, wanted in zip(self._collect(session, 2), data, strict=True):
      np.testing.assert_array_equal(seen.observation, wanted.observation)
    self.assertEqual(
        session.experience.num_transitions('online'),
        sum(e.num_transitions for e in data),
    )
    with self.assertRaisesRegex(NotImplementedError, 'has no collection'):
      self._collect(session, 3)

  def test_restored_session_has_the_episodes_of_its_checkpoint(self):
    session = self._session()
    first, _ = self._collect(session, 2)
    session.begin_phase('online')
    session.state.episodes = 1
    session.save()
    later = self._session()
    with later.source.collection(later):
      self.assertEqual(
          later.experience.num_transitions('online'), first.num_steps
      )


if __name__ == '__main__':
  absltest.main()
