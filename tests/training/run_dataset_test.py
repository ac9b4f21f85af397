"""Tests the digest of a run's dataset."""

from absl.testing import absltest
import numpy as np

from parl_tf import types
from parl_tf.training import run_dataset


def _episode(num_steps, action=0.0):
  return types.Episode(
      observation=np.zeros([num_steps + 1, 2], np.float32),
      action=np.full([num_steps, 1], action, np.float32),
      reward=np.zeros(num_steps, np.float32),
      discount=np.ones(num_steps, np.float32),
      success=np.zeros(num_steps, bool),
      episode_id=0,
  )


class DigestTest(absltest.TestCase):

  def test_tells_recordings_apart(self):
    recordings = (
        [_episode(3), _episode(2)],
        [_episode(2), _episode(3)],
        [_episode(5)],
        [_episode(3), _episode(2, action=0.5)],
        [],
    )
    digests = [run_dataset.digest(episodes) for episodes in recordings]
    self.assertLen(set(digests), len(recordings))
    self.assertEqual(digests[0], run_dataset.digest(recordings[0]))
    self.assertLess(max(digests), 2**63)
    self.assertGreaterEqual(min(digests), 0)


if __name__ == '__main__':
  absltest.main()
