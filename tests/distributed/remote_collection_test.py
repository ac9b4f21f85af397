"""Tests of the learner's side of collection by other processes."""

import functools
import os
import threading
from unittest import mock

from absl import logging
from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.distributed import episode_item
from parl_tf.distributed import journal
from parl_tf.distributed import remote_collection
from parl_tf.distributed import server_link
from parl_tf.distributed import weights as weights_lib
from parl_tf.replay import experience
from parl_tf.replay import reverb_experience
from parl_tf.replay import stored_step
from tests.distributed import small_service

_OBSERVATION = tf.TensorSpec([2], tf.float32)
_ACTION = tf.TensorSpec([1], tf.float32)
_REQUEST = experience.ExperienceRequest(
    critic_slices=1, critic_batch_size=4, critic_offline_fraction=0.5
)


def _episode(num_steps, episode_id=0):
  return types.Episode(
      observation=np.ones([num_steps + 1, 2], np.float32),
      action=np.zeros([num_steps, 1], np.float32),
      reward=np.zeros(num_steps, np.float32),
      discount=np.ones(num_steps, np.float32),
      success=np.full(num_steps, num_steps == 3),
      episode_id=episode_id,
  )


class RemoteCollectionTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    self._learner = self.create_tempdir().full_path
    self._variables = [tf.Variable([1.0, 2.0])]

  def _service(self, port=None):
    """Returns a service that is not ready and its unstarted thread."""
    replay = small_service.make(
        _OBSERVATION, _ACTION, self._variables, self._root, 3, port
    )
    thread = threading.Thread(target=replay.run, args=([_episode(3)],))
    return replay, thread

  def _stop(self, replay, thread):
    replay.stop()
    thread.join()

  def _remote(self, link, root_dir=None, dataset_id=None, **changes):
    weights = weights_lib.Weights(
        link, self._variables, tf.Variable(0, dtype=tf.int64)
    )
    constants = small_service.CONSTANTS._replace(**changes)
    remote = remote_collection.RemoteCollection(
        link,
        weights,
        constants,
        dataset_id or small_service.DATASET_ID,
        root_dir or self._learner,
    )
    return remote, weights

  def test_episodes_arrive_in_log_order(self):
    replay, thread = self._service()
    thread.start()
    self.addCleanup(self._stop, replay, thread)
    link = server_link.ServerLink(replay.address)
    remote, weights = self._remote(link)
    for episode_id, num_steps in ((7, 2), (5, 3)):
      episode_item.send(link.client, _episode(num_steps, episode_id))

    self.assertEqual(remote.next(0), (2, False))
    self.assertEqual(remote.next(1), (3, True))

    self.assertTrue(weights.are_published())
    self.assertEqual(weights_lib.read_progress(link)['is_over'], 0)
    remote.finish(2)
    self.assertEqual(
        weights_lib.read_progress(link),
        {'is_over': 1, 'num_episodes': 2, 'train_step': 0},
    )
    # A learner that extends the run withdraws the end; one that merely resumes
    # leaves the weights to the actors.
    later, weights = self._remote(link)
    later.begin()
    self.assertFalse(weights.are_published())
    self.assertIsNone(weights_lib.read_progress(link))
    later.next(1)
    self._remote(link)[0].begin()
    self.assertEqual(weights_lib.read_progress(link)['is_over'], 0)

  def test_the_newest_weights_are_sent_before_waiting(self):
    replay, thread = self._service()
    thread.start()
    self.addCleanup(self._stop, replay, thread)
    link = server_link.ServerLink(replay.address)
    remote, weights = self._remote(link)
    episode_item.send(link.client, _episode(2, 7))
    remote.next(0)
    remote._published_at = float('inf')  # Not again for their age.
    weights._values['train_step'].assign(4)
    episode_item.send(link.client, _episode(3, 5))

    remote.next(1)

    self.assertEqual(
        weights_lib.read_progress(link),
        {'is_over': 0, 'num_episodes': 1, 'train_step': 4},
    )

  def test_configuration_that_differs_from_the_service_is_refused(self):
    replay, thread = self._service()
    thread.start()
    self.addCleanup(self._stop, replay, thread)
    remote, _ = self._remote(
        server_link.ServerLink(replay.address), gamma=0.995
    )

    with self.assertRaisesRegex(
        ValueError, f'{replay.address}.*`gamma` is 0.9 there, 0.995 here'
    ):
      remote.next(0)

  def test_learner_of_another_run_is_refused_and_sends_no_weights(self):
    first, thread = self._service()
    thread.start()
    link = server_link.ServerLink(first.address)
    episode_item.send(link.client, _episode(2, 1))
    self._remote(link)[0].next(0)
    self._stop(first, thread)

    self._root = self.create_tempdir().full_path
    other, thread = self._service(first.port)
    thread.start()
    self.addCleanup(self._stop, other, thread)
    remote, weights = self._remote(link)
    for call in (
        functools.partial(remote.next, 1),
        functools.partial(remote.finish, 1),
        remote.begin,  # It does not wait for the service to be ready.
    ):
      with self.assertRaisesRegex(
          ValueError, f'{self._learner} must belong to'
      ):
        call()
    self.assertFalse(weights.are_published())

  def test_service_serves_one_learner_until_it_restarts(self):
    first, thread = self._service()
    thread.start()
    link = server_link.ServerLink(first.address)
    for episode_id in range(2):
      episode_item.send(link.client, _episode(2, episode_id))
    one, _ = self._remote(link)
    one.next(0)
    progress = weights_lib.read_progress(link)
    other, _ = self._remote(link, root_dir=self.create_tempdir().full_path)
    for call in (other.begin, functools.partial(other.next, 1)):
      with self.assertRaisesRegex(ValueError, 'serves another learner'):
        call()
    self.assertEqual(weights_lib.read_progress(link), progress)
    self._stop(first, thread)

    second, thread = self._service(first.port)
    thread.start()
    self.addCleanup(self._stop, second, thread)
    other.next(1)
    with self.assertRaisesRegex(ValueError, 'serves another learner'):
      one.finish(1)

  def test_learner_of_another_dataset_is_refused(self):
    replay, thread = self._service()
    thread.start()
    self.addCleanup(self._stop, replay, thread)
    remote, weights = self._remote(
        server_link.ServerLink(replay.address), dataset_id=8
    )
    with self.assertRaisesRegex(ValueError, 'must have the dataset'):
      remote.next(0)
    self.assertFalse(weights.are_published())

  def test_service_with_other_networks_is_refused_before_it_is_ready(self):
    replay, thread = self._service()
    self.addCleanup(self._stop, replay, thread)
    self._variables = [tf.Variable([1.0, 2.0, 3.0])]
    remote, weights = self._remote(server_link.ServerLink(replay.address))
    wanted = (
        rf'at {replay.address} must have the networks .* number 0 \(Variable\)'
        r' is float32 of shape \[2\] there, float32 of shape \[3\] here'
    )
    with self.assertRaisesRegex(ValueError, wanted):
      remote.begin()
    thread.start()
    with self.assertRaisesRegex(ValueError, wanted):
      remote.next(0)
    remote._journal = journal.make()  # As of a service that restarted since.
    with self.assertRaisesRegex(ValueError, wanted):
      remote.next(0)
    self.assertFalse(weights.are_published())

  def test_learner_begins_while_there_is_no_service(self):
    replay, thread = self._service()
    thread.start()
    self._stop(replay, thread)
    with mock.patch.object(server_link, 'DEADLINE_SECONDS', 1):
      with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
        self._remote(server_link.ServerLink(replay.address))[0].begin()
    self.assertIn('without the replay service', logs.output[-1])

  def test_learner_continues_after_the_service_lost_the_end_of_its_log(self):
    first, thread = self._service()
    thread.start()
    link = server_link.ServerLink(first.address)
    remote, _ = self._remote(link)
    for episode_id in range(2):
      episode_item.send(link.client, _episode(2, episode_id))
    remote.next(1)
    self._stop(first, thread)
    log = os.path.join(self._root, 'episodes')
    os.truncate(os.path.join(log, sorted(os.listdir(log))[-1]), 100)

    second, thread = self._service(first.port)
    thread.start()
    self.addCleanup(self._stop, second, thread)
    # Resends the lost episode, as a spool does, and sends one more.
    for episode_id, num_steps in ((1, 2), (2, 3)):
      episode_item.send(link.client, _episode(num_steps, episode_id))

    self.assertEqual(remote.next(2), (3, True))
    self.assertEqual(journal.read(link).episode_id.tolist(), [0, 1, 2])

  def test_learner_waits_for_rows_while_a_service_fills_its_tables(self):
    replay, thread = self._service()
    self.addCleanup(self._stop, replay, thread)
    link = server_link.ServerLink(replay.address)
    rows = remote_collection.PatientExperience(
        reverb_experience.ReverbExperience(
            stored_step.signature(_OBSERVATION, _ACTION),
            address=replay.address,
            reward_scale=1.0,
            reward_bias=0.0,
        ),
        link,
    )
    self.assertEqual(link.size('offline'), 0)
    episode_item.send(link.client, _episode(3))
    iterators = []
    asking = threading.Thread(
        target=lambda: iterators.append(rows.iterate(0, 1, _REQUEST))
    )
    asking.start()

    thread.start()
    asking.join()

    self.assertLen(iterators, 1)
    self.assertEqual(next(iterators[0]).critic.reward.shape, [4, 2])


if __name__ == '__main__':
  absltest.main()
