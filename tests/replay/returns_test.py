"""Tests of the returns of the steps of an episode."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.replay import returns as returns_lib


class MonteCarloReturnsTest(parameterized.TestCase):

  def test_terminal_episode_by_hand(self):
    # G_2 = 0, G_1 = -1 + 0.5 * 0, G_0 = -1 + 0.5 * -1.
    returns = returns_lib.monte_carlo_returns(
        np.array([-1.0, -1.0, 0.0]), np.array([1.0, 1.0, 0.0]), 0.5
    )
    np.testing.assert_array_equal(returns, [-1.5, -1.0, 0.0])
    self.assertEqual(returns.dtype, np.float32)

  def test_time_out_adds_nothing_past_the_last_step(self):
    # G_2 = 4, G_1 = 2 + 0.5 * 4, G_0 = 1 + 0.5 * 4.
    returns = returns_lib.monte_carlo_returns(
        np.array([1.0, 2.0, 4.0]), np.ones(3), 0.5
    )
    np.testing.assert_array_equal(returns, [3.0, 4.0, 4.0])

  def test_discount_of_zero_inside_an_episode_cuts_the_sum(self):
    # G_2 = 4, G_1 = 2 (cut), G_0 = 1 + 0.5 * 2.
    returns = returns_lib.monte_carlo_returns(
        np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 1.0]), 0.5
    )
    np.testing.assert_array_equal(returns, [2.0, 2.0, 4.0])

  def test_return_without_success_is_that_of_an_endless_episode(self):
    returns = returns_lib.monte_carlo_returns(
        np.array([-1.0, -1.0]), np.ones(2), 0.99, never_succeeds_value=-100.0
    )
    np.testing.assert_array_equal(returns, [-100.0, -100.0])

  def test_a_reward_that_is_not_negative_is_a_success(self):
    # G_1 = 0, G_0 = -1 + 0.5 * 0.
    returns = returns_lib.monte_carlo_returns(
        np.array([-1.0, 0.0]), np.ones(2), 0.5, never_succeeds_value=-2.0
    )
    np.testing.assert_array_equal(returns, [-1.0, 0.0])

  def test_extrapolation_goes_on_with_the_mean_reward_past_a_time_out(self):
    # Past the last step: -1.5 / (1 - 0.5) = -3.
    # G_1 = -1 + 0.5 * -3, G_0 = -2 + 0.5 * -2.5.
    returns = returns_lib.monte_carlo_returns(
        np.array([-2.0, -1.0]), np.ones(2), 0.5, extrapolate=True
    )
    np.testing.assert_array_equal(returns, [-3.25, -2.5])

  def test_extrapolation_of_constant_rewards_is_an_endless_episode(self):
    returns = returns_lib.monte_carlo_returns(
        np.full(3, -1.0), np.ones(3), 0.98, extrapolate=True
    )
    np.testing.assert_allclose(returns, np.full(3, -50.0), rtol=1e-6)

  def test_extrapolation_leaves_an_episode_that_the_task_ended(self):
    # G_1 = -1, G_0 = -2 + 0.5 * -1.
    returns = returns_lib.monte_carlo_returns(
        np.array([-2.0, -1.0]), np.array([1.0, 0.0]), 0.5, extrapolate=True
    )
    np.testing.assert_array_equal(returns, [-2.5, -1.0])

  def test_extrapolation_without_a_discount_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'below 1'):
      returns_lib.monte_carlo_returns(
          np.zeros(2), np.ones(2), 1.0, extrapolate=True
      )

  def test_lengths_that_differ_are_an_error(self):
    with self.assertRaisesRegex(ValueError, r'\[2\] and \[3\]'):
      returns_lib.monte_carlo_returns(np.zeros(2), np.zeros(3), 0.5)

  @parameterized.parameters(-0.1, 1.1)
  def test_gamma_out_of_range_is_an_error(self, gamma):
    with self.assertRaisesRegex(ValueError, 'gamma'):
      returns_lib.monte_carlo_returns(np.zeros(2), np.zeros(2), gamma)


class MeanValueTest(absltest.TestCase):

  def test_terminal_episodes_have_the_mean_of_their_returns(self):
    # G = 1 + 0.5 * 2, 2; and 3.
    mean = returns_lib.mean_value(
        [(np.array([1.0, 2.0]), np.array([1.0, 0.0])),
         (np.array([3.0]), np.array([0.0]))],
        0.5,
    )
    self.assertAlmostEqual(mean, (2.0 + 2.0 + 3.0) / 3.0)

  def test_a_time_limit_goes_on_at_the_mean(self):
    mean = returns_lib.mean_value([(-np.ones(5), np.ones(5))] * 2, 0.9)
    self.assertAlmostEqual(mean, -10.0)

  def test_mixed_ends(self):
    # v = ((-1 + 0.5 v) + (-1)) / 2.
    mean = returns_lib.mean_value(
        [(-np.ones(1), np.ones(1)), (-np.ones(1), np.zeros(1))], 0.5
    )
    self.assertAlmostEqual(mean, -1.0 / 0.75)

  def test_an_unknown_mean_is_an_error(self):
    for episodes in ([], [(-np.ones(3), np.ones(3))]):
      with self.assertRaisesRegex(ValueError, 'gamma'):
        returns_lib.mean_value(episodes, 1.0)


if __name__ == '__main__':
  absltest.main()
