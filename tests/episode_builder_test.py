"""Tests of the episode builder."""

from absl.testing import absltest
import numpy as np

from parl_tf import episode_builder


class EpisodeBuilderTest(absltest.TestCase):

  def test_episode_has_the_added_steps_in_order(self):
    builder = episode_builder.EpisodeBuilder()
    builder.add_observation({'x': np.float32([1])})
    builder.add_step(np.float32([0.5]), 2, 1, False)
    builder.add_observation({'x': np.float32([3])})
    builder.add_step(np.float32([-0.5]), 4, 0, True)
    builder.add_observation({'x': np.float32([5])})

    episode = builder.build(episode_id=7, policy_version=8)

    self.assertEqual(builder.num_steps, 2)
    np.testing.assert_array_equal(episode.observation['x'], [[1], [3], [5]])
    np.testing.assert_array_equal(episode.action, [[0.5], [-0.5]])
    np.testing.assert_array_equal(episode.reward, [2, 4])
    np.testing.assert_array_equal(episode.discount, [1, 0])
    np.testing.assert_array_equal(episode.success, [False, True])
    self.assertEqual((episode.episode_id, episode.policy_version), (7, 8))
    self.assertEqual(
        [x.dtype for x in (episode.reward, episode.discount, episode.success)],
        [np.float32, np.float32, np.bool_],
    )

  def test_callers_may_reuse_their_arrays(self):
    builder = episode_builder.EpisodeBuilder()
    observation, action = np.zeros([1], np.float32), np.zeros([1], np.float32)
    builder.add_observation(observation)
    builder.add_step(action, 0, 1, False)
    observation += 1
    action += 1
    builder.add_observation(observation)

    episode = builder.build()

    np.testing.assert_array_equal(episode.observation, [[0], [1]])
    np.testing.assert_array_equal(episode.action, [[0]])

  def test_episode_without_steps_is_an_error(self):
    builder = episode_builder.EpisodeBuilder()
    builder.add_observation(np.zeros([1]))

    with self.assertRaisesRegex(ValueError, 'at least one step'):
      builder.build()

  def test_missing_last_observation_is_an_error(self):
    builder = episode_builder.EpisodeBuilder()
    builder.add_observation(np.zeros([1]))
    builder.add_step(np.zeros([1]), 0, 1, False)

    with self.assertRaisesRegex(ValueError, 'have 2 observations, got 1'):
      builder.build()


if __name__ == '__main__':
  absltest.main()
