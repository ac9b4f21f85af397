"""Layouts of a value function that are faster for few or for many actions."""

import tensorflow as tf

from parl_tf.critics import critic
from parl_tf.networks import few_actions
from parl_tf.networks import half_precision


def for_few_actions(value_fn: critic.ValueFunction) -> 'GroupwiseValueFunction':
  """Returns a function with equal values that is faster for few actions."""
  return GroupwiseValueFunction(
      few_actions.convert(value_fn.context), *value_fn.static
  )


def in_half_precision(
    value_fn: critic.ValueFunction,
) -> 'MemberwiseValueFunction':
  """Returns an approximation with matrix products in bfloat16."""
  return MemberwiseValueFunction(
      half_precision.convert(value_fn.context), *value_fn.static
  )


class GroupwiseValueFunction(critic.ValueFunction):
  """Evaluates the members in groups that run in parallel."""

  def members(self, actions):
    return tf.concat([one.members(actions) for one in self._groups()], axis=0)

  def outputs(self, actions):
    return tf.concat([one.outputs(actions) for one in self._groups()], axis=0)

  def _groups(self):
    return [critic.ValueFunction(one, *self.static) for one in self.context]


class MemberwiseValueFunction(critic.ValueFunction):
  """Evaluates one member after another.

  The arrays of one member for several thousand actions fit in a CPU cache;
  those of all members do not. Only `value_and_gradient` gives a gradient; do
  not differentiate the values with a tape.
  """

  def __call__(self, actions: tf.Tensor) -> tf.Tensor:
    (values,) = self._each(lambda one: (one.members(actions)[0],), 1)
    return self._aggregate(values, axis=0)

  def value_and_gradient(self, actions):
    values, gradients = self._each(
        lambda one: one.value_and_gradient(actions), 2
    )
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(values)
      total = self._aggregate(values, axis=0)
    weights = tape.gradient(total, values)  # [E, B, N]
    return total, tf.reduce_sum(weights[..., tf.newaxis] * gradients, axis=0)

  def _each(self, fn, num_results):
    """Calls `fn` for each member and stacks the results."""
    num_members = self.context.state.shape[0]

    def step(e, *arrays):
      one = critic.ValueFunction(self.context.member(e), *self.static)
      return e + 1, *(a.write(e, x) for a, x in zip(arrays, fn(one)))

    _, *arrays = tf.while_loop(
        lambda e, *_: e < num_members,
        step,
        (
            tf.constant(0),
            *(
                tf.TensorArray(tf.float32, num_members)
                for _ in range(num_results)
            ),
        ),
        maximum_iterations=num_members,
        parallel_iterations=2,  # Has an effect only without XLA.
    )
    return [array.stack() for array in arrays]
