"""Tests of the split into episodes to train on and held-out ones."""

import os

from absl.testing import absltest

from parl_tf.training import held_out_rows
from tests.training import small_run


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

  def test_one_episode_cannot_be_split(self):
    with self.assertRaisesRegex(ValueError, 'at least 2 episodes.*got 1'):
      held_out_rows.split(self._episodes[:1], 0.5, seed=0)


if __name__ == '__main__':
  absltest.main()
