"""The episodes held out of behavior cloning, their transitions and loss."""

import itertools
from typing import List, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import types
from parl_tf.networks import observation_encoder
from parl_tf.replay import chunks
from parl_tf.replay import step_table
from parl_tf.training import run_dataset

_NUM_DRAWS = 4
# Rows read at a time with images, whose activations need much memory.
_IMAGE_ROWS = 64


def split(
    episodes: List[types.Episode], held_out_fraction: float, seed: int
) -> Tuple[List[types.Episode], List[types.Episode]]:
  """Splits episodes into those to train on and those held out, by `seed`.

  Those of one recording stay together, unless every recording is more than
  should be held out.

  Raises:
    ValueError: If there are fewer than two episodes, or none has a transition.
  """
  if len(episodes) < 2:
    raise ValueError(
        'The data must have at least 2 episodes, one of them to hold out, got '
        f'{len(episodes)}.'
    )
  num_held_out = max(1, round(held_out_fraction * len(episodes)))
  recordings = run_dataset.recordings(episodes)
  if min(map(len, recordings)) > num_held_out:
    recordings = [[i] for i in range(len(episodes))]
  order = np.random.default_rng(seed).permutation(len(recordings))
  # Without its last observation, an episode of one step has no transition.
  usable = [
      recordings[i]
      for i in order.tolist()
      if any(episodes[j].num_transitions for j in recordings[i])
  ]
  if len(usable) < 2:
    raise ValueError(
        'The data must have at least 2 episodes with transitions, one of them'
        f' to hold out, got {len(usable)} of {len(episodes)}.'
    )
  held_out: Set[int] = set()
  for recording in usable[:-1]:  # The last one is trained on.
    if len(held_out) + len(recording) <= num_held_out:
      held_out.update(recording)
  if not held_out:
    shortest = min(usable, key=len)
    held_out.update(shortest)
  train = [e for i, e in enumerate(episodes) if i not in held_out]
  return train, [episodes[i] for i in sorted(held_out)]


def store(
    session, episodes: Sequence[types.Episode]
) -> step_table.StepTable:
  """Returns a table of all transitions of episodes, in their order.

  The table refers to pictures that are in a `PictureStore`.

  Args:
    session: Session that defines returns and chunks.
    episodes: Held-out episodes.
  """
  agent = session.agent
  table = step_table.StepTable(
      'held_out',
      sum(episode.num_transitions for episode in episodes),
      agent.chunk_length,
      agent.num_frames,
  )
  for episode in episodes:
    table.add(session.stored_steps('offline', episode), episode.num_transitions)
  return table


def loss(agent, table: step_table.StepTable) -> float:
  """Returns the mean loss of held-out rows, with the same draws every time.

  Args:
    agent: Agent whose policy is cloned.
    table: Table of the rows, as `store` returns it.
  """
  num_rows = size = table.num_transitions
  if observation_encoder.has_images(agent.time_step_spec.observation):
    size = _IMAGE_ROWS
  losses = []  # Of each part of the rows, one for each draw.
  for start in range(0, num_rows, size):
    part = _read(agent, table, start, min(start + size, num_rows))
    share = len(part.reward) / num_rows
    seeds = [tf.constant([i, 17], tf.int32) for i in range(_NUM_DRAWS)]
    losses.append([share * float(agent.cloning_loss(part, x)) for x in seeds])
  total = 0.0
  for loss_of_part in itertools.chain(*zip(*losses)):
    total += loss_of_part
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


def _read(agent, table, start, end) -> trajectory.Trajectory:
  """Returns rows `[end - start, 2, ...]`."""
  rows = tf.nest.map_structure(tf.constant, table.rows(np.arange(start, end)))
  if agent.chunk_length == 1:
    return rows
  return chunks.join(rows, agent.gamma, agent.chunk_length)
