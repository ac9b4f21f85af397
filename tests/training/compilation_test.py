"""Tests of the errors of XLA."""

import tensorflow as tf

from parl_tf.training import compilation
from tests import tensor_case


class CompilationTest(tensor_case.TensorCase):

  def test_an_operation_that_xla_lacks_is_named_with_the_binding(self):
    @tf.function(jit_compile=True)
    def act(x):
      return tf.numpy_function(lambda x: x, [x], tf.float32)

    with self.assertRaisesRegex(ValueError, 'PyFunc.*Search.jit_compile'):
      with compilation.errors_explained():
        act(tf.zeros([2]))

  def test_other_errors_are_unchanged(self):
    with self.assertRaises(tf.errors.InvalidArgumentError):
      with compilation.errors_explained():
        tf.reshape(tf.zeros([2]), [3])


if __name__ == '__main__':
  tf.test.main()
