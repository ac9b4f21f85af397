"""A test case with assertions on arrays and tensors."""

from absl.testing import parameterized
import numpy as np


class TensorCase(parameterized.TestCase):
  """Adds assertions on everything that NumPy can convert to an array.

  TensorFlow's own test case sets a global seed before each test. TensorFlow
  then optimizes the graphs of functions that the tests of a class share again.
  """

  # pylint: disable=invalid-name

  def assertAllEqual(self, first, second):
    """Asserts equal shapes and values."""
    first, second = np.asarray(first), np.asarray(second)
    self.assertEqual(first.shape, second.shape)
    np.testing.assert_array_equal(first, second)

  def assertNotAllEqual(self, first, second):
    """Asserts equal shapes and at least one different value."""
    first, second = np.asarray(first), np.asarray(second)
    self.assertEqual(first.shape, second.shape)
    self.assertTrue(np.any(first != second), f'All are equal: {first}')

  def assertAllClose(self, first, second, rtol=1e-6, atol=1e-6):
    """Asserts equal shapes, and values within a tolerance."""
    first, second = np.asarray(first), np.asarray(second)
    self.assertEqual(first.shape, second.shape)
    np.testing.assert_allclose(first, second, rtol=rtol, atol=atol)

  def assertAllInRange(self, values, low, high):
    """Asserts that every value is in [`low`, `high`]."""
    values = np.asarray(values)
    self.assertTrue(np.all((values >= low) & (values <= high)), f'{values}')
