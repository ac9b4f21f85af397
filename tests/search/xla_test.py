"""Tests of functions that XLA compiles if it can."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.search import xla
from tests import tensor_case


def _in_python(x):
  return tf.numpy_function(lambda y: y + 1.0, [x], tf.float32)


def _in_a_branch(x):
  return tf.cond(tf.reduce_sum(x) > 0.0, lambda: _in_python(x), lambda: x + 1.0)


class XlaTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    xla._warn.cache_clear()

  @parameterized.parameters(_in_python, _in_a_branch)
  def test_a_function_that_xla_cannot_compile_runs_as_a_graph(self, fn):
    run = xla.function(fn)
    with self.assertLogs('absl', 'WARNING') as logs:
      for value in (0.0, 1.0):
        self.assertAllEqual(run(tf.fill([2], value)), [value + 1.0] * 2)
    (line,) = logs.output
    self.assertIn('PyFunc', line)
    self.assertIn('Search.jit_compile = False', line)

  def test_a_program_inside_a_program_is_left_to_the_graph_too(self):
    inner = xla.function(_in_python)
    outer = xla.function(lambda x: 2.0 * inner(x))
    with self.assertLogs('absl', 'WARNING') as logs:
      self.assertAllEqual(outer(tf.zeros([2])), [2.0, 2.0])
    self.assertLen(logs.output, 1)

  def test_errors_of_the_compiler_name_the_setting_that_avoids_it(self):
    # The shape of the result depends on a value.
    run = xla.function(lambda x: tf.reshape(x, tf.cast(x, tf.int32)))
    with self.assertRaisesRegex(RuntimeError, 'Search.jit_compile = False'):
      with xla.explained_errors():
        run(tf.ones([2]))
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, 'not finite'):
      with xla.explained_errors():
        tf.debugging.check_numerics(np.nan, 'The loss is not finite.')

  def test_other_functions_are_compiled(self):
    def fn(x):
      draws = tf.random.stateless_normal(x.shape, [1, 2], alg='philox')
      _, total = tf.while_loop(
          lambda i, _: i < 3, lambda i, y: (i + 1, y + x), (0, draws)
      )
      return tf.sort(total)

    x = tf.constant(np.random.default_rng(0).normal(size=[8]), tf.float32)
    run = tf.function(xla.function(fn), autograph=False)
    with self.assertNoLogs('absl', 'WARNING'):
      self.assertAllClose(run(x), fn(x), atol=1e-5)
    graph = run.get_concrete_function(x).graph.as_graph_def()
    self.assertTrue(
        any('_XlaMustCompile' in one.attr for one in graph.library.function)
    )

  def test_a_gpu_without_a_compiler_is_reported(self):
    xla.is_available.cache_clear()
    self.addCleanup(xla.is_available.cache_clear)
    self.assertTrue(xla.is_available())
    xla.is_available.cache_clear()
    error = tf.errors.InternalError(None, None, 'libdevice not found')
    with mock.patch.object(xla, 'is_on_gpu', return_value=True):
      with mock.patch.object(tf, 'function', side_effect=error):
        with self.assertLogs('absl', 'WARNING') as logs:
          self.assertFalse(xla.is_available())
    self.assertIn('tensorflow[and-cuda]', logs.output[0])
    self.assertIn('libdevice not found', logs.output[0])

  def test_errors_of_the_function_are_its_own(self):
    run = xla.function(lambda x: tf.reshape(x, [3]))
    with self.assertRaisesRegex(ValueError, 'Cannot reshape'):
      run(tf.zeros([2]))


if __name__ == '__main__':
  absltest.main()
