"""Tests of the split into episodes to train on and held-out ones."""

import os
import tracemalloc
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf
import tree

from parl_tf import frame_stack
from parl_tf import picture_store
from parl_tf import types
from parl_tf.replay import episode_writer
from parl_tf.training import held_out_rows
from parl_tf.training import run_dataset
from tests.training import small_run

# Of the episodes with pictures, which are squares.
_NUM_FRAMES = 3
_SIZE = 16
_LENGTHS = (1_500, 900)


class SplitTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._episodes = small_run.make_episodes(
        os.path.join(self.create_tempdir().full_path, 'data.hdf5')
    )

  def test_each_episode_is_on_one_side(self):
    train, held_out = held_out_rows.split(self._episodes, 0.25, seed=1)
    self.assertLen(held_out, round(0.25 * len(self._episodes)))
    numbers = [e.episode_id for e in train + held_out]
    self.assertCountEqual(numbers, range(len(self._episodes)))
    again, _ = held_out_rows.split(self._episodes, 0.25, seed=1)
    self.assertEqual(
        [e.episode_id for e in again], [e.episode_id for e in train]
    )

  def test_no_side_is_empty(self):
    two = self._episodes[:2]
    for fraction in (0.01, 0.99):
      train, held_out = held_out_rows.split(two, fraction, seed=0)
      self.assertLen(train, 1)
      self.assertLen(held_out, 1)

  def test_episodes_of_one_recording_stay_together(self):
    parts = []
    episodes = [x for x in self._episodes if x.num_steps > 1][:6]
    for number, episode in enumerate(episodes):
      # As a task ends an episode of play at each success.
      for start, end in ((0, 1), (1, episode.num_steps)):
        part = types.Episode(
            episode.observation[start : end + 1],
            *(x[start:end] for x in episode[1:5]),
            episode_id=number,
        )
        part = part._replace(is_continued=end < episode.num_steps)
        parts.append(part)
    self.assertTrue(run_dataset.are_attempts(self._episodes))
    self.assertFalse(run_dataset.are_attempts(parts))
    domain = small_run.make_domain()
    self.assertIsNotNone(run_dataset.success_rate(domain, self._episodes))
    self.assertIsNone(run_dataset.success_rate(domain, parts))

    train, held_out = held_out_rows.split(parts, 0.34, seed=0)
    self.assertLen(held_out, 2 * 2)
    numbers = {e.episode_id for e in held_out}
    self.assertLen(numbers, 2)
    self.assertEmpty(numbers & {e.episode_id for e in train})
    # A whole recording would be too much.
    train, held_out = held_out_rows.split(parts, 0.06, seed=0)
    self.assertLen(held_out, 1)
    # One recording is long.
    long = [x._replace(is_continued=True) for x in parts[:8]]
    for seed in range(9):
      _, held_out = held_out_rows.split(long + parts[9:], 0.2, seed=seed)
      self.assertLen(held_out, 2)

  def test_both_sides_have_transitions(self):
    short = self._episodes[0]._replace(has_last_transition=False)
    short = tree.map_structure(
        lambda x: x[:1] if isinstance(x, np.ndarray) else x, short
    )._replace(observation=short.observation[:2])
    self.assertEqual(short.num_transitions, 0)
    episodes = [short] * 5 + self._episodes[:2]
    for fraction in (0.05, 0.9):
      for side in held_out_rows.split(episodes, fraction, seed=0):
        self.assertGreater(sum(e.num_transitions for e in side), 0)
    with self.assertRaisesRegex(ValueError, 'with transitions.*got 1 of 6'):
      held_out_rows.split(episodes[:6], 0.5, seed=0)

  def test_one_episode_cannot_be_split(self):
    with self.assertRaisesRegex(ValueError, 'at least 2 episodes.*got 1'):
      held_out_rows.split(self._episodes[:1], 0.5, seed=0)


def _picture_agent():
  """Returns an agent whose loss is the mean of all pixels, the next's twice."""

  def cloning_loss(rows, seed):
    del seed
    mean = np.mean(rows.observation.numpy(), axis=(0, 2, 3, 4))  # [2]
    return mean[0] + 2.0 * mean[1]

  return mock.Mock(
      chunk_length=1,
      num_frames=_NUM_FRAMES,
      time_step_spec=mock.Mock(
          observation=tf.TensorSpec([_SIZE, _SIZE, 3 * _NUM_FRAMES], tf.uint8)
      ),
      cloning_loss=cloning_loss,
  )


class PicturesTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    random = np.random.default_rng(0)
    shape = (_SIZE, _SIZE, 3)
    store = picture_store.PictureStore(
        sum(_LENGTHS) + len(_LENGTHS), self.create_tempdir().full_path, 0
    )
    self._episodes = [
        store.keep(
            types.Episode(
                random.integers(0, 256, (length + 1, *shape), np.uint8),
                np.zeros([length, 2], np.float32),
                np.zeros([length], np.float32),
                np.ones([length], np.float32),
                np.zeros([length], np.bool_),
                i,
            )
        )
        for i, length in enumerate(_LENGTHS)
    ]
    agent = _picture_agent()
    self._session = mock.Mock(
        agent=agent,
        stored_steps=lambda table, episode: episode_writer.stored_steps(
            episode, gamma=0.99, reward_scale=1.0, reward_bias=0.0
        ),
    )

  def test_pictures_are_read_a_few_at_a_time(self):
    single = sum(e.observation.nbytes for e in self._episodes)
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    table = held_out_rows.store(self._session, self._episodes)
    held_out_rows.loss(self._session.agent, table)
    _, peak = tracemalloc.get_traced_memory()
    # All rows would need six pictures each.
    self.assertLess(peak, 1.5 * single)

  def test_loss_is_that_of_all_rows_with_their_frames(self):
    means = []
    for episode in self._episodes:
      first = np.arange(episode.num_transitions)
      for index, weight in ((first, 1.0), (first + 1, 2.0)):
        rows = frame_stack.read_episode(
            episode.observation, index, _NUM_FRAMES
        )
        means.append(weight * len(rows) / sum(_LENGTHS) * np.mean(rows))
    table = held_out_rows.store(self._session, self._episodes)
    self.assertAlmostEqual(
        held_out_rows.loss(self._session.agent, table), sum(means), places=3
    )


if __name__ == '__main__':
  absltest.main()
