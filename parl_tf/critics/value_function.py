"""A critic's values at given states, as a function of actions."""

from typing import Callable, Optional, Tuple

import tensorflow as tf

from parl_tf import value_distribution
from parl_tf.networks import ensemble
from parl_tf.networks import few_actions
from parl_tf.networks import half_precision


class ValueFunction:
  """Aggregated values of actions at some states.

  Ranking, ascent, selection and losses all call it; `__call__` applies the
  critic's one aggregation over members.
  """

  def __init__(
      self,
      context: ensemble.EnsembleContext,
      distribution: Optional[value_distribution.HLGauss],
      aggregate: Callable[..., tf.Tensor],
  ):
    """Initializes the function.

    Args:
      context: The ensemble at the states.
      distribution: How outputs are read, or None for scalar ones.
      aggregate: `tf.reduce_mean` or another reduction over members.
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
    """Returns values `[B, N]` and their gradient `[B, N, A]` by the actions."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(actions)
      values = self(actions)
    return values, tape.gradient(values, actions)

  def members(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns each member's values `[E, B, N]` of actions `[B, N, A]`."""
    return self.values(self.outputs(actions))

  def outputs(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns raw outputs `[E, B, N, bins]`; one bin for a scalar critic."""
    tf.debugging.assert_shapes([(actions, ('B', 'N', 'A'))])
    return self.context(actions)

  def values(self, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the values `[...]` that outputs `[..., bins]` stand for."""
    if self._distribution is None:
      return tf.squeeze(outputs, axis=-1)
    return self._distribution.mean(outputs)

  def for_few_actions(self) -> 'GroupwiseValueFunction':
    """Returns the same function, faster for few actions."""
    return GroupwiseValueFunction(
        few_actions.convert(self.context), *self.static
    )

  def in_half_precision(self) -> 'MemberwiseValueFunction':
    """Returns about the same function, its matrix products in bfloat16."""
    return MemberwiseValueFunction(
        half_precision.convert(self.context), *self.static
    )

  @property
  def static(self):
    """What it is made of besides the context: distribution, aggregation."""
    return self._distribution, self._aggregate


class GroupwiseValueFunction(ValueFunction):
  """The same values, the members in groups that are evaluated side by side."""

  def members(self, actions):
    return tf.concat([one.members(actions) for one in self._groups()], axis=0)

  def outputs(self, actions):
    return tf.concat([one.outputs(actions) for one in self._groups()], axis=0)

  def _groups(self):
    return [ValueFunction(one, *self.static) for one in self.context]


class MemberwiseValueFunction(ValueFunction):
  """The same values, one member after another.

  What one member computes for some thousand actions fits in a processor's
  cache; what all members compute at once does not. It has no gradient but that
  of `value_and_gradient`.
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
    """Stacks what `fn` gives for each member."""
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
        parallel_iterations=2,  # Where XLA does not compile the loop.
    )
    return [array.stack() for array in arrays]
