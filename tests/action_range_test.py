"""Tests of the mapping between raw actions and [-1, 1]."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import action_range


class ActionRangeTest(absltest.TestCase):

  def test_bounds_and_center(self):
    of_gripper = action_range.ActionRange(([-2.0, 0.0], [6.0, 1.0]))
    actions = np.float32([[-1.0, 1.0], [0.0, 0.0], [1.5, -2.0]])
    raw = np.float32([[-2.0, 1.0], [2.0, 0.5], [8.0, -0.5]])

    np.testing.assert_array_equal(of_gripper.to_raw(actions), raw)
    np.testing.assert_array_equal(of_gripper.from_raw(raw), actions)
    np.testing.assert_array_equal(of_gripper.bounds[1], [6.0, 1.0])

  def test_tensors_stay_tensors_of_their_type(self):
    raw = action_range.ActionRange(([-2.0], [6.0])).to_raw(tf.zeros([2, 3, 1]))
    self.assertIsInstance(raw, tf.Tensor)
    self.assertEqual(raw.dtype, tf.float32)
    np.testing.assert_array_equal(raw, np.full([2, 3, 1], 2.0))

  def test_unit_bounds_change_no_bit(self):
    actions = np.random.default_rng(0).uniform(-1, 1, [1_000, 1])
    actions = actions.astype(np.float32)
    unit = action_range.ActionRange((-1.0, 1.0))
    np.testing.assert_array_equal(unit.to_raw(actions), actions)
    np.testing.assert_array_equal(unit.from_raw(actions), actions)

  def test_the_type_is_that_of_the_arithmetic(self):
    actions = action_range.ActionRange((-1.0, 1.0), np.float64)
    self.assertEqual(actions.to_raw(np.zeros(2, np.float32)).dtype, np.float64)


if __name__ == '__main__':
  absltest.main()
