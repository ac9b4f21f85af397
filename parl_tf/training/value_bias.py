"""What the critic promises at the start of an episode, and what it gives."""

from typing import Dict, Sequence

import numpy as np
import tensorflow as tf

from parl_tf import types


def start_values(
    session, episodes: Sequence[types.Episode]
) -> Dict[str, float]:
  """Compares predicted with realised returns at the start of episodes.

  Args:
    session: The run, whose critic predicts and whose returns they are.
    episodes: Played by a policy that searches with the critic.

  Returns:
    Means over the episodes: `values/start`, the value of the first action, and
    `values/start_return`, the discounted return of scaled rewards that
    followed. Their difference is the critic's bias at what was chosen. Empty
    where there is no critic.
  """
  agent = session.agent
  if agent.critic is None:
    return {}
  observation = tf.nest.map_structure(
      lambda *rows: tf.constant(np.stack([row[0] for row in rows])),
      *[episode.observation for episode in episodes],
  )
  actions = np.stack([_first_chunk(e, agent.chunk_length) for e in episodes])
  values = agent.critic.bind(observation)(tf.constant(actions[:, np.newaxis]))
  returns = [
      session.frames('offline', episode).policy_info['monte_carlo_return'][0]
      for episode in episodes
  ]
  return {
      'values/start': float(tf.reduce_mean(values)),
      'values/start_return': float(np.mean(returns)),
  }


def _first_chunk(episode, chunk_length):
  """The first actions of an episode, `[H * A]`, 0 past its end."""
  actions = episode.action[:chunk_length]
  missing = chunk_length - len(actions)
  return np.pad(actions, [(0, missing), (0, 0)]).reshape(-1)
