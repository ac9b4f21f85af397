"""The critic ensemble laid out for a few actions, as an acting robot has them.

The time goes to reading weights and to launching operations, not to
arithmetic. One matrix a member is multiplied twice as fast as a stack of
them, and the two halves of the ensemble run side by side.
"""

from typing import NamedTuple, Optional, Tuple

import tensorflow as tf

from parl_tf.networks import ensemble

_NUM_GROUPS = 2


class FewActionsContext(NamedTuple):
  """Some members, `e` of them, of a `ensemble.EnsembleContext`.

  Attributes:
    state: `[B, 1, e, width]`, the states' share of the first layer.
    action_kernel: `[A, e width]`, the actions' share of its kernel.
    first_norm: LayerNorm's scale and offset `[e, 1, width]`, or none.
    layers: Of each further layer a kernel a member, bias, scale and offset.
    head: A kernel a member, or one for all, and bias.
  """

  state: tf.Tensor
  action_kernel: tf.Tensor
  first_norm: Tuple[tf.Tensor, ...]
  layers: Tuple[Tuple, ...]
  head: Tuple

  def __call__(self, actions: Optional[tf.Tensor] = None) -> tf.Tensor:
    """Evaluates actions `[B, N, A]`; returns `[e, B, N, num_outputs]`."""
    x = self.state
    num_members, width = x.shape[2:]
    rows = x if actions is None else actions
    # N is kept where it is known: it decides shapes elsewhere.
    shape = [tf.shape(rows)[0], rows.shape[1] or tf.shape(rows)[1]]
    if actions is not None:
      product = tf.matmul(
          tf.reshape(actions, [-1, actions.shape[-1]]), self.action_kernel
      )
      x += tf.reshape(product, [*shape, num_members, width])
    x = tf.reshape(x, [-1, num_members, width])
    x = tf.transpose(x, [1, 0, 2])  # [e, B N, width]
    x = ensemble.activate(x, self.first_norm)
    for kernels, bias, *norm in self.layers:
      x = ensemble.join_actions(x, actions, kernels[0])
      x = ensemble.activate(_product(x, kernels) + bias, norm)
    x = ensemble.join_actions(x, actions, self.head[0][0])
    x = _product(x, self.head[0]) + self.head[1]
    return tf.reshape(x, [num_members, *shape, x.shape[-1]])


def convert(
    context: ensemble.EnsembleContext,
) -> Tuple[FewActionsContext, ...]:
  """Lays a context out for few actions, its members in equal groups."""
  num_members = context.state.shape[0]
  num_groups = min(_NUM_GROUPS, num_members)
  bounds = [num_members * i // num_groups for i in range(num_groups + 1)]
  return tuple(_group(context, *pair) for pair in zip(bounds, bounds[1:]))


def _group(context, start, end):
  num_members = context.state.shape[0]

  def some(weight):
    # One head may serve all.
    return weight[start:end] if weight.shape[0] == num_members else weight

  def apart(layer):
    kernel, *others = map(some, layer)
    return tuple(tf.unstack(kernel)), *others

  kernel = tf.transpose(some(context.action_kernel), [1, 0, 2])  # [A, e, width]
  return FewActionsContext(
      tf.transpose(some(context.state), [1, 0, 2])[:, tf.newaxis],
      tf.reshape(kernel, [kernel.shape[0], -1]),
      tuple(map(some, context.first_norm)),
      tuple(map(apart, context.layers)),
      apart(context.head),
  )


def _product(x, kernels):
  """`[e, R, I]` by e matrices `[I, O]`, or by one."""
  rows = tf.unstack(x)
  if len(kernels) == 1:
    kernels *= len(rows)
  return tf.stack([tf.matmul(*pair) for pair in zip(rows, kernels)])
