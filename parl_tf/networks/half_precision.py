"""The critic ensemble with bfloat16 matrix products, for the action search.

Matrix products have bfloat16 inputs and outputs. Norms, activations and their
gradients are float32, each compiled into one pass over its arrays. Only actions
have a gradient; weights do not.
"""

from typing import Optional

import tensorflow as tf

from parl_tf.networks import ensemble

_HALF = tf.bfloat16


class HalfPrecisionContext(ensemble.EnsembleContext):
  """An `ensemble.EnsembleContext` with all kernels but the first in bfloat16.

  Attributes:
    state: `[E, B, width]`, the states' part of the first layer's output.
    action_kernel: `[E, A, width]`, the actions' part of the first kernel.
    first_norm: LayerNorm scale and offset of the first layer; empty without
      LayerNorm.
    layers: Kernel, bias, scale and offset of each other layer.
    head: Kernel and bias, for each member or shared.
  """

  def __call__(self, actions: Optional[tf.Tensor] = None) -> tf.Tensor:
    """Evaluates actions `[B, N, A]`; returns `[E, B, N, num_outputs]`."""
    x = self.state[:, :, tf.newaxis]  # [E, B, 1, width]
    if actions is not None:
      x += tf.matmul(actions[tf.newaxis], self.action_kernel[:, tf.newaxis])
    shape = tf.shape(x)
    x = tf.reshape(x, [shape[0], -1, x.shape[-1]])  # [E, B N, width]
    x = _activate(x, *self.first_norm)
    for kernel, bias, *norm in self.layers:
      x = ensemble.join_actions(x, actions, kernel)
      x = _layer(x, kernel, bias, *norm)
    x = ensemble.join_actions(x, actions, self.head[0])
    x = tf.cast(tf.matmul(x, self.head[0]), tf.float32) + self.head[1]
    return tf.reshape(x, tf.concat([shape[:3], [x.shape[-1]]], axis=0))


def convert(context: ensemble.EnsembleContext) -> HalfPrecisionContext:
  """Rounds the kernels of a context to bfloat16."""
  def half(layer):
    return (tf.cast(layer[0], _HALF), *layer[1:])

  return HalfPrecisionContext(*context)._replace(
      layers=tuple(half(layer) for layer in context.layers),
      head=half(context.head),
  )


@tf.custom_gradient
def _activate(x, *norm):
  """Applies LayerNorm and swish, or ReLU, to float32; returns bfloat16."""

  def gradient(dy):
    return _activation_gradient(dy, x, 0.0, *norm), *[None] * len(norm)

  return _activation(x, 0.0, *norm), gradient


@tf.custom_gradient
def _layer(x, kernel, bias, *norm):
  """Applies a dense layer and its activation, from bfloat16 to bfloat16."""
  product = tf.matmul(x, kernel)

  def gradient(dy):
    dproduct = _activation_gradient(dy, product, bias, *norm)
    dx = tf.matmul(tf.cast(dproduct, _HALF), kernel, transpose_b=True)
    return dx, *[None] * (2 + len(norm))

  return _activation(product, bias, *norm), gradient


@tf.function(autograph=False, jit_compile=True)
def _activation(x, bias, *norm):
  x = tf.cast(x, tf.float32) + bias
  if not norm:
    return tf.cast(tf.nn.relu(x), _HALF)
  z = _normalized(x)[0] * norm[0] + norm[1]
  return tf.cast(z * tf.sigmoid(z), _HALF)


@tf.function(autograph=False, jit_compile=True)
def _activation_gradient(dy, x, bias, *norm):
  x, dtype = tf.cast(x, tf.float32) + bias, x.dtype
  dy = tf.cast(dy, tf.float32)
  if not norm:
    return tf.cast(tf.where(x > 0.0, dy, 0.0), dtype)
  normalized, inverse = _normalized(x)
  z = normalized * norm[0] + norm[1]
  sigmoid = tf.sigmoid(z)
  dnormalized = dy * (sigmoid + z * sigmoid * (1.0 - sigmoid)) * norm[0]
  dot = tf.reduce_mean(dnormalized * normalized, axis=-1, keepdims=True)
  return tf.cast(inverse * (dnormalized - normalized * dot), dtype)


def _normalized(x):
  """Returns rows of mean 0, scaled to variance 1, and their scales."""
  variance = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
  inverse = tf.math.rsqrt(variance + 1e-6)
  return x * inverse, inverse
