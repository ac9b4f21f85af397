"""A test case with TensorFlow's assertions."""

from absl.testing import parameterized
import tensorflow as tf


class TensorCase(tf.test.TestCase, parameterized.TestCase):
  """Adds `assertAllClose` and its kin."""

  # TensorFlow's deprecated method would count as a test, and as skipped.
  test_session = None
