"""Tests of observations of which a part has no elements."""

from absl.testing import parameterized
import numpy as np

from parl_tf import types
from parl_tf.replay import episode_writer
from parl_tf.replay import experience
from parl_tf.replay import memory_experience


class EmptyPartsTest(parameterized.TestCase):

  @parameterized.parameters(1, 3)
  def test_rows_of_several_steps_keep_them(self, chunk_length):
    source = memory_experience.MemoryExperience(
        seed=0, reward_scale=1.0, reward_bias=0.0, chunk_length=chunk_length
    )
    writer = episode_writer.EpisodeWriter(
        gamma=0.5, reward_scale=1.0, reward_bias=0.0,
        never_succeeds_value=None, sink=source,
    )
    writer.write(
        'offline',
        types.Episode(
            observation={
                'none': np.zeros([11, 0], np.float32),
                'state': np.ones([11, 2], np.float32),
            },
            action=np.zeros([10, 1], np.float32),
            reward=np.zeros(10, np.float32),
            discount=np.ones(10, np.float32),
            success=np.zeros(10, bool),
        ),
    )
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=4, critic_offline_fraction=1.0
    )
    rows = next(source.iterate(0, 1, request)).critic
    self.assertEqual(rows.observation['none'].shape, [4, 2, 0])
    self.assertEqual(rows.observation['state'].shape, [4, 2, 2])
