"""Tests of the ranges of the return."""

from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.domains import value_ranges


class ValueRangesTest(parameterized.TestCase):

  @parameterized.parameters(
      # -1 per step: never, -1 / (1 - 0.99) = -100; immediate, 1 - 1 = 0.
      (1.0, -1.0, 0.99, (-100.0, 0.0)),
      # 0 per step: never 0; immediate 1.
      (1.0, 0.0, 0.99, (0.0, 1.0)),
      # 0.5 per step: never 0.5 / 0.1 = 5; immediate 2 + 0.5 = 2.5.
      (2.0, 0.5, 0.9, (2.5, 5.0)),
  )
  def test_until_success_spans_never_and_immediate_success(
      self, scale, bias, gamma, expected
  ):
    found = value_ranges.until_success(scale, bias, gamma)
    self.assertSequenceAlmostEqual(found, expected)

  @parameterized.parameters(
      # Rewards 0 - 4 to 4 - 4: -4 forever, -4 / 0.01; 0 forever.
      (0.0, 4.0, 1.0, -4.0, 0.99, (-400.0, 0.0)),
      # Both signs continue forever: -1 / 0.1 and 2 / 0.1.
      (-1.0, 2.0, 1.0, 0.0, 0.9, (-10.0, 20.0)),
      # Positive rewards, 2 * 0 + 1 to 2 * 0.5 + 1: the lowest return is a
      # single step's.
      (0.0, 0.5, 2.0, 1.0, 0.9, (1.0, 20.0)),
      # Negative rewards: the highest return is a single step's.
      (-2.0, -1.0, 1.0, 0.0, 0.9, (-20.0, -1.0)),
  )
  def test_of_rewards_spans_endless_and_immediate_ends(
      self, lowest, highest, scale, bias, gamma, expected
  ):
    found = value_ranges.of_rewards(lowest, highest, scale, bias, gamma)
    self.assertSequenceAlmostEqual(found, expected)


if __name__ == '__main__':
  absltest.main()
