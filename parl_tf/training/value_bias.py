"""Predicted and realised returns at the start of episodes."""

from typing import Dict, Sequence

import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import types


def start_values(
    session, episodes: Sequence[types.Episode]
) -> Dict[str, float]:
  """Compares predicted with realised returns at the start of episodes.

  Args:
    session: Session whose critic predicts the returns.
    episodes: Episodes of a policy that searches with the critic.

  Returns:
    Means over the episodes: `values/start`, the value of the first action, and
    `values/start_realised`, the discounted sum of the episode's scaled rewards.
    Their difference is the critic's bias at the chosen actions. Rewards after a
    time-out count as 0, unless time-outs fail: see
    `run_experiment.timeouts_fail_online`. If no reward is positive, the bias is
    at least this difference. Empty without a critic.
  """
  agent = session.agent
  if agent.critic is None:
    return {}
  observation = tf.nest.map_structure(
      lambda *rows: tf.constant(np.concatenate(rows)),
      *[
          frame_stack.read_episode(
              episode.observation, np.arange(1), agent.num_frames
          )
          for episode in episodes
      ],
  )
  actions = np.stack([_first_chunk(e, agent.chunk_length) for e in episodes])
  values = agent.critic.bind(observation)(tf.constant(actions[:, np.newaxis]))
  domain = session.domain
  stored = [session.stored_steps('online', episode) for episode in episodes]
  returns = [
      _discounted_sum(
          domain.reward_scale * steps.reward[:-1] + domain.reward_bias,
          agent.gamma,
      )
      for steps in stored
  ]
  return {
      'values/start': float(tf.reduce_mean(values)),
      'values/start_realised': float(np.mean(returns)),
  }


def _discounted_sum(rewards, gamma):
  return np.sum(rewards * gamma ** np.arange(len(rewards)))


def _first_chunk(episode, chunk_length):
  """Returns the first actions of an episode, `[H * A]`, 0 past its end."""
  actions = episode.action[:chunk_length]
  missing = chunk_length - len(actions)
  return np.pad(actions, [(0, missing), (0, 0)]).reshape(-1)
