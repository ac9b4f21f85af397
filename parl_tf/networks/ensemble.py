"""The critic's network: E members on one stacked axis, bound to states once."""

import math
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf


class CriticEnsemble(tf.keras.layers.Layer):
  """E independent networks of (features, action), stacked on a leading axis.

  Each layer is Dense -> LayerNorm -> swish, or Dense -> ReLU without LayerNorm;
  the state's share of the first layer is computed once a state (`context`) and
  used for every action. Where the action is an input of every layer, it follows
  what comes from the layer before.
  """

  def __init__(
      self,
      feature_size: int,
      action_size: int,
      num_outputs: int,
      seed: int,
      *,
      num_members: int = 10,
      hidden_sizes: Sequence[int] = (256, 256),
      layer_norm: bool = True,
      shared_head: bool = False,
      action_in_every_layer: bool = False,
      initial_bias: Optional[np.ndarray] = None,
  ):
    """Initializes orthogonal weights, gain sqrt 2, last two layers 1e-2.

    Args:
      feature_size: Width of the observation features.
      action_size: A, or 0 for a network of the state alone.
      num_outputs: Width of the head.
      seed: Integer seed of the initial weights.
      num_members: E.
      hidden_sizes: Widths of the hidden layers, at least one.
      layer_norm: Whether hidden layers are LayerNorm and swish, else ReLU.
      shared_head: Whether all members share one head.
      action_in_every_layer: Whether the action is an input of every layer, the
        head among them, and not of the first alone: beside many features of
        pictures it would hardly count there.
      initial_bias: `[num_outputs]` initial bias of the head; zeros if None.

    Raises:
      ValueError: If `num_members` is not positive or there is no hidden layer.
    """
    super().__init__()
    if num_members < 1:
      raise ValueError(f'`num_members` must be positive, got {num_members}.')
    if not hidden_sizes:
      raise ValueError('`hidden_sizes` must name at least one layer.')
    self.num_members = num_members
    self._feature_size = feature_size
    self._layer_norm = layer_norm
    sizes = [feature_size + action_size, *hidden_sizes]
    # What each layer reads.
    num_again = action_size if action_in_every_layer else 0
    num_inputs = [sizes[0], *(size + num_again for size in hidden_sizes)]
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes))
    self._layers_weights = []
    for i in range(len(hidden_sizes)):
      gain = 1e-2 if i == len(hidden_sizes) - 1 else math.sqrt(2.0)
      self._layers_weights.append(
          self._add_layer(i, num_inputs[i], sizes[i + 1], gain, seeds[i])
      )
    num_heads = 1 if shared_head else num_members
    bias = np.zeros(num_outputs) if initial_bias is None else initial_bias
    self._head = (
        self._add('head_kernel', _orthogonal(
            num_heads, num_inputs[-1], num_outputs, 1e-2, seeds[-1])),
        self._add('head_bias', np.tile(bias, [num_heads, 1, 1])),
    )

  def context(
      self, features: tf.Tensor, selection: Optional[tf.Tensor] = None
  ) -> 'EnsembleContext':
    """Binds the network to states, and to some members where asked.

    Args:
      features: `[B, F]`.
      selection: `[M, E]` one-hot rows, the members that are evaluated; all E
        where None. Reading them by a product keeps the gradient dense.

    Returns:
      A function of actions for these states.
    """
    def read(weight):
      if selection is None or weight.shape[0] != self.num_members:
        return tf.convert_to_tensor(weight)
      return tf.einsum('me,eij->mij', selection, weight)

    layers = [[read(w) for w in layer] for layer in self._layers_weights]
    if self._layer_norm:
      # The mean that LayerNorm takes away is taken out of the weights instead,
      # once for all rows.
      layers = [
          [_centered(w) for w in layer[:2]] + layer[2:] for layer in layers
      ]
    (kernel, bias, *first_norm), *others = layers
    state = tf.matmul(features[tf.newaxis], kernel[:, : self._feature_size])
    return EnsembleContext(
        state + bias,
        kernel[:, self._feature_size :],
        tuple(first_norm),
        tuple(tuple(layer) for layer in others),
        tuple(read(w) for w in self._head),
    )

  def _add(self, name, value):
    return self.add_weight(
        name=name,
        shape=value.shape,
        initializer=tf.constant_initializer(value),
    )

  def _add_layer(self, index, num_inputs, num_outputs, gain, seed):
    kernel = _orthogonal(self.num_members, num_inputs, num_outputs, gain, seed)
    row = [self.num_members, 1, num_outputs]
    weights = [
        self._add(f'kernel_{index}', kernel),
        self._add(f'bias_{index}', np.zeros(row)),
    ]
    if self._layer_norm:
      weights.append(self._add(f'scale_{index}', np.ones(row)))
      weights.append(self._add(f'offset_{index}', np.zeros(row)))
    return weights


class EnsembleContext(NamedTuple):
  """A critic ensemble at given states, its state-only work done.

  Attributes:
    state: `[E, B, width]`, the states' share of the first layer.
    action_kernel: `[E, A, width]`, the actions' share of its kernel.
    first_norm: LayerNorm's scale and offset `[E, 1, width]` of the first layer,
      or none.
    layers: Kernel, bias, scale and offset of each further one.
    head: Kernel and bias, of every member or one for all.
  """

  state: tf.Tensor
  action_kernel: tf.Tensor
  first_norm: Tuple[tf.Tensor, ...]
  layers: Tuple[Tuple[tf.Tensor, ...], ...]
  head: Tuple[tf.Tensor, tf.Tensor]

  def __call__(self, actions: Optional[tf.Tensor] = None) -> tf.Tensor:
    """Evaluates actions `[B, N, A]`, or the states alone where None (N = 1).

    Args:
      actions: `[B, N, A]`.

    Returns:
      `[E, B, N, num_outputs]`.
    """
    x = self.state[:, :, tf.newaxis]  # [E, B, 1, width]
    if actions is not None:
      x += tf.matmul(actions[tf.newaxis], self.action_kernel[:, tf.newaxis])
    shape = tf.shape(x)
    x = tf.reshape(x, [shape[0], -1, x.shape[-1]])  # [E, B N, width]
    x = activate(x, self.first_norm)
    for kernel, bias, *norm in self.layers:
      x = join_actions(x, actions, kernel)
      x = activate(tf.matmul(x, kernel) + bias, norm)
    x = join_actions(x, actions, self.head[0])
    x = tf.matmul(x, self.head[0]) + self.head[1]
    return tf.reshape(
        x, tf.concat([shape[:3], [x.shape[-1]]], axis=0)
    )

  def states(self, start: int, size: int) -> 'EnsembleContext':
    """Returns the ensemble at `size` of the states, from `start` on."""
    return self._replace(state=self.state[:, start : start + size])

  def member(self, index: tf.Tensor) -> 'EnsembleContext':
    """Returns one member, as an ensemble of one."""
    num_members = self.state.shape[0]

    def read(weight):
      if weight.shape[0] != num_members:  # One head for all.
        return weight
      return tf.gather(weight, index[tf.newaxis])

    return tf.nest.map_structure(read, self)


def join_actions(
    x: tf.Tensor, actions: Optional[tf.Tensor], kernel: tf.Tensor
) -> tf.Tensor:
  """Returns what a layer reads: with actions, where its kernel has them.

  Args:
    x: `[E, B N, width]`, what the layer before gives.
    actions: `[B, N, A]`.
    kernel: `[..., I, O]`, I = width + A where the layer reads actions,
      else width.

  Returns:
    `[E, B N, I]`.

  Raises:
    ValueError: If the layer reads actions and there are none.
  """
  num_inputs = kernel.shape[-2]
  if num_inputs == x.shape[-1]:
    return x
  if actions is None:
    raise ValueError('`actions` must be given: every layer reads them.')
  rows = tf.reshape(tf.cast(actions, x.dtype), [1, -1, actions.shape[-1]])
  return tf.concat([x, tf.tile(rows, [tf.shape(x)[0], 1, 1])], axis=-1)


def activate(x: tf.Tensor, norm: Sequence[tf.Tensor]) -> tf.Tensor:
  """LayerNorm and swish of `[E, R, width]` of mean 0, ReLU without a norm."""
  return _normalize_swish(x, *norm) if norm else tf.nn.relu(x)


@tf.custom_gradient
def _normalize_swish(x, scale, offset):
  """LayerNorm and swish of rows `[E, R, width]` whose mean is 0 already.

  The search spends most of its time between its matrix products, in passes
  over `x`; the gradient by hand takes a third of the passes of the automatic.
  """
  variance = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
  inverse = tf.math.rsqrt(variance + 1e-6)
  normalized = x * inverse
  z = normalized * scale + offset
  sigmoid = tf.sigmoid(z)
  y = z * sigmoid

  def gradient(dy):
    dz = dy * (sigmoid + y * (1.0 - sigmoid))
    dnormalized = dz * scale
    dot = tf.reduce_mean(dnormalized * normalized, axis=-1, keepdims=True)
    return (
        inverse * (dnormalized - normalized * dot),
        tf.reduce_sum(dz * normalized, axis=1, keepdims=True),
        tf.reduce_sum(dz, axis=1, keepdims=True),
    )

  return y, gradient


def _centered(weight):
  return weight - tf.reduce_mean(weight, axis=-1, keepdims=True)


def _orthogonal(num_members, num_inputs, num_outputs, gain, seed):
  """`[E, num_inputs, num_outputs]`, each member orthogonal on its own."""
  generator = np.random.default_rng(int(seed))
  long, short = sorted([num_inputs, num_outputs], reverse=True)
  q, r = np.linalg.qr(generator.standard_normal([num_members, long, short]))
  q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, np.newaxis]
  if num_inputs < num_outputs:
    q = np.swapaxes(q, 1, 2)
  return gain * q
