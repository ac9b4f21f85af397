"""A SavedModel that steers a frozen base policy by a critic.

It draws N - 1 actions of the base besides the one that the base itself takes,
ranks and climbs all N with the critic, and returns the best. Where the members
of the critic disagree about the best action, it keeps the base's.
"""

from typing import Any, Mapping, NamedTuple, Optional, Tuple, Union

from absl import logging
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from parl_tf import action_range
from parl_tf import randomness
from parl_tf import synced_file
from parl_tf import types
from parl_tf.search import action_source
from parl_tf.search import state_actions
from parl_tf.training import base_policy
from parl_tf.training import export as export_lib
from parl_tf.training import parity_report
from parl_tf.training import saved_model_check

Base = Union[base_policy.SignatureBase, base_policy.AgentsBase]

_ACTION, _CHUNK = 'action', 'chunk'
_TOLERANCE = 1e-5
# Relative to the values. The action has been rounded to raw units and back.
_VALUE_TOLERANCE = 1e-3


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


class SteeredBase(tf.Module):
  """A base policy whose actions a critic ranks and climbs.

  Attributes:
    base: The frozen policy.
    chunk_length: H, the number of actions in a chunk.
    raw_action_bounds: `(low [A], high [A])` in the environment's units.
  """

  def __init__(
      self,
      base: Base,
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
    size = len(raw_action_bounds[0])
    if base.chunk_length < chunk_length or base.action_size != size:
      raise ValueError(
          f'The base must draw at least {chunk_length} actions of size '
          f'{size}, got {base.chunk_length} of size {base.action_size}.'
      )
    self.base = base
    # Only the variables: Keras would trace each tracked layer to save it.
    self._critic_variables = list(critic.variables)
    self._bind = critic.bind
    self._make_actions = lambda observation, seed, samples: (
        state_actions.StateActions(
            search, None, critic, observation, seed, samples=samples
        )
    )
    self._num_samples = search.num_samples
    self._is_greedy = search.is_greedy
    self.chunk_length = chunk_length
    self._range = action_range.ActionRange(raw_action_bounds)
    self.raw_action_bounds = self._range.bounds
    self._threshold = threshold

  def __call__(self, observation: types.Nest, seed: tf.Tensor) -> Steered:
    """Returns steered chunks for raw observations and a seed `[2]`."""
    kept = self.base(observation, seed)[:, : self.chunk_length]
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
    raw = tf.clip_by_value(  # Rounding may exceed the bounds.
        self._range.to_raw(tf.reshape(found, tf.shape(kept))),
        *self.raw_action_bounds,
    )
    chunk = tf.where(is_steered[:, tf.newaxis, tf.newaxis], raw, kept)
    return Steered(
        # As in other exports, a broken sensor must not give an action.
        tf.where(export_lib.are_finite(observation), chunk, np.nan),
        tf.where(is_steered, values[:, 1], values[:, 0]),
        values[:, 0],
        disagreement,
    )

  def values(self, observation: types.Nest, chunk: tf.Tensor) -> tf.Tensor:
    """Returns the critic's values `[B]` of raw chunks `[B, H, A]`."""
    return self._bind(observation)(self._scaled(chunk))[:, 0]

  def _draw_others(self, observation, seed):
    """Draws N - 1 further actions of the base, `[B, N - 1, H * A]`."""
    count = self._num_samples - 1
    repeated = tf.nest.map_structure(
        lambda x: tf.repeat(x, count, axis=0), observation
    )
    drawn = self.base(repeated, randomness.fold_in(seed, 'base'))
    scaled = self._scaled(drawn[:, : self.chunk_length])
    return tf.reshape(scaled, [-1, count, scaled.shape[-1]])

  def _scaled(self, chunk):
    """Returns raw chunks `[B, H, A]` as `[B, 1, H * A]` in [-1, 1]."""
    # The critic knows actions within the bounds only.
    scaled = tf.clip_by_value(self._range.from_raw(chunk), -1.0, 1.0)
    size = self.chunk_length * self.base.action_size
    return tf.reshape(scaled, [-1, 1, size])


def export(
    policy: SteeredBase,
    output: str,
    example: types.Nest,
    time_step_spec: ts.TimeStep,
    *,
    task: Optional[str] = None,
    source: Optional[Mapping[str, Any]] = None,
) -> float:
  """Writes the SavedModel of a steered policy, which contains the base.

  It has TF-Agents' functions and signatures, and `serving_default(
  **observation, seed int32 [2]) -> {'action' [B, A], 'value' [B], 'base_value'
  [B], 'disagreement' [B]}`, and `'chunk'` `[B, H, A]` if the critic values
  chunks. The report `parity.json` is beside it.

  Args:
    policy: The policy.
    output: Directory to write.
    example: Observations `[B, ...]` on which to compare the two.
    time_step_spec: Spec of raw observations.
    task: Name of the domain, for the report.
    source: Where critic and base come from, for the report.

  Returns:
    The largest difference from the actions before saving. If the base draws
    other actions at each call, it is the largest difference between the values
    that the SavedModel states for its actions and those of the critic here.

  Raises:
    ValueError: If that exceeds 1e-5 for actions, or 1e-3 of the largest value.
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
  loaded = tf.saved_model.load(partial)
  signature = loaded.signatures[saved_model_check.SIGNATURE]
  saved = signature(seed=seed, **export_lib.by_name(example))
  is_repeatable = policy.base.is_repeatable(example)
  if is_repeatable:
    difference = _check(
        f'actions of the SavedModel {partial}',
        saved[_ACTION],
        outputs(example, seed)[_ACTION],
        _TOLERANCE,
    )
  else:
    logging.info(
        'The base draws other actions at each call, so that the values of the '
        'actions are checked in place of the actions.'
    )
    chunk = saved.get(_CHUNK, saved[_ACTION][:, tf.newaxis])
    values = policy.values(example, chunk)
    difference = _check(
        f'values that the SavedModel {partial} states',
        saved['value'],
        values,
        _VALUE_TOLERANCE * float(tf.reduce_max(tf.abs(values))),
    )
  parity_report.write(
      partial,
      signature,
      time_step_spec.observation,
      num_observations=len(saved[_ACTION]),
      largest_difference=difference,
      compared=_ACTION if is_repeatable else 'value',
      latency_milliseconds={},
      in_new_process=False,
      task=task,
      source=source,
  )
  synced_file.replace_directory(partial, output)
  return difference


def _check(name, saved, live, tolerance):
  """Returns the largest difference; raises `ValueError` if it is too large."""
  difference = float(tf.reduce_max(tf.abs(saved - live)))
  if not difference <= tolerance:
    raise ValueError(
        f'The {name} must match the live policy to within {tolerance}, but '
        f'differ by {difference}.'
    )
  return difference
