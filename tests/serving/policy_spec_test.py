"""Tests the dtypes of observations of a served policy."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.serving import policy_spec


def _checked(value, dtype):
  spec = policy_spec.PolicySpec(
      {'image': policy_spec.ArraySpec((2,), dtype)}, action_size=1
  )
  return spec.checked_observation({'image': value}, 1)['image']


class PolicySpecTest(parameterized.TestCase):

  @parameterized.parameters(
      (np.uint16, 'uint8', [0, 255]),
      (np.uint8, 'int8', [0, 127]),
      (np.int64, 'int32', [-(2**31), 2**31 - 1]),
      (np.uint8, 'int64', [0, 255]),
      (np.uint16, 'float32', [300, 65_535]),
  )
  def test_integers_that_the_policy_can_hold_are_cast(self, seen, wanted, row):
    checked = _checked(np.array([row], seen), wanted)
    self.assertEqual(checked.dtype, wanted)
    np.testing.assert_array_equal(checked, [row])
    self.assertEqual(_checked(np.zeros([0, 2], seen), wanted).shape, (0, 2))

  @parameterized.parameters(
      (np.uint16, 'uint8', [300, 65_535]),
      (np.uint8, 'int8', [0, 128]),
      (np.int64, 'int32', [-(2**31) - 1, 0]),
  )
  def test_integers_that_would_wrap_around_are_refused(self, seen, wanted, row):
    with self.assertRaisesRegex(
        ValueError,
        f"observation 'image' must be {wanted}, got {np.dtype(seen)} with"
        f' values from {row[0]} to {row[1]}',
    ):
      _checked(np.array([row], seen), wanted)


if __name__ == '__main__':
  absltest.main()
