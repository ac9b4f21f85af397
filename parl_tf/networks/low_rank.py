"""Low-rank adapters of dense layers (LoRA).

Implements Hu et al. (2022), arXiv:2106.09685: the output of a layer with the
frozen kernel W becomes x W + (alpha / rank) x A B, where A is random and B
starts at zero, so that an adapter at first changes nothing.
"""

import hashlib
from typing import Dict, Optional, Sequence, Tuple

from absl import logging
import numpy as np
import tensorflow as tf

_SCALE, _BASE = 'scale', 'base'  # Of a file of adapters.


class AdaptableDense(tf.keras.layers.Dense):
  """A dense layer to which an adapter can be attached.

  The layer does not own its adapter: its variables, and what is saved of it,
  remain those of a plain dense layer.
  """

  _TF_MODULE_IGNORED_PROPERTIES = frozenset(
      (*tf.keras.layers.Dense._TF_MODULE_IGNORED_PROPERTIES, '_adapter')
  )

  def attach(self, adapter: Optional['Adapter']) -> None:
    """Adds the adapter's output from now on; None removes it."""
    # Not tracked by Keras, unlike an attribute that is set as usual.
    object.__setattr__(self, '_adapter', adapter)

  def call(self, inputs):
    adapter = getattr(self, '_adapter', None)
    if adapter is None:
      return super().call(inputs)
    outputs = tf.matmul(inputs, self.kernel) + adapter(inputs)
    return self.activation(tf.nn.bias_add(outputs, self.bias))


class Adapter(tf.Module):
  """The product of two thin matrices, scaled.

  Attributes:
    down: A, `[inputs, rank]`.
    up: B, `[rank, outputs]`.
  """

  def __init__(
      self,
      num_inputs: int,
      num_outputs: int,
      seed: int,
      *,
      rank: int,
      alpha: float,
  ):
    super().__init__()
    initializer = tf.keras.initializers.HeUniform(seed)
    self.down = tf.Variable(initializer([num_inputs, rank]), name='down')
    self.up = tf.Variable(tf.zeros([rank, num_outputs]), name='up')
    self._scale = alpha / rank

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    """Returns what to add to the layer's output `[..., outputs]`."""
    return self._scale * tf.matmul(tf.matmul(x, self.down), self.up)

  def product(self) -> tf.Tensor:
    """Returns what to add to the layer's kernel `[inputs, outputs]`."""
    return self._scale * tf.matmul(self.down, self.up)


class Adapters(tf.Module):
  """An adapter for each adaptable layer of a module.

  The copy of a layer whose weights are a moving average shares its adapter.

  Attributes:
    adapters: The adapters, in the order of their layers.
    rest: The module's other weights that are trained too, if any are.
  """

  rest: Sequence[tf.Variable] = ()

  def __init__(
      self,
      module: tf.Module,
      seed: int,
      *,
      rank: int = 32,
      alpha: float = 16.0,
      trains_rest: bool = False,
  ):
    """Makes the adapters and attaches them.

    Args:
      module: Module that contains `AdaptableDense` layers, which are built.
      seed: Integer seed of the initial weights.
      rank: Width between the two matrices of an adapter.
      alpha: Scale; the product is multiplied by `alpha / rank`.
      trains_rest: Whether the module's weights that are no kernels of layers,
        such as embeddings, biases and layer norms, are variables of this
        object: trained, and saved with the adapters.

    Raises:
      ValueError: If a number is not positive, or there is no such layer.
    """
    super().__init__()
    if rank < 1 or not alpha > 0:
      raise ValueError(
          f'`rank` and `alpha` must be positive, got {rank} and {alpha}.'
      )
    # Not kept: the variables of this module are those that are trained.
    layers, copies = _adapted_layers(module)
    if not layers:
      raise ValueError(
          f'{type(module).__name__} must have layers that can be adapted, got '
          'none.'
      )
    seeds = np.random.SeedSequence(seed).generate_state(len(layers))
    self.adapters = [
        Adapter(
            layer.kernel.shape[0],
            layer.kernel.shape[1],
            layer_seed,
            rank=rank,
            alpha=alpha,
        )
        for layer, layer_seed in zip(layers, seeds.tolist())
    ]
    for group in layers, copies:
      for layer, adapter in zip(group, self.adapters):
        layer.attach(adapter)
    self._scale = alpha / rank
    if trains_rest:
      kernels = {
          x.kernel.ref()
          for x in module.submodules
          if isinstance(getattr(x, 'kernel', None), tf.Variable)
      }
      self.rest = _without(module.trainable_variables, kernels)
    rest = {x.ref() for x in self.rest}
    self._digest_weights = lambda: _digest(
        _without(module.trainable_variables, rest)
    )
    self._digest_base = self._digest_weights
    if not copies:  # Averaged weights still move while the base is frozen.
      self._digest_base = lambda: _digest(_without(module.variables, rest))

  @property
  def num_bytes(self) -> int:
    """Size of the adapters' weights, and of the rest if that is trained."""
    return sum(v.dtype.size * v.shape.num_elements() for v in self.variables)

  def merge_into(self, module: tf.Module) -> None:
    """Adds the adapters to the kernels of an equal module without adapters.

    That has the trained weights of the rest already.
    """
    layers, copies = _adapted_layers(module)
    for layer, adapter in zip(layers, self.adapters, strict=True):
      layer.kernel.assign_add(adapter.product())
    for layer, adapter in zip(copies, self.adapters):
      layer.kernel.assign_add(adapter.product())

  def save(self, path: str) -> None:
    """Writes the adapters, and the rest if that is trained, to a `.npz` file.

    It also has their scale, alpha / rank, and a digest of the base: its frozen
    weights and, unless it has averaged ones, its statistics and bins.
    """
    arrays = self._named()
    arrays[_SCALE] = np.array(self._scale)
    arrays[_BASE] = np.array(self._digest_base())
    with open(path, 'wb') as file:
      np.savez(file, **arrays)

  def load(self, path: str) -> None:
    """Reads adapters that `save` wrote.

    Files of version 0.2 have neither scale nor digest; a warning is logged.
    Those of later ones may have a digest of the base's weights alone.

    Raises:
      ValueError: If they do not fit the layers, have another scale, or were
        trained on another base. The adapters are then unchanged.
    """
    with np.load(path) as file:
      saved = dict(file)
    scale, base = saved.pop(_SCALE, None), saved.pop(_BASE, None)
    wanted = {k: x.shape for k, x in self._named().items()}
    seen = {k: x.shape for k, x in saved.items()}
    if seen != wanted:
      raise ValueError(
          f'{path}: the adapters must have the shapes {wanted}, got {seen}.'
      )
    if scale is None or base is None:
      logging.warning(
          '%s: an earlier version wrote the adapters without their scale and'
          ' without a digest of their base. Nothing checks that both are those'
          ' of this policy.',
          path,
      )
    elif scale != self._scale:
      raise ValueError(
          f'{path}: `{_SCALE}` (alpha / rank) must be {self._scale:g}, as in'
          f' this policy, got {scale:g}.'
      )
    elif base not in (self._digest_base(), self._digest_weights()):
      raise ValueError(
          f"{path}: `{_BASE}` must be the digest of this policy's base,"
          f' {self._digest_base()}, got {base}: the adapters were trained on'
          ' other weights, statistics or bins. Restore those first.'
      )
    for i, adapter in enumerate(self.adapters):
      adapter.down.assign(saved[f'{i}/down'])
      adapter.up.assign(saved[f'{i}/up'])
    for i, variable in enumerate(self.rest):
      variable.assign(saved[f'rest/{i}'])

  def _named(self) -> Dict[str, np.ndarray]:
    arrays = {}
    for i, adapter in enumerate(self.adapters):
      arrays[f'{i}/down'] = adapter.down.numpy()
      arrays[f'{i}/up'] = adapter.up.numpy()
    for i, variable in enumerate(self.rest):
      arrays[f'rest/{i}'] = variable.numpy()
    return arrays


def adaptable_layers(module: tf.Module) -> Sequence[AdaptableDense]:
  """Returns the adaptable layers of a module, in a fixed order."""
  return [x for x in module.submodules if isinstance(x, AdaptableDense)]


def _adapted_layers(
    module: tf.Module,
) -> Tuple[Sequence[AdaptableDense], Sequence[AdaptableDense]]:
  """Returns the layers that have their own adapters, and copies that share."""
  layers = adaptable_layers(module)
  # A moving average of a network is an equal network that is not trainable.
  trained = [x for x in layers if x.trainable]
  copies = [x for x in layers if not x.trainable]
  if [x.kernel.shape for x in copies] == [x.kernel.shape for x in trained]:
    return trained, copies
  return layers, []


def _without(variables: Sequence[tf.Variable], left_out: set) -> list:
  return [x for x in variables if x.ref() not in left_out]


def _digest(variables: Sequence[tf.Variable]) -> str:
  found = hashlib.blake2b(digest_size=8)
  for variable in variables:
    found.update(str(variable.shape).encode())
    found.update(variable.numpy().tobytes())
  return found.hexdigest()


def make_dense(
    units: int, input_size: int, seed: int, activation=None
) -> AdaptableDense:
  """Makes and builds an adaptable layer, with the weights of `blocks`."""
  layer = AdaptableDense(
      units,
      activation=activation,
      kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed),
  )
  layer.build([None, input_size])
  return layer
