"""Sends whole episodes to the service, as items of a Reverb queue."""

from typing import Any, Dict

import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.replay import checks
from parl_tf.replay import tables
from parl_tf.replay.reverb_import import reverb

TABLE = 'episodes'

_PER_STEP = tuple(types.EPISODE_STEP_DTYPES)
_SCALARS = ('episode_id', 'policy_version')


def signature(
    observation_spec: types.Nest, action_spec: tf.TensorSpec
) -> Dict[str, Any]:
  """Returns the specs of an episode of any length.

  Args:
    observation_spec: `tf.TensorSpec` or flat mapping of them.
    action_spec: `tf.TensorSpec` of shape `[A]`.
  """

  def steps(spec):
    return tf.TensorSpec([None, *spec.shape], spec.dtype)

  return {
      'observation': tf.nest.map_structure(steps, observation_spec),
      **{
          name: tf.TensorSpec([None], dtype)
          for name, dtype in types.EPISODE_STEP_DTYPES.items()
      },
      'action': steps(action_spec),
      **{
          name: tf.TensorSpec([], types.POLICY_INFO_DTYPES[name])
          for name in _SCALARS
      },
  }


def make_table(item_signature: Dict[str, Any], max_size: int) -> reverb.Table:
  """Returns the queue; writing to a full queue blocks.

  Args:
    item_signature: Result of `signature`.
    max_size: Capacity in episodes.
  """
  return reverb.Table.queue(
      TABLE, max_size=max_size, signature=item_signature
  )


def send(client: reverb.Client, episode: types.Episode) -> None:
  """Puts an episode into the queue of a service, without a deadline.

  A deadline would not help: after it, the destructor of Reverb's writer still
  waits until the episode is sent.

  Args:
    client: Client of the service.
    episode: T steps, including the last transition.

  Raises:
    reverb.errors.ReverbError: If the connection breaks.
    ValueError: If the episode is invalid or does not fit the signature of the
      service.
  """
  checks.check_episode(f'episode {episode.episode_id}', episode)
  item = {name: getattr(episode, name) for name in _PER_STEP}
  item.update({name: np.int64(getattr(episode, name)) for name in _SCALARS})
  item['observation'] = episode.observation
  tables.require_connection(client)
  with client.trajectory_writer(num_keep_alive_refs=1) as writer:
    writer.append(item)
    writer.create_item(
        TABLE,
        priority=1.0,
        trajectory=_last(writer.history),
    )
    writer.flush()


def receive(
    client: reverb.Client, item_signature: Dict[str, Any]
) -> types.Episode:
  """Removes the next episode from the queue; blocks while it is empty.

  Args:
    client: Client of the service.
    item_signature: Result of `signature`.

  Raises:
    ValueError: If the episode has another signature.
  """
  (item,) = client.sample(TABLE, num_samples=1, emit_timesteps=False)
  fields = tf.nest.pack_sequence_as(item_signature, item.data)
  _check_signature(fields, item_signature)
  return types.Episode(
      observation=fields['observation'],
      **{name: fields[name] for name in _PER_STEP},
      episode_id=int(fields['episode_id']),
      policy_version=int(fields['policy_version']),
  )


def _check_signature(fields: Any, item_signature: Dict[str, Any]) -> None:
  """Checks the dtypes and ranks that a sender may have left unchecked."""
  specs = checks.named_leaves(types.Episode(**item_signature))
  leaves = dict(checks.named_leaves(types.Episode(**fields)))
  for name, spec in specs:
    if name.partition('/')[0] not in item_signature:  # It is not sent.
      continue
    leaf = leaves[name]
    if leaf.dtype != spec.dtype.as_numpy_dtype or not (
        spec.shape.is_compatible_with(leaf.shape)
    ):
      raise ValueError(
          f'field `{name}` must be {spec.dtype.name} of shape '
          f'{spec.shape.as_list()}, got {leaf.dtype} of shape '
          f'{list(leaf.shape)}.'
      )


def _last(columns: Any) -> Any:
  """Returns the newest entry of each column of a writer's history."""
  if isinstance(columns, dict):
    return {name: _last(column) for name, column in columns.items()}
  return columns[-1]
