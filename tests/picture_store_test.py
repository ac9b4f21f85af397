"""Tests of picture stores, and of tables that hold places in them."""

import errno
import os
from unittest import mock

from absl.testing import parameterized
import hypothesis
from hypothesis import strategies
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import picture_store
from parl_tf import types
from parl_tf.replay import step_table
from parl_tf.replay import stored_states
from tests import tensor_case


def _episode(first, num_steps, cameras=('front', 'wrist')):
  """Returns an episode whose pictures count from `first`."""
  count = np.arange(first, first + num_steps + 1)
  images = np.broadcast_to(
      count[:, np.newaxis, np.newaxis, np.newaxis], (num_steps + 1, 2, 3, 3)
  ).astype(np.uint8)
  observation = {
      name: images + np.uint8(100 * i) for i, name in enumerate(cameras)
  }
  return types.Episode(
      observation={**observation, 'vector': count[:, np.newaxis] * 1.0},
      action=np.zeros([num_steps, 2], np.float32),
      reward=np.zeros([num_steps], np.float32),
      discount=np.ones([num_steps], np.float32),
      success=np.zeros([num_steps], bool),
      episode_id=first,
      has_last_transition=True,
  )


def _steps(episode):
  num_steps = episode.num_steps + 1
  return trajectory.Trajectory(
      step_type=np.ones(num_steps, np.int32),
      observation=episode.observation,
      action=np.zeros((num_steps, 2), np.float32),
      policy_info={
          'episode_id': np.full(num_steps, episode.episode_id, np.int64),
          'step_index': np.arange(num_steps, dtype=np.int32),
      },
      next_step_type=np.ones(num_steps, np.int32),
      reward=np.zeros(num_steps, np.float32),
      discount=np.ones(num_steps, np.float32),
  )


class PictureStoreTest(tensor_case.TensorCase):

  def _store(self, num_pictures, memory_bytes=2**20):
    self._directory = self.create_tempdir().full_path
    return picture_store.PictureStore(
        num_pictures, self._directory, memory_bytes
    )

  @parameterized.parameters(0, 2**20)
  def test_episodes_are_equal_and_lie_in_the_store(self, memory_bytes):
    store = self._store(9, memory_bytes)
    places = {'front': [], 'wrist': []}
    for episode in (_episode(0, 3), _episode(50, 4)):
      kept = store.keep(episode)
      tf.nest.map_structure(
          np.testing.assert_array_equal, kept.observation, episode.observation
      )
      self.assertIs(kept.observation['vector'], episode.observation['vector'])
      for camera, found in places.items():
        whole, first = picture_store.locate(kept.observation[camera])
        self.assertEqual(whole.shape, (9, 2, 3, 3))
        found.append(first)
    self.assertEqual(places, {'front': [0, 4], 'wrist': [0, 4]})
    # A file has no name, so that nothing is left behind.
    self.assertEmpty(os.listdir(self._directory))
    self.assertEqual(whole.flags.owndata, memory_bytes > 0)

  def test_parts_are_located_and_copies_are_not(self):
    kept = self._store(9).keep(_episode(0, 8)).observation['front']
    self.assertEqual(picture_store.locate(kept[3:])[1], 3)
    for other in (
        kept[::2], kept + np.uint8(1), kept.copy(), np.array(kept),
        kept[:, :1], np.concatenate([kept, kept]), kept.astype(np.float32),
    ):
      self.assertIsNone(picture_store.locate(other))

  def test_an_episode_without_pictures_is_returned(self):
    episode = _episode(0, 3, cameras=())
    self.assertIs(self._store(0).keep(episode), episode)

  def test_too_many_pictures_are_an_error(self):
    store = self._store(7)
    store.keep(_episode(0, 3))
    with self.assertRaisesRegex(ValueError, 'room for 7 pictures.*got 8'):
      store.keep(_episode(50, 3))

  def test_a_full_disk_is_an_error_before_anything_is_written(self):
    store = self._store(2**20, memory_bytes=0)
    full = OSError(errno.ENOSPC, 'No space left on device')
    with mock.patch.object(os, 'posix_fallocate', side_effect=full):
      with self.assertRaisesRegex(
          OSError,
          f'{self._directory} must have 0.0 GiB.*picture_memory_bytes = .*No '
          'space left',
      ) as caught:
        store.keep(_episode(0, 3))
    self.assertEqual(caught.exception.errno, errno.ENOSPC)


class TableTest(tensor_case.TensorCase):

  @parameterized.parameters(1, 2)
  @hypothesis.settings(derandomize=True, deadline=None, max_examples=30)
  @hypothesis.given(
      strategies.integers(1, 12),
      strategies.integers(1, 3),
      strategies.lists(
          strategies.tuples(strategies.integers(1, 9), strategies.booleans()),
          min_size=1, max_size=8,
      ),
  )
  def test_rows_are_those_of_a_table_with_own_images(
      self, chunk_length, capacity, num_frames, episodes
  ):
    """Some episodes, the first among them, may lie outside the store."""
    tables = [
        step_table.StepTable('offline', capacity, chunk_length, num_frames)
        for _ in range(2)
    ]
    store = picture_store.PictureStore(100, 'unused', 2**20)
    for i, (length, is_kept) in enumerate(episodes):
      episode = _episode(12 * i, length)
      tables[0].add(_steps(episode), length)
      tables[1].add(
          _steps(store.keep(episode) if is_kept else episode), length
      )
    self.assertEqual(tables[0].row_bytes, tables[1].row_bytes)
    rows, others = (t.rows(np.arange(t.num_transitions)) for t in tables)
    tf.nest.map_structure(np.testing.assert_array_equal, rows, others)
    tf.nest.map_structure(
        np.testing.assert_array_equal,
        tables[0].states().observation,
        tables[1].states().observation,
    )

  def test_images_of_a_store_are_not_copied(self):
    store = picture_store.PictureStore(100, 'unused', 2**20)
    table = step_table.StepTable('offline', 100)
    for i in range(5):
      episode = store.keep(_episode(10 * i, 9))
      table.add(_steps(episode), 9)
      whole, first = picture_store.locate(episode.observation['front'])
      whole[first] = 77  # Seen by rows, because they are read from the store.
    rows = table.rows(np.array([0, 9, 18]))
    self.assertAllEqual(
        rows.observation['front'][:, 0], np.full((3, 2, 3, 3), 77)
    )

  def test_states_of_episodes_are_read_from_the_store(self):
    plain = [_episode(0, 3), _episode(50, 4)]
    store = picture_store.PictureStore(20, 'unused', 2**20)
    store.keep(_episode(90, 2))  # Not among the states.
    kept = [store.keep(episode) for episode in plain]
    states = stored_states.episode_states(kept, 2)
    for others in (plain, [kept[0], plain[1]]):
      others = stored_states.episode_states(others, 2)
      for places in (slice(None), slice(3, 7)):
        tf.nest.map_structure(
            np.testing.assert_array_equal,
            states.rows(places),
            others.rows(places),
        )
    kept[1].observation['front'][0] = 77  # A copy would not see this.
    self.assertAllEqual(
        states.rows(slice(4, 5))['front'], np.full((1, 2, 3, 6), 77)
    )


if __name__ == '__main__':
  tf.test.main()
