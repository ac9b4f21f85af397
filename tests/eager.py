"""Runs functions without tracing graphs, for tests that take few steps."""

from absl.testing import absltest
import tensorflow as tf


def run_eagerly(test: absltest.TestCase) -> None:
  """Makes `tf.function` run eagerly until the test ends.

  One step of an agent takes a tenth of the time of tracing its graph. Tests of
  what depends on graphs, and the runs of whole programs, trace them.
  """
  tf.config.run_functions_eagerly(True)
  test.addCleanup(tf.config.run_functions_eagerly, False)
