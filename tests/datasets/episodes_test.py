"""Tests of the statistics of episodes."""

from absl.testing import absltest
import numpy as np

from parl_tf import types
from parl_tf.datasets import episodes


def _episode(**changes):
  episode = types.Episode(
      observation=np.zeros([4, 2], np.float32),
      action=np.zeros([3, 1], np.float32),
      reward=np.zeros([3], np.float32),
      discount=np.ones([3], np.float32),
      success=np.zeros([3], np.bool_),
      episode_id=7,
  )
  return episode._replace(**changes)


class NormalizationTest(absltest.TestCase):

  def test_statistics_span_episodes_and_exclude_the_last_observation(self):
    # First entry: 1, 3 and 2, 6: mean 3, squares 4 + 0 + 1 + 9 = 14,
    # deviation sqrt(14 / 4) = 1.870829. Second entry: always 5, so 1.
    first = np.array([[1, 5], [3, 5], [99, 99]], np.float32)
    second = np.array([[2, 5], [6, 5], [-99, 0]], np.float32)
    found = episodes.normalization([
        _episode(observation=first, reward=np.zeros([2], np.float32)),
        _episode(observation=second, reward=np.zeros([2], np.float32)),
    ])
    np.testing.assert_allclose(found.mean, [3, 5], rtol=1e-6)
    np.testing.assert_allclose(
        found.standard_deviation, [1.870829, 1], rtol=1e-6
    )
    self.assertEqual(found.mean.dtype, np.float32)

  def test_statistics_keep_the_nested_structure(self):
    # 0, 2: mean 1, deviation 1. 10, 30: mean 20, deviation 10.
    found = episodes.normalization([
        _episode(
            observation={
                'a': np.array([[0], [2], [7]], np.float32),
                'b': np.array([[10], [30], [7]], np.float32),
            },
            reward=np.zeros([2], np.float32),
        )
    ])
    np.testing.assert_allclose(found.mean['a'], [1])
    np.testing.assert_allclose(found.mean['b'], [20])
    np.testing.assert_allclose(found.standard_deviation['b'], [10])

  def test_images_have_no_statistics(self):
    # 0, 2: mean 1, deviation 1.
    found = episodes.normalization([
        _episode(
            observation={
                'camera': np.zeros([3, 8, 8, 3], np.uint8),
                'state': np.array([[0], [2], [7]], np.float32),
            },
            reward=np.zeros([2], np.float32),
        )
    ])
    for statistic in (found.mean, found.standard_deviation):
      self.assertIsNone(statistic['camera'])
      np.testing.assert_allclose(statistic['state'], [1])

  def test_large_offsets_keep_the_deviation_accurate(self):
    # 1e6 and 1e6 + 2 in float32: mean 1e6 + 1, deviation 1.
    observation = np.array([[1e6], [1e6 + 2], [0]], np.float32)
    episode = _episode(observation=observation, reward=np.zeros([2]))
    found = episodes.normalization([episode, episode])
    np.testing.assert_allclose(found.standard_deviation, [1.0], rtol=1e-6)

  def test_no_episodes_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'episodes'):
      episodes.normalization([])


class ActionRangeTest(absltest.TestCase):

  def test_percentiles_ignore_outliers_and_leave_grippers(self):
    # 0, 0.001 .. 1: the 1st percentile is 0.01. The second dimension opens and
    # closes, the third never moves.
    count = np.linspace(0.0, 1.0, 1001, dtype=np.float32)
    gripper = np.where(np.arange(1001) % 3 == 0, 0.0, 0.5).astype(np.float32)
    action = np.stack([count, gripper, np.full([1001], 0.2)], axis=1)
    action = action.astype(np.float32)
    low, high = episodes.action_range(
        [_episode(action=action[:500]), _episode(action=action[500:])]
    )
    np.testing.assert_allclose(low, [0.01, -1, -1], atol=1e-6)
    np.testing.assert_allclose(high, [0.99, 1, 1], atol=1e-6)
    self.assertEqual((low.dtype, high.dtype), (np.float32, np.float32))

  def test_a_noisy_gripper_that_rarely_opens_keeps_its_range(self):
    random = np.random.default_rng(0)
    action = random.normal([-0.8, 0.0], [0.1, 0.3], [2000, 2])
    action[500:506, 0] = 0.9  # It opens in 0.3 % of the steps.
    action = action.clip(-1.0, 1.0).astype(np.float32)
    low, high = episodes.action_range([_episode(action=action)])
    # The others are within 2.33 standard deviations of the mean.
    np.testing.assert_allclose(low, [-1, -0.7], atol=0.1)
    np.testing.assert_allclose(high, [1, 0.7], atol=0.1)

  def test_the_tails_of_a_distribution_are_cut(self):
    random = np.random.default_rng(0)
    action = 0.1 * np.stack(
        [random.laplace(size=20_000), random.standard_t(3, size=20_000)], axis=1
    )
    action[7] = 0.99  # One outlier.
    action = action.clip(-1.0, 1.0).astype(np.float32)
    low, high = episodes.action_range([_episode(action=action)])
    np.testing.assert_allclose(low, [-0.39, -0.45], atol=0.03)
    np.testing.assert_allclose(high, [0.39, 0.45], atol=0.03)

  def test_no_episodes_is_an_error(self):
    with self.assertRaisesRegex(ValueError, '`episodes` must not be empty'):
      episodes.action_range([])


class ActionDeviationTest(absltest.TestCase):

  def test_deviation_of_each_dimension_by_hand(self):
    first = np.array([[-1.0, 0.3], [1.0, 0.3]], np.float32)
    second = np.array([[0.0, 0.3], [0.0, 0.3]], np.float32)
    found = episodes.action_deviation(
        [_episode(action=first), _episode(action=second)]
    )
    # Mean 0, squares 1 + 1 + 0 + 0 of four steps.
    np.testing.assert_allclose(found, [np.sqrt(0.5), 0.0], atol=1e-7)
    self.assertEqual(found.dtype, np.float32)

  def test_no_episodes_is_an_error(self):
    with self.assertRaisesRegex(ValueError, '`episodes` must not be empty'):
      episodes.action_deviation([])


if __name__ == '__main__':
  absltest.main()
