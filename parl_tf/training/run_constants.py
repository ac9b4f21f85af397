"""Constants that all processes of a run must share."""

from typing import NamedTuple
import zlib

from absl import logging
import gin
import numpy as np

from parl_tf.critics import td
from parl_tf.domains import extrapolation
from parl_tf.replay import experience
from parl_tf.training import hindsight


class RunConstants(NamedTuple):
  """Constants of Monte-Carlo returns and transitions.

  Attributes:
    gamma: Discount factor of a step.
    reward_scale: Factor on the raw reward.
    reward_bias: Added to the scaled reward.
    offline_worst_return: Return of an episode of table `offline` that never
      succeeds; NaN if unknown.
    online_worst_return: Return of such an episode of table `online`.
    extrapolates_returns: Whether the return of an episode that a time limit
      ended includes an estimate of what would have followed.
    timeouts_fail_online: Whether the time limit fails an episode of table
      `online`.
    chunk_length: H, the number of actions in a chunk.
    max_episode_steps: Maximum number of steps of an episode.
    num_row_steps: Number of steps that a row of table `online` spans.
    least_action: Least bound of an action, in the environment's units.
    greatest_action: Greatest bound of an action.
    action_bounds_digest: Number that identifies the bounds of all dimensions.
    offline_goals: See `Hindsight`.
    online_goals: See `Hindsight`.
    max_hindsight_steps: See `Hindsight`; 0 for no limit.
    control_rate: Steps per second of a robot; 0 for other tasks.
  """

  gamma: float
  reward_scale: float
  reward_bias: float
  offline_worst_return: float
  online_worst_return: float
  extrapolates_returns: float
  timeouts_fail_online: float
  chunk_length: int
  max_episode_steps: int
  num_row_steps: int
  least_action: float
  greatest_action: float
  action_bounds_digest: float
  offline_goals: int
  online_goals: int
  max_hindsight_steps: int
  control_rate: float

  def check(self, address: str, published: np.ndarray) -> None:
    """Checks that a replay service has the same constants.

    Args:
      address: Address of the service.
      published: `[c]`, the constants in its journal.

    Raises:
      ValueError: If a constant differs.
    """
    if len(published) != len(self):
      raise ValueError(
          f'The replay service at {address} must be of the same version of'
          f' parl_tf: it has {len(published)} constants, this process'
          f' {len(self)}. Restart it.'
      )
    for name, here, there in zip(self._fields, self, published, strict=True):
      if not np.array_equal(here, there, equal_nan=True):
        raise ValueError(
            f'The replay service at {address} must have the configuration of '
            f'this process: `{name}` is {there:g} there, {here:g} here. Start '
            'both with the same gin files and bindings.'
        )


def read(domain, agent) -> RunConstants:
  """Returns the constants of this process.

  Args:
    domain: `Domain`.
    agent: `PARLAgent`.

  Raises:
    ValueError: If time-outs fail and the return of an endless episode without
      success is unknown, or settings contradict each other.
  """
  try:
    value = domain.never_succeeds_value(agent.gamma)
  except ZeroDivisionError as error:
    raise ValueError(
        '`Critic.gamma` must be below 1, because an endless episode of'
        f' {domain.name} has no finite return.'
    ) from error
  worst = np.nan if value is None else value
  bound = gin.get_bindings('run_experiment')
  timeouts_fail = bool(bound.get('timeouts_fail_online', False))
  if timeouts_fail and value is None:
    raise ValueError(
        '`run_experiment.timeouts_fail_online` must be False for'
        f' {domain.name}, whose return of an endless episode without success'
        ' (`never_succeeds_value`) is unknown.'
    )
  num_row_steps = int(experience.row_offsets(agent.chunk_length)['online'][-1])
  fails_online = bound.get('never_succeeds_online', True)
  has_floor = gin.get_bindings(td.TDCritic).get('return_floor')
  if agent.critic is not None and agent.critic.terminals_from_reward:
    if num_row_steps > agent.chunk_length:
      raise ValueError(
          '`n_step_returns.online_steps` must be 1 with'
          ' `Critic.terminals_from_reward`, which a sum of rewards misleads,'
          f' got {num_row_steps}.'
      )
    if timeouts_fail:
      raise ValueError(
          '`run_experiment.timeouts_fail_online` must be False with'
          ' `Critic.terminals_from_reward`, which ignores the end that it'
          ' stores.'
      )
  for name, is_bound in (
      ('run_experiment.timeouts_fail_online', timeouts_fail),
      ('TDCritic.return_floor', has_floor and value is not None),
  ):
    if is_bound and not fails_online:
      raise ValueError(
          f'`{name}` must be False without'
          ' `run_experiment.never_succeeds_online`: it needs the return of'
          ' episodes that fail.'
      )
  extrapolates = extrapolation.extrapolates_returns(domain, agent.gamma)
  if has_floor and value is None:
    logging.warning(
        '`TDCritic.return_floor` (macro `return_floor`) may be too high for %s:'
        ' the return of an episode that fails is unknown'
        ' (`Domain.never_succeeds_value`), and is estimated or ends at the time'
        ' limit.',
        domain.name,
    )
  elif has_floor and extrapolates:
    logging.warning(
        '`TDCritic.return_floor` (macro `return_floor`) is for tasks that'
        ' success ends. If episodes of %s go on after success, their returns'
        ' are extrapolated past the time limit, and success may fall.',
        domain.name,
    )
  goals = gin.get_bindings(hindsight.Hindsight)
  return RunConstants(
      gamma=agent.gamma,
      reward_scale=domain.reward_scale,
      reward_bias=domain.reward_bias,
      offline_worst_return=worst,
      online_worst_return=worst if fails_online else np.nan,
      extrapolates_returns=float(extrapolates),
      timeouts_fail_online=float(timeouts_fail),
      chunk_length=agent.chunk_length,
      max_episode_steps=domain.max_episode_steps,
      num_row_steps=num_row_steps,
      least_action=float(np.min(domain.raw_action_bounds[0])),
      greatest_action=float(np.max(domain.raw_action_bounds[1])),
      action_bounds_digest=_digest(domain.raw_action_bounds),
      offline_goals=goals.get('offline_goals', 0),
      online_goals=goals.get('online_goals', 0),
      max_hindsight_steps=goals.get('max_steps') or 0,
      control_rate=float(getattr(domain, 'control_rate', 0.0)),
  )


def _digest(bounds) -> float:
  """Returns an integer that a float64 holds exactly."""
  content = np.asarray(bounds, np.float32).tobytes()
  return float(zlib.crc32(content))
