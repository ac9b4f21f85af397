"""Tests of how failed episodes end."""

import os

from absl.testing import absltest
import numpy as np

from benchmarks import stalls
from parl_tf import types
from parl_tf.replay import episode_log


def _episode(action, success=False, episode_id=0):
  size = len(action)
  return types.Episode(
      observation=np.zeros([size + 1, 1], np.float32),
      action=np.asarray(action, np.float32),
      reward=np.zeros([size], np.float32),
      discount=np.ones([size], np.float32),
      success=np.arange(size) == (size - 1 if success else -1),
      episode_id=episode_id,
  )


class StallsTest(absltest.TestCase):

  def test_deviation_of_the_last_forty_actions(self):
    still = np.full([40, 2], 0.5)
    turns = np.stack([np.tile([0.2, -0.2], 20), np.zeros([40])], axis=1)

    ends_still = _episode(np.concatenate([turns, still]))
    self.assertEqual(stalls.deviation(ends_still), 0.0)
    # 0.2 in the first element, 0 in the second.
    ends_moving = _episode(np.concatenate([still, turns]))
    self.assertAlmostEqual(stalls.deviation(ends_moving), 0.1, places=6)

  def test_blocks_count_failures_and_ignore_successes(self):
    still = np.full([50, 1], 0.5)
    moves = np.tile([0.3, -0.3], 25)[:, np.newaxis]
    episodes = [
        _episode(moves, success=True), _episode(moves), _episode(still),
        _episode(moves), _episode(still, success=True),
    ]

    self.assertEqual(
        stalls.blocks(episodes, 4), ['3 of 4, 0.30', '0 of 1']
    )

  def test_episodes_of_a_run(self):
    run = self.create_tempdir().full_path
    with self.assertRaisesRegex(ValueError, 'episodes must have'):
      stalls.read_episodes(run)
    os.mkdir(os.path.join(run, 'episodes'))
    with self.assertRaisesRegex(ValueError, 'episodes must have'):
      stalls.read_episodes(run)
    log = episode_log.EpisodeLog(os.path.join(run, 'episodes'))
    for i in (3, 5):
      log.append(_episode(np.zeros([i, 1]), episode_id=i))
    self.assertEqual([x.num_steps for x in stalls.read_episodes(run)], [3, 5])


if __name__ == '__main__':
  absltest.main()
