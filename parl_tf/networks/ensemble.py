"""The critic's network: E members, stacked on one axis."""

import functools
import math
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from parl_tf.networks import blocks


class CriticEnsemble(tf.keras.layers.Layer):
  """E independent networks of (features, action), stacked on a leading axis.

  Each layer is Dense -> LayerNorm -> swish, or Dense -> ReLU without LayerNorm.
  `context` computes the state's part of the first layer once for all actions.
  If the action is an input of every layer, it follows the outputs of the
  previous layer.
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
    """Initializes the network with orthogonal weights.

    Their gain is sqrt 2, and 1e-2 in the last hidden layer and in the head.

    Args:
      feature_size: Width of the observation features.
      action_size: A, or 0 for a network of only the state.
      num_outputs: Width of the head.
      seed: Integer seed of the initial weights.
      num_members: E, the number of members.
      hidden_sizes: Widths of the hidden layers, at least one.
      layer_norm: Whether hidden layers use LayerNorm and swish; False uses
        ReLU.
      shared_head: Whether all members share one head.
      action_in_every_layer: Whether the action is an input of every layer,
        including the head. As an input of only the first layer it would
        have little weight next to many image features.
      initial_bias: `[num_outputs]` initial bias of the head; zeros if None.

    Raises:
      ValueError: If `num_members` or a width is not positive, or there is no
        hidden layer.
    """
    super().__init__()
    if num_members < 1:
      raise ValueError(f'`num_members` must be positive, got {num_members}.')
    if not hidden_sizes:
      raise ValueError('`hidden_sizes` must name at least one layer.')
    for width in hidden_sizes:
      blocks.check_width(width)
    self.num_members = num_members
    self._feature_size = feature_size
    self._layer_norm = layer_norm
    sizes = [feature_size + action_size, *hidden_sizes]
    # Input widths of the layers.
    num_again = action_size if action_in_every_layer else 0
    num_inputs = [sizes[0], *(size + num_again for size in hidden_sizes)]
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes)).tolist()
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
    """Binds the network to states and, optionally, to some members.

    Args:
      features: `[B, F]`.
      selection: `[M, E]` one-hot rows of the members to use; None uses all.

    Returns:
      A function of actions for these states.
    """
    def read(weight):
      if selection is None or weight.shape[0] != self.num_members:
        return tf.convert_to_tensor(weight)
      # A matrix product, unlike a lookup, has a dense gradient.
      return tf.einsum('me,eij->mij', selection, weight)

    layers = [[read(w) for w in layer] for layer in self._layers_weights]
    if self._layer_norm:
      # Center the weights once, instead of each row of outputs in LayerNorm.
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

  def set_head_bias(self, bias: np.ndarray) -> None:
    """Sets the bias `[num_outputs]` of the head, the same for all members."""
    variable = self._head[1]
    variable.assign(np.tile(bias, [variable.shape[0], 1, 1]))

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
  """A critic ensemble at given states.

  Attributes:
    state: `[E, B, width]`, the states' part of the first layer's output.
    action_kernel: `[E, A, width]`, the actions' part of the first kernel.
    first_norm: LayerNorm scale and offset `[E, 1, width]` of the first layer;
      empty without LayerNorm.
    layers: Kernel, bias, scale and offset of each other layer.
    head: Kernel and bias, for each member or shared.
  """

  state: tf.Tensor
  action_kernel: tf.Tensor
  first_norm: Tuple[tf.Tensor, ...]
  layers: Tuple[Tuple[tf.Tensor, ...], ...]
  head: Tuple[tf.Tensor, tf.Tensor]

  def __call__(self, actions: Optional[tf.Tensor] = None) -> tf.Tensor:
    """Evaluates actions at the states.

    Args:
      actions: `[B, N, A]`, or None for a network of only the state (N = 1).

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
    """Returns the ensemble at the `size` states from index `start`."""
    return self._replace(state=self.state[:, start : start + size])

  def member(self, index: tf.Tensor) -> 'EnsembleContext':
    """Returns an ensemble of only one member."""
    num_members = self.state.shape[0]

    def read(weight):
      if weight.shape[0] != num_members:  # A shared head.
        return weight
      return tf.gather(weight, index[tf.newaxis])

    return tf.nest.map_structure(read, self)


def join_actions(
    x: tf.Tensor, actions: Optional[tf.Tensor], kernel: tf.Tensor
) -> tf.Tensor:
  """Returns a layer's inputs; adds the actions if its kernel has rows for them.

  Args:
    x: `[E, B N, width]` outputs of the previous layer.
    actions: `[B, N, A]`.
    kernel: `[..., I, O]` of the layer, with I = width + A if the actions are an
      input, otherwise I = width.

  Returns:
    `[E, B N, I]`.

  Raises:
    ValueError: If the actions are an input and None is given.
  """
  num_inputs = kernel.shape[-2]
  if num_inputs == x.shape[-1]:
    return x
  if actions is None:
    raise ValueError(
        '`actions` must be given with `action_in_every_layer`, got None.'
    )
  rows = tf.reshape(tf.cast(actions, x.dtype), [1, -1, actions.shape[-1]])
  return tf.concat([x, tf.tile(rows, [tf.shape(x)[0], 1, 1])], axis=-1)


def activate(x: tf.Tensor, norm: Sequence[tf.Tensor]) -> tf.Tensor:
  """Applies LayerNorm and swish to rows `[E, R, width]` of mean 0, or ReLU.

  Args:
    x: `[E, R, width]`; each row must have mean 0 unless `norm` is empty.
    norm: Scale and offset of LayerNorm; empty for ReLU.
  """
  return _normalize_swish(x, *norm) if norm else tf.nn.relu(x)


@tf.custom_gradient
def _normalize_swish(x, scale, offset):
  """Applies LayerNorm and swish to rows `[E, R, width]` of mean 0.

  Between its matrix products, a search spends most of its time in passes over
  `x`. This gradient takes a third of the passes of automatic differentiation.
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


@functools.lru_cache(maxsize=16)
def _orthogonal(num_members, num_inputs, num_outputs, gain, seed):
  """Draws `[E, num_inputs, num_outputs]`, an orthogonal matrix per member.

  Kept, because a target network has the same initial weights.
  """
  generator = np.random.default_rng(seed)
  long, short = sorted([num_inputs, num_outputs], reverse=True)
  q, r = np.linalg.qr(generator.standard_normal([num_members, long, short]))
  q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, np.newaxis]
  if num_inputs < num_outputs:
    q = np.swapaxes(q, 1, 2)
  return (gain * q).astype(np.float32)
