"""Adam with one operation per variable."""

import functools

import tensorflow as tf

from parl_tf.training import schedules


class Adam(tf.keras.optimizers.Adam):
  """Keras' Adam, with TensorFlow's fused operation for each dense gradient.

  Keras passes over a variable a dozen times, the fused operation once. A step
  differs from Keras' by up to 3e-5 of itself, because the fused operation
  rounds 1 - beta_2 to 0.00100005. Sparse gradients and AMSGrad use Keras'
  operations.
  """

  def apply_gradients(self, grads_and_vars, **kwargs):
    """Updates variables; see `tf.keras.optimizers.Optimizer`."""
    # On a GPU, Keras would compile a step into one function for all graphs,
    # with the scalars of the first.
    self.jit_compile = False
    step = tf.cast(self.iterations + 1, tf.float32)
    beta_1, beta_2 = tf.constant(self.beta_1), tf.constant(self.beta_2)
    # All variables share these scalars.
    self._fused_step = functools.partial(
        tf.raw_ops.ResourceApplyAdam,
        beta1_power=tf.pow(beta_1, step),
        beta2_power=tf.pow(beta_2, step),
        beta1=beta_1,
        beta2=beta_2,
        epsilon=tf.constant(self.epsilon),
    )
    return super().apply_gradients(grads_and_vars, **kwargs)

  def update_step(self, gradient, variable):
    """Updates one variable from its gradient of the same shape."""
    if (
        self.amsgrad
        or isinstance(gradient, tf.IndexedSlices)
        or variable.dtype != tf.float32
    ):
      super().update_step(gradient, variable)
      return
    index = self._index_dict[self._var_key(variable)]
    self._fused_step(
        var=variable.handle,
        m=self._momentums[index].handle,
        v=self._velocities[index].handle,
        lr=self.learning_rate,
        grad=gradient,
    )

  def _build_learning_rate(self, learning_rate):
    # Not in `__init__`, whose parameters gin shows as Keras' own has them.
    schedules.check_rate('Adam.learning_rate', learning_rate)
    return super()._build_learning_rate(learning_rate)
