"""A replay service of short episodes, for tests."""

import functools
import os
from typing import Optional, Sequence

import tensorflow as tf

from parl_tf import types
from parl_tf.distributed import service
from parl_tf.distributed import weights
from parl_tf.replay import checks
from parl_tf.replay import episode_writer
from parl_tf.replay import stored_step
from parl_tf.training import run_constants

CONSTANTS = run_constants.RunConstants(
    gamma=0.9,
    reward_scale=1.0,
    reward_bias=0.0,
    offline_worst_return=float('nan'),
    online_worst_return=float('nan'),
    extrapolates_returns=0.0,
    timeouts_fail_online=0.0,
    chunk_length=1,
    max_episode_steps=10,
    num_row_steps=1,
    least_action=-1.0,
    greatest_action=1.0,
    action_bounds_digest=0.0,
    offline_goals=0,
    max_hindsight_steps=0,
    online_goals=0,
    control_rate=0.0,
)


DATASET_ID = 7


def make(
    observation_spec: types.Nest,
    action_spec: tf.TensorSpec,
    variables: Sequence[tf.Variable],
    root_dir: str,
    num_offline_transitions: int,
    port: Optional[int] = None,
    num_copies: int = 0,
) -> service.ReplayService:
  """Returns a service that is not ready until `run` is called.

  Args:
    observation_spec: Nest of `tf.TensorSpec`.
    action_spec: Spec of the action of one step.
    variables: Weights that it publishes.
    root_dir: Directory of the log, `episodes`.
    num_offline_transitions: Number of transitions passed to its `run`.
    port: TCP port; None selects a free one.
    num_copies: Copies of each online episode in the tables.
  """
  return service.ReplayService(
      observation_spec,
      action_spec,
      weights.signature(variables),
      functools.partial(
          _make_writers,
          num_copies,
          checks.spec_of_signature(
              stored_step.signature(observation_spec, action_spec)
          ),
      ),
      os.path.join(root_dir, 'episodes'),
      num_offline_transitions=num_offline_transitions,
      count_online=lambda episode: (1 + num_copies) * episode.num_steps,
      constants=CONSTANTS,
      dataset_id=DATASET_ID,
      is_success=is_success,
      port=port,
  )


def copy_of(episode: types.Episode) -> types.Episode:
  """Returns a copy of an episode for the tables."""
  return episode


def is_success(episode: types.Episode) -> bool:
  """Returns whether an episode succeeds; fails on that of number 13."""
  if episode.episode_id == 13:
    raise IndexError('no such step')
  return bool(episode.success.any())


def _make_writers(num_copies, step_spec, sink):
  def make_copies(table, episode):
    return [copy_of(episode)] * num_copies if table == 'online' else []

  writer = episode_writer.EpisodeWriter(
      gamma=0.9,
      reward_scale=1.0,
      reward_bias=0.0,
      never_succeeds_value=None,
      make_copies=make_copies,
      sink=sink,
      step_spec=step_spec,
  )
  return {'offline': writer, 'online': writer}
