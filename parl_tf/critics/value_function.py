"""The values of a batch of states as functions of the actions."""

from typing import Callable, Optional, Tuple

import tensorflow as tf

from parl_tf import value_distribution
from parl_tf.networks import ensemble
from parl_tf.networks import few_actions
from parl_tf.networks import half_precision


class ValueFunction:
  """Evaluates actions at a batch of states.

  Ranking, ascent, selection and losses all use this class. `__call__` applies
  the critic's aggregation over members.
  """

  def __init__(
      self,
      context: ensemble.EnsembleContext,
      distribution: Optional[value_distribution.HLGauss],
      aggregate: Callable[..., tf.Tensor],
  ):
    """Initializes the function.

    Args:
      context: The ensemble, bound to the states.
      distribution: Converts outputs to values; None for scalar outputs.
      aggregate: Reduction over members, such as `tf.reduce_mean`.
    """
    self.context = context
    self._distribution = distribution
    self._aggregate = aggregate

  def __call__(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns the aggregated values `[B, N]` of actions `[B, N, A]`."""
    return self._aggregate(self.members(actions), axis=0)

  def value_and_gradient(
      self, actions: tf.Tensor
  ) -> Tuple[tf.Tensor, tf.Tensor]:
    """Returns values `[B, N]` and their action gradient `[B, N, A]`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(actions)
      values = self(actions)
    return values, tape.gradient(values, actions)

  def members(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns each member's values `[E, B, N]` of actions `[B, N, A]`."""
    return self.values(self.outputs(actions))

  def outputs(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns raw outputs `[E, B, N, bins]`; bins = 1 for scalar critics."""
    tf.debugging.assert_shapes([(actions, ('B', 'N', 'A'))])
    return self.context(actions)

  def values(self, outputs: tf.Tensor) -> tf.Tensor:
    """Converts outputs `[..., bins]` to values `[...]`."""
    if self._distribution is None:
      return tf.squeeze(outputs, axis=-1)
    return self._distribution.mean(outputs)

  def for_few_actions(self) -> 'GroupwiseValueFunction':
    """Returns an equal function that is faster for few actions."""
    return GroupwiseValueFunction(
        few_actions.convert(self.context), *self.static
    )

  def in_half_precision(self) -> 'MemberwiseValueFunction':
    """Returns an approximation with matrix products in bfloat16."""
    return MemberwiseValueFunction(
        half_precision.convert(self.context), *self.static
    )

  @property
  def static(self):
    """The parts that are not tensors: distribution and aggregation."""
    return self._distribution, self._aggregate


class GroupwiseValueFunction(ValueFunction):
  """Evaluates the members in groups that run in parallel."""

  def members(self, actions):
    return tf.concat([one.members(actions) for one in self._groups()], axis=0)

  def outputs(self, actions):
    return tf.concat([one.outputs(actions) for one in self._groups()], axis=0)

  def _groups(self):
    return [ValueFunction(one, *self.static) for one in self.context]


class MemberwiseValueFunction(ValueFunction):
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
      one = ValueFunction(self.context.member(e), *self.static)
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
