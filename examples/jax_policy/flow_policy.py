"""A flow-matching policy in JAX that `parl_tf.serving` samples and trains.

The network predicts the velocity that moves noise x_0 to an action x_1 along a
straight line (Lipman et al., 2022, arXiv:2210.02747). Samples come from a
moving average of its weights.
"""

import functools
import hashlib
import os
from typing import Any, Dict, List, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from parl_tf.serving import policy_spec

_WIDTHS = (256, 256, 256)
_NUM_FLOW_STEPS = 10
_BATCH_SIZE = 256
_AVERAGING_RATE = 0.005  # Per gradient step.
_FILE = 'weights.npz'
_Parameters = List[Dict[str, jnp.ndarray]]


class FlowPolicy:
  """Draws single actions; see the module.

  Attributes:
    optimizer: Of a fit.
  """

  def __init__(self, states: np.ndarray, actions: np.ndarray, seed: int = 0):
    """Initializes the weights, and the statistics of a dataset.

    Args:
      states: `[R, S]`.
      actions: `[R, A]`, in units of about 1.
      seed: Seed of the weights.
    """
    sizes = (
        states.shape[1] + actions.shape[1] + 1, *_WIDTHS, actions.shape[1]
    )
    deviation = states.std(0)
    self._statistics = {
        'mean': states.mean(0),
        'deviation': np.where(deviation < 1e-6, 1.0, deviation),
    }
    self._parameters = _initial_parameters(jax.random.key(seed), sizes)
    self._averages = self._parameters
    self.optimizer = optax.adam(1e-3)

  def spec(self) -> policy_spec.PolicySpec:
    """Describes inputs and outputs."""
    return policy_spec.PolicySpec(
        {'observation': policy_spec.ArraySpec(self._statistics['mean'].shape)},
        action_size=self._parameters[-1]['bias'].shape[0],
        max_batch=1_024,
        has_temperature=True,
    )

  def version(self) -> str:
    """Returns a name of the current weights."""
    sha = hashlib.sha256()
    for array in jax.tree.leaves([self._parameters, self._averages]):
      sha.update(np.asarray(array).tobytes())
    return f'flow-{sha.hexdigest()[:12]}'

  def sample(
      self,
      observation: Mapping[str, Any],
      num_samples: int,
      seed: int,
      temperature: float = 1.0,
  ) -> np.ndarray:
    """Draws actions `[B, N, 1, A]`; `temperature` scales the noise."""
    state = np.repeat(self._normalized(observation), num_samples, axis=0)
    actions = _sample(self._averages, state, _key(seed), temperature)
    return np.asarray(actions).reshape(
        -1, num_samples, 1, actions.shape[-1]
    )

  def train(
      self,
      observation: Mapping[str, Any],
      actions: np.ndarray,
      mask: np.ndarray,
      num_steps: int,
      seed: int,
  ) -> List[float]:
    """Takes gradient steps of the flow-matching loss; returns its values.

    The optimizer starts without moments, so that the result depends only on the
    weights and the arguments.

    Args:
      observation: Arrays `[R, ...]`.
      actions: `[R, 1, A]`.
      mask: `[R, 1]`; a single action is always valid.
      num_steps: Gradient steps.
      seed: Seed of batches and noise.
    """
    del mask
    state, actions = self._normalized(observation), actions[:, 0]
    moments = self.optimizer.init(self._parameters)
    random, losses = np.random.default_rng(seed), []
    for key in jax.random.split(_key(seed), num_steps):
      rows = random.integers(len(actions), size=_BATCH_SIZE)
      self._parameters, self._averages, moments, loss = _step(
          self.optimizer,
          self._parameters,
          self._averages,
          moments,
          state[rows],
          actions[rows],
          key,
      )
      losses.append(float(loss))
    return losses

  def save(self, path: str) -> None:
    """Writes the weights and statistics to a directory."""
    arrays = {
        f'{kind}_{name}_{i}': array
        for kind, parameters in (
            ('last', self._parameters), ('average', self._averages)
        )
        for i, layer in enumerate(parameters)
        for name, array in layer.items()
    }
    os.makedirs(path, exist_ok=True)
    np.savez(os.path.join(path, _FILE), **self._statistics, **arrays)

  def load(self, path: str) -> None:
    """Reads what `save` has written."""
    with np.load(os.path.join(path, _FILE)) as file:
      self._statistics = {x: file[x] for x in ('mean', 'deviation')}
      num_layers = sum(name.startswith('last_weights_') for name in file)
      self._parameters, self._averages = (
          [
              {
                  x: jnp.asarray(file[f'{kind}_{x}_{i}'])
                  for x in ('weights', 'bias')
              }
              for i in range(num_layers)
          ]
          for kind in ('last', 'average')
      )

  def _normalized(self, observation: Mapping[str, Any]) -> np.ndarray:
    state = observation[policy_spec.SINGLE] - self._statistics['mean']
    return state / self._statistics['deviation']


def _initial_parameters(key, sizes: Sequence[int]) -> _Parameters:
  keys = jax.random.split(key, len(sizes) - 1)
  return [
      {
          'weights': jax.random.normal(key, (size, width)) / np.sqrt(size),
          'bias': jnp.zeros(width),
      }
      for key, size, width in zip(keys, sizes, sizes[1:])
  ]


def _velocity(parameters: _Parameters, state, x, time):
  """Returns the velocity `[R, A]` at `x` `[R, A]` and `time` `[R, 1]`."""
  features = jnp.concatenate([state, x, time], axis=-1)
  for layer in parameters[:-1]:
    features = jax.nn.gelu(features @ layer['weights'] + layer['bias'])
  return features @ parameters[-1]['weights'] + parameters[-1]['bias']


@jax.jit
def _sample(parameters: _Parameters, state, key, temperature):
  """Integrates the velocity from noise, by Euler's method."""
  shape = (len(state), len(parameters[-1]['bias']))
  x = temperature * jax.random.normal(key, shape)
  for step in range(_NUM_FLOW_STEPS):
    time = jnp.full((len(state), 1), step / _NUM_FLOW_STEPS)
    x += _velocity(parameters, state, x, time) / _NUM_FLOW_STEPS
  return x


@functools.partial(jax.jit, static_argnums=0)
def _step(optimizer, parameters, averages, moments, state, action, key):
  """Takes one gradient step, and moves the averages of the weights."""
  noise_key, time_key = jax.random.split(key)
  noise = jax.random.normal(noise_key, action.shape)
  time = jax.random.uniform(time_key, (len(action), 1))

  def loss_of(parameters):
    x = (1 - time) * noise + time * action
    error = _velocity(parameters, state, x, time) - (action - noise)
    return jnp.mean(jnp.sum(error**2, axis=-1))

  loss, gradients = jax.value_and_grad(loss_of)(parameters)
  updates, moments = optimizer.update(gradients, moments, parameters)
  parameters = optax.apply_updates(parameters, updates)
  averages = optax.incremental_update(parameters, averages, _AVERAGING_RATE)
  return parameters, averages, moments, loss


def _key(seed: int):
  return jax.random.key(seed % 2**32)
