"""The episodes held out of behavior cloning, their transitions and loss."""

from typing import List, Sequence, Tuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import frame_stack
from parl_tf import types
from parl_tf.networks import observation_encoder
from parl_tf.replay import chunks

_NUM_DRAWS = 4
# Rows per forward pass with images, whose activations need much memory.
_IMAGE_ROWS = 64


def split(
    episodes: List[types.Episode], held_out_fraction: float, seed: int
) -> Tuple[List[types.Episode], List[types.Episode]]:
  """Splits episodes into those to train on and those held out, by `seed`.

  Raises:
    ValueError: If there are fewer than two episodes, or none has a transition.
  """
  if len(episodes) < 2:
    raise ValueError(
        'The data must have at least 2 episodes, one of them to hold out, got '
        f'{len(episodes)}.'
    )
  order = np.random.default_rng(seed).permutation(len(episodes))
  num_held_out = int(round(held_out_fraction * len(episodes)))
  num_held_out = min(max(num_held_out, 1), len(episodes) - 1)
  # Without its last observation, an episode of one step has no transition.
  usable = [i for i in order.tolist() if episodes[i].num_transitions]
  if not usable:
    raise ValueError('The data must have transitions, but no episode has one.')
  held_out = set(usable[:num_held_out])
  train = [e for i, e in enumerate(episodes) if i not in held_out]
  return train, [episodes[i] for i in sorted(held_out)]


def join(session, episodes: Sequence[types.Episode]) -> trajectory.Trajectory:
  """Returns all transitions of episodes as one batch `[rows, 2, ...]`.

  Args:
    session: Session that defines returns and chunks.
    episodes: Held-out episodes.
  """
  chunk_length = session.agent.chunk_length
  windows = []
  for episode in episodes:
    steps = session.stored_steps('offline', episode)
    index = np.arange(episode.num_transitions)[:, np.newaxis]
    # A window past the end repeats the last step.
    index = np.minimum(
        index + np.arange(chunk_length + 1), episode.num_transitions
    )
    observation = frame_stack.read_episode(
        steps.observation, index[:, [0, -1]], session.agent.num_frames
    )
    rows = tf.nest.map_structure(
        lambda x: x[index], steps._replace(observation=())  # pylint: disable=cell-var-from-loop
    )
    windows.append(rows._replace(observation=observation))
  rows = tf.nest.map_structure(
      lambda *x: tf.constant(np.concatenate(x)), *windows
  )
  if chunk_length == 1:
    return rows
  return chunks.join(rows, session.agent.gamma, chunk_length)


def loss(agent, rows: trajectory.Trajectory) -> float:
  """Returns the mean loss of held-out rows, with the same draws every time."""
  total = 0.0
  for i in range(_NUM_DRAWS):
    seed = tf.constant([i, 17], tf.int32)
    for part in _parts(rows):
      share = len(part.reward) / len(rows.reward)
      total += share * float(agent.cloning_loss(part, seed))
  return total / _NUM_DRAWS


def is_flat(losses: Sequence[Tuple[int, float]], tolerance: float) -> bool:
  """Returns whether a loss stopped falling in the last fifth of the steps.

  Args:
    losses: `(step, loss)` pairs, in the order of their steps.
    tolerance: The loss is flat if the best loss of the last fifth improves on
      the best earlier loss by less than this fraction.
  """
  if not losses:
    return False
  boundary = 0.8 * losses[-1][0]
  before = [loss for step, loss in losses if step <= boundary]
  if not before:
    return False
  best = min(loss for step, loss in losses if step > boundary)
  return best > min(before) - tolerance * abs(min(before))


def _parts(rows):
  num_rows = len(rows.reward)
  size = num_rows
  if observation_encoder.has_images(rows.observation, num_batch_axes=2):
    size = _IMAGE_ROWS
  return [
      tf.nest.map_structure(lambda x: x[start : start + size], rows)  # pylint: disable=cell-var-from-loop
      for start in range(0, num_rows, size)
  ]
