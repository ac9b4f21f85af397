"""A SavedModel that steers a frozen base policy by a critic.

It draws N - 1 actions of the base besides the one that the base itself takes,
ranks and climbs all N with the critic, and returns the best. Where the members
of the critic disagree about the best action, it keeps the base's.
"""

import os
import shutil
from typing import NamedTuple, Tuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from parl_tf import randomness
from parl_tf import types
from parl_tf.search import action_source
from parl_tf.training import export as export_lib

SIGNATURE = 'serving_default'

_ACTION, _CHUNK = 'action', 'chunk'
_SEED, _NOISE = 'seed', 'noise'
_TOLERANCE = 1e-5


class Steered(NamedTuple):
  """The actions of a steered policy.

  Attributes:
    chunk: `[B, H, A]` in the units of the environment.
    value: `[B]`, the critic's value of the chunk.
    base_value: `[B]`, that of the base's own chunk.
    disagreement: `[B]`, standard deviation of the members' values of the chunk
      that the search found, in units of return.
  """

  chunk: tf.Tensor
  value: tf.Tensor
  base_value: tf.Tensor
  disagreement: tf.Tensor


class BasePolicy(tf.Module):
  """A frozen policy in a SavedModel.

  Its signature `serving_default` takes the observation by name, and either a
  `seed` int32 `[2]` or standard normal `noise` `[B, ...]`. It returns the raw
  `action` `[B, A]`, or a `chunk` `[B, H, A]` too. It must draw each row of a
  batch independently.

  Attributes:
    chunk_length: H, the number of actions that it draws at once.
  """

  def __init__(self, path: str, observation_spec: types.Nest):
    """Loads the SavedModel.

    Args:
      path: Directory of the SavedModel.
      observation_spec: Nest of `tf.TensorSpec` of one observation.

    Raises:
      ValueError: If there is no SavedModel, or its signature differs.
    """
    super().__init__()
    if not tf.saved_model.contains_saved_model(path):
      raise ValueError(f'{path} must be the directory of a SavedModel.')
    self._model = tf.saved_model.load(path)
    if SIGNATURE not in self._model.signatures:
      raise ValueError(
          f'{path} must have the signature {SIGNATURE!r}, got '
          f'{sorted(self._model.signatures)}.'
      )
    self._act = self._model.signatures[SIGNATURE]
    _, inputs = self._act.structured_input_signature
    self._random = _NOISE if _NOISE in inputs else _SEED
    wanted = sorted([*export_lib.by_name(observation_spec), self._random])
    if sorted(inputs) != wanted:
      raise ValueError(
          f'{path}: the inputs must be {wanted}, got {sorted(inputs)}.'
      )
    outputs = self._act.structured_outputs
    if _ACTION not in outputs:
      raise ValueError(
          f'{path}: the outputs must have {_ACTION!r}, got {sorted(outputs)}.'
      )
    self._noise_shape = inputs[self._random].shape[1:]
    self.chunk_length = outputs[_CHUNK].shape[1] if _CHUNK in outputs else 1
    self.action_size = outputs[_ACTION].shape[-1]

  def __call__(self, observation: types.Nest, seed: tf.Tensor) -> tf.Tensor:
    """Draws raw chunks `[B, H, A]` for observations `[B, ...]`."""
    inputs = export_lib.by_name(observation)
    random = seed
    if self._random == _NOISE:
      size = tf.shape(tf.nest.flatten(observation)[0])[:1]
      shape = tf.concat([size, self._noise_shape.as_list()], axis=0)
      random = tf.random.stateless_normal(shape, seed)
    outputs = self._act(**inputs, **{self._random: random})
    if _CHUNK in outputs:
      return outputs[_CHUNK]
    return outputs[_ACTION][:, tf.newaxis]


class SteeredBase(tf.Module):
  """A base policy whose actions a critic ranks and climbs.

  Attributes:
    chunk_length: H, the number of actions in a chunk.
    raw_action_bounds: `(low [A], high [A])` in the environment's units.
  """

  def __init__(
      self,
      base: BasePolicy,
      critic,
      search: action_source.Search,
      *,
      chunk_length: int,
      raw_action_bounds: Tuple[np.ndarray, np.ndarray],
      threshold: float = float('inf'),
  ):
    """Initializes the policy.

    Args:
      base: The frozen policy.
      critic: `Critic` of chunks `[H * A]` in [-1, 1].
      search: Settings of the search, with N and an optimizer.
      chunk_length: H of the critic. The base may draw longer chunks.
      raw_action_bounds: `(low [A], high [A])` in the environment's units.
      threshold: The base's action is kept unless the disagreement is below
        this, in units of return; 0 always keeps it.

    Raises:
      ValueError: If the search has no optimizer, the threshold is negative, or
        the base's actions do not fit the critic.
    """
    super().__init__()
    if critic is None or search.optimizer is None:
      raise ValueError(
          'Steering needs a critic and a `Search.optimizer`; the run has '
          f'{"no critic" if critic is None else "no optimizer"}.'
      )
    if not threshold >= 0.0:
      raise ValueError(f'`threshold` must not be negative, got {threshold}.')
    low, high = (np.asarray(x, np.float32) for x in raw_action_bounds)
    if base.chunk_length < chunk_length or base.action_size != len(low):
      raise ValueError(
          f'The base must draw at least {chunk_length} actions of size '
          f'{len(low)}, got {base.chunk_length} of size {base.action_size}.'
      )
    self._base = base
    # Only the variables: Keras would trace each tracked layer to save it.
    self._critic_variables = list(critic.variables)
    self._bind = critic.bind
    self._make_actions = lambda observation, seed, samples: (
        action_source.StateActions(
            search, None, critic, observation, seed, samples=samples
        )
    )
    self._num_samples = search.num_samples
    self._is_greedy = search.is_greedy
    self.chunk_length = chunk_length
    self.raw_action_bounds = low, high
    self._center = tf.constant((high + low) / 2.0)
    self._half_range = tf.constant((high - low) / 2.0)
    self._threshold = threshold

  def __call__(self, observation: types.Nest, seed: tf.Tensor) -> Steered:
    """Returns steered chunks for raw observations and a seed `[2]`."""
    kept = self._base(observation, seed)[:, : self.chunk_length]
    samples = self._scaled(kept)
    if self._num_samples > 1:
      others = self._draw_others(observation, seed)
      samples = tf.concat([samples, others], axis=1)  # -> [B, N, H * A]
    actions = self._make_actions(observation, seed, samples)
    found = actions.select(actions.candidates(), self._is_greedy, 'act')
    both = tf.stack([samples[:, 0], found], axis=1)
    value_fn = self._bind(observation)
    values, members = value_fn(both), value_fn.members(both)
    disagreement = tf.math.reduce_std(members[:, :, 1], axis=0)  # [E, B] -> [B]
    is_steered = disagreement < self._threshold
    raw = self._center + self._half_range * tf.reshape(found, tf.shape(kept))
    return Steered(
        tf.where(is_steered[:, tf.newaxis, tf.newaxis], raw, kept),
        tf.where(is_steered, values[:, 1], values[:, 0]),
        values[:, 0],
        disagreement,
    )

  def _draw_others(self, observation, seed):
    """Draws N - 1 further actions of the base, `[B, N - 1, H * A]`."""
    count = self._num_samples - 1
    repeated = tf.nest.map_structure(
        lambda x: tf.repeat(x, count, axis=0), observation
    )
    drawn = self._base(repeated, randomness.fold_in(seed, 'base'))
    scaled = self._scaled(drawn[:, : self.chunk_length])
    return tf.reshape(scaled, [-1, count, scaled.shape[-1]])

  def _scaled(self, chunk):
    """Returns raw chunks `[B, H, A]` as `[B, 1, H * A]` in [-1, 1]."""
    scaled = (chunk - self._center) / self._half_range
    size = self.chunk_length * len(self._center)
    return tf.reshape(scaled, [-1, 1, size])


def export(
    policy: SteeredBase,
    output: str,
    example: types.Nest,
    time_step_spec: ts.TimeStep,
) -> float:
  """Writes the SavedModel of a steered policy, which contains the base.

  It has TF-Agents' functions and signatures, and `serving_default(
  **observation, seed int32 [2]) -> {'action' [B, A], 'value' [B], 'base_value'
  [B], 'disagreement' [B]}`, and `'chunk'` `[B, H, A]` if the critic values
  chunks.

  Args:
    policy: The policy.
    output: Directory to write.
    example: Observations `[B, ...]` on which to compare the two.
    time_step_spec: Spec of raw observations.

  Returns:
    The largest difference from the actions before saving.

  Raises:
    ValueError: If that exceeds 1e-5.
  """
  steer = tf.function(
      policy.__call__,
      input_signature=(
          tf.nest.map_structure(
              lambda spec: tf.TensorSpec([None, *spec.shape], spec.dtype),
              time_step_spec.observation,
          ),
          randomness.SEED_SPEC,
      ),
      autograph=False,
  ).get_concrete_function()

  def outputs(observation, seed):
    steered = steer(observation, seed)
    found = {_ACTION: steered.chunk[:, 0], **steered._asdict()}
    if policy.chunk_length == 1:
      del found[_CHUNK]
    return found

  exported = export_lib.ExportedPolicy(
      lambda observation, seed: steer(observation, seed).chunk,
      time_step_spec,
      policy.raw_action_bounds,
      chunk_length=policy.chunk_length,
      variables=steer.variables,
      parts=policy,
  )
  partial = output.rstrip('/') + '.partial'
  export_lib.save(
      exported,
      export_lib.serving_signature(time_step_spec.observation, outputs),
      partial,
  )
  seed = tf.constant([11, 7], tf.int32)
  saved = tf.saved_model.load(partial).signatures[SIGNATURE](
      seed=seed, **export_lib.by_name(example)
  )
  live = outputs(example, seed)
  difference = float(
      tf.reduce_max(tf.abs(saved[_ACTION] - live[_ACTION]))
  )
  if not difference <= _TOLERANCE:
    raise ValueError(
        f'The actions of the SavedModel {partial} must match the live policy '
        f'to within {_TOLERANCE}, but differ by {difference}.'
    )
  shutil.rmtree(output, ignore_errors=True)
  os.replace(partial, output)
  return difference
