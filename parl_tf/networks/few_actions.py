"""The critic ensemble in a layout for few actions, as in acting.

With few actions, reading weights and launching operations take longer than
arithmetic. Separate matrix products of the members are twice as fast as the
product of a stack, and the two halves of the ensemble run in parallel.
"""

from typing import NamedTuple, Optional, Tuple

import tensorflow as tf

from parl_tf.networks import ensemble

_NUM_GROUPS = 2


class FewActionsContext(NamedTuple):
  """A group of `e` members of an `ensemble.EnsembleContext`.

  Attributes:
    state: `[B, 1, e, width]`, the states' part of the first layer's output.
    action_kernel: `[A, e width]`, the actions' part of the first kernel.
    first_norm: LayerNorm scale and offset `[e, 1, width]`; empty without
      LayerNorm.
    layers: Kernels (one per member), bias, scale and offset of each other
      layer.
    head: Kernels (one per member, or a shared one) and bias.
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
    # Keep a static N, because callers rely on it.
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
  """Converts a context to the layout for few actions, in equal groups."""
  num_members = context.state.shape[0]
  num_groups = min(_NUM_GROUPS, num_members)
  bounds = [num_members * i // num_groups for i in range(num_groups + 1)]
  return tuple(_group(context, *pair) for pair in zip(bounds, bounds[1:]))


def _group(context, start, end):
  num_members = context.state.shape[0]

  def some(weight):
    # The head may be shared.
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
  """Multiplies `[e, R, I]` by e matrices `[I, O]`, or by a shared one."""
  rows = tf.unstack(x)
  if len(kernels) == 1:
    kernels *= len(rows)
  return tf.stack([tf.matmul(*pair) for pair in zip(rows, kernels)])
