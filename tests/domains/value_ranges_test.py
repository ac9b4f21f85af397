"""Tests of the ranges of the return."""

from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.domains import value_ranges


class ValueRangesTest(parameterized.TestCase):

  @parameterized.parameters(
      # -1 a step: never, -1 / (1 - 0.99) = -100; at once, 1 - 1 = 0.
      (1.0, -1.0, 0.99, (-100.0, 0.0)),
      # 0 a step: never 0; at once 1.
      (1.0, 0.0, 0.99, (0.0, 1.0)),
      # 0.5 a step: never 0.5 / 0.1 = 5; at once 2 + 0.5 = 2.5.
      (2.0, 0.5, 0.9, (2.5, 5.0)),
  )
  def test_until_success_lies_between_never_and_at_once(
      self, scale, bias, gamma, expected
  ):
    found = value_ranges.until_success(scale, bias, gamma)
    self.assertSequenceAlmostEqual(found, expected)

  @parameterized.parameters(
      # -4 for ever, -4 / 0.01; 0 for ever.
      (-4.0, 0.0, 0.99, (-400.0, 0.0)),
      # Both signs go on for ever: -1 / 0.1 and 2 / 0.1.
      (-1.0, 2.0, 0.9, (-10.0, 20.0)),
      # Rewards are positive: the lowest return is one step's.
      (1.0, 2.0, 0.9, (1.0, 20.0)),
      # Rewards are negative: the highest return is one step's.
      (-2.0, -1.0, 0.9, (-20.0, -1.0)),
  )
  def test_of_rewards_goes_on_for_ever_or_ends_at_once(
      self, lowest, highest, gamma, expected
  ):
    found = value_ranges.of_rewards(lowest, highest, gamma)
    self.assertSequenceAlmostEqual(found, expected)


if __name__ == '__main__':
  absltest.main()
