"""Converts episodes into stored steps and driver steps into episodes.

Axis: T environment steps of one episode. A stored step is one element of a
TF-Agents `Trajectory`. An episode has T + 1 stored steps. The last one contains
the observation after the last environment step and does not begin a transition.
"""

import collections.abc
from typing import Any, Callable, Dict, Optional, Protocol, Sequence

from absl import logging
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory as trajectory_lib

from parl_tf import episode_builder
from parl_tf import frame_stack
from parl_tf import types
from parl_tf.replay import checks
from parl_tf.replay import returns as returns_lib

# Part of the public interface.
monte_carlo_returns = returns_lib.monte_carlo_returns


def stored_steps(
    episode: types.Episode,
    *,
    gamma: float,
    reward_scale: float,
    reward_bias: float,
    never_succeeds_value: Optional[float] = None,
    extrapolate: bool = False,
    timeout_fails: bool = False,
) -> trajectory_lib.Trajectory:
  """Returns the stored steps of an episode.

  Args:
    episode: T steps.
    gamma: Discount factor of the returns.
    reward_scale: Factor on the raw reward; used only for the returns.
    reward_bias: Constant added to the scaled reward; used only for the returns.
    never_succeeds_value: See `returns.monte_carlo_returns`; not used for an
      episode with a success. An action that is repeated may have a negative
      reward although it solves the task.
    extrapolate: See `returns.monte_carlo_returns`.
    timeout_fails: Whether an episode that the time limit ended without success
      is stored as one that failed for good: its last transition has discount 0
      and, after scale and bias, the reward `never_succeeds_value`.

  Returns:
    Trajectory of numpy arrays `[T + 1, ...]`. `reward` is raw. The last step
    has step type LAST, next step type FIRST, action 0, reward 0, discount 1.

  Raises:
    ValueError: If the episode is incomplete or out of range.
  """
  checks.check_episode(f'episode {episode.episode_id}', episode)
  if timeout_fails and not np.any(episode.success):
    assert never_succeeds_value is not None
    episode = _failed_at_timeout(
        episode, (never_succeeds_value - reward_bias) / reward_scale
    )
  num_steps = episode.num_steps
  returns = returns_lib.monte_carlo_returns(
      episode.reward.astype(np.float64) * reward_scale + reward_bias,
      episode.discount,
      gamma,
      None if np.any(episode.success) else never_succeeds_value,
      extrapolate,
  )
  step_type = np.full(num_steps + 1, ts.StepType.MID, np.int32)
  step_type[0] = ts.StepType.FIRST
  step_type[-1] = ts.StepType.LAST
  observation = episode.observation
  if isinstance(observation, collections.abc.Mapping):
    # Always use `dict`: a `tf.function` that takes the rows is retraced for
    # every other mapping type.
    observation = dict(observation)
  policy_info = {
      'monte_carlo_return': _with_last(returns, 0),
      'episode_id': np.full(num_steps + 1, episode.episode_id, np.int64),
      'step_index': np.arange(num_steps + 1),
      'policy_version': np.full(
          num_steps + 1, episode.policy_version, np.int64
      ),
      'success': _with_last(episode.success, False),
  }
  return trajectory_lib.Trajectory(
      step_type=step_type,
      observation=observation,
      action=_with_last(episode.action, 0),
      policy_info={
          name: np.asarray(policy_info[name], dtype)
          for name, dtype in types.POLICY_INFO_DTYPES.items()
      },
      next_step_type=np.append(step_type[1:], np.int32(ts.StepType.FIRST)),
      reward=_with_last(episode.reward, 0),
      discount=_with_last(episode.discount, 1),
  )


def _failed_at_timeout(
    episode: types.Episode, raw_reward: float
) -> types.Episode:
  """Returns the episode, ended by `raw_reward` if it was not yet ended."""
  if episode.discount[-1] == 0:
    return episode
  return episode._replace(
      reward=np.append(episode.reward[:-1], np.float32(raw_reward)),
      discount=np.append(episode.discount[:-1], np.float32(0.0)),
  )


MakeCopies = Callable[[str, types.Episode], Sequence[types.Episode]]


class Sink(Protocol):
  """Destination of an `EpisodeWriter`."""

  def add(
      self,
      table: str,
      steps: trajectory_lib.Trajectory,
      num_transitions: int,
  ) -> None:
    """Inserts stored steps; the first `num_transitions` each begin an item."""


class CopiesError(ValueError):
  """The task's own code fails to make copies of an episode."""


class EpisodeWriter:
  """Writes complete episodes to a sink as stored steps with returns."""

  def __init__(
      self,
      *,
      gamma: float,
      reward_scale: float,
      reward_bias: float,
      never_succeeds_value: Optional[float],
      extrapolate: bool = False,
      timeout_fails: bool = False,
      make_copies: MakeCopies = lambda table, episode: (),
      sink: Sink,
      step_spec: Optional[checks.StepSpec] = None,
  ):
    """Creates a writer.

    Args:
      gamma: Discount factor of the run.
      reward_scale: The domain's factor on the raw reward.
      reward_bias: The domain's constant added to the scaled reward.
      never_succeeds_value: See `returns.monte_carlo_returns`.
      extrapolate: See `returns.monte_carlo_returns`.
      timeout_fails: See `stored_steps`.
      make_copies: Returns further episodes to write after each one, given its
        table.
      sink: Destination of every episode.
      step_spec: Spec of the stored steps that the sink takes, for `check`; None
        compares none.
    """
    self._constants: Dict[str, Any] = dict(
        gamma=gamma,
        reward_scale=reward_scale,
        reward_bias=reward_bias,
        never_succeeds_value=never_succeeds_value,
        extrapolate=extrapolate,
        timeout_fails=timeout_fails,
    )
    self._make_copies = make_copies
    self._sink = sink
    self._step_spec = step_spec
    self._has_shown_traceback = False

  def stored_steps(self, episode: types.Episode) -> trajectory_lib.Trajectory:
    """Returns the stored steps `[T + 1, ...]` of an episode."""
    return stored_steps(episode, **self._constants)

  def write(self, table: str, episode: types.Episode) -> None:
    """Inserts `episode`, and its copies, into `table` of the sink.

    Args:
      table: `offline` or `online`.
      episode: T steps.

    Raises:
      ValueError: If the episode or a copy is incomplete or out of range.
        Nothing of that one is inserted.
    """
    for written in (episode, *self._make_copies(table, episode)):
      steps = self.stored_steps(written)
      self._sink.add(table, steps, written.num_transitions)

  def check(self, table: str, episode: types.Episode) -> None:
    """Raises `ValueError` where `write` would fail, and inserts nothing.

    Raises:
      CopiesError: If the task's code that makes copies fails, or the tables
        refuse a copy; the first error is logged with its traceback.
      ValueError: If they refuse the episode.
    """
    self._check_steps(episode)
    try:
      for copy in self._make_copies(table, episode):
        self._check_steps(copy)
    except Exception as error:  # noqa: BLE001 (code of the domain)
      if not self._has_shown_traceback:
        self._has_shown_traceback = True
        logging.exception('Copies of an episode cannot be made:')
      raise CopiesError(
          f'episode {episode.episode_id}: its copies cannot be made, because'
          f' `Domain.goals` failed: {error!r}'
      ) from error

  def _check_steps(self, episode: types.Episode) -> None:
    checks.check_steps(
        f'episode {episode.episode_id}',
        self.stored_steps(episode),
        episode.num_transitions,
        self._step_spec,
    )


class EpisodeRecorder:
  """Driver observer that builds an episode from one environment's steps.

  Receives the steps that a TF-Agents driver or actor passes to its observers,
  either unbatched or with a batch axis of 1. Calls `on_episode` at the boundary
  step, which has the observation after the last action.

  Attributes:
    episode_id: Id of the next episode to finish; increases by 1 per episode.
    policy_version: Training step of the acting policy's weights.
  """

  def __init__(
      self,
      on_episode: Callable[[types.Episode], None],
      is_success: Callable[[], bool],
      num_frames: int = 1,
  ):
    """Creates a recorder.

    Args:
      on_episode: Called with each finished episode.
      is_success: Called right after each environment step. Returns whether the
        task is solved in the resulting state.
      num_frames: Number of frames in each observation of the steps. Only the
        newest is kept.
    """
    self.episode_id = 0
    self.policy_version = 0
    self._on_episode = on_episode
    self._is_success = is_success
    self._num_frames = num_frames
    self._builder: Optional[episode_builder.EpisodeBuilder] = None

  def __call__(self, trajectory: trajectory_lib.Trajectory) -> None:
    """Records one step.

    Args:
      trajectory: One step. Every leaf is `[...]` or `[1, ...]`.

    Raises:
      ValueError: If the batch size is not 1, or if the first step of an episode
        is not FIRST.
    """
    step = _unbatched(trajectory)
    if step.step_type == ts.StepType.FIRST:
      if self._builder is not None:
        logging.warning(
            'Dropping %d steps of an episode that did not end.',
            self._builder.num_steps,
        )
      self._builder = episode_builder.EpisodeBuilder()
    elif self._builder is None:
      is_last = step.step_type == ts.StepType.LAST
      raise ValueError(
          'The first step of an episode must be FIRST, got'
          f' {"LAST" if is_last else "MID"}.'
      )
    self._builder.add_observation(
        frame_stack.newest(step.observation, self._num_frames)
    )
    if step.step_type == ts.StepType.LAST:
      self._finish(self._builder)
    else:
      self._builder.add_step(
          step.action, step.reward, step.discount, bool(self._is_success())
      )

  def _finish(self, builder: episode_builder.EpisodeBuilder) -> None:
    """Builds the episode and passes it to `on_episode`."""
    self._builder = None
    episode = builder.build(self.episode_id, int(self.policy_version))
    self.episode_id += 1
    self._on_episode(episode)


def _unbatched(trajectory: Any) -> trajectory_lib.Trajectory:
  """Returns the recorded fields as numpy arrays without a batch axis."""
  needed = trajectory._replace(policy_info=())
  needed = tf.nest.map_structure(np.asarray, needed)
  batch = needed.step_type.shape
  if batch == ():
    return needed
  if batch != (1,):
    raise ValueError(
        'Steps must come from one environment, with `step_type` of shape [] or '
        f'[1], got {list(batch)}.'
    )
  return tf.nest.map_structure(lambda leaf: leaf[0], needed)


def _with_last(values: np.ndarray, last: Any) -> np.ndarray:
  """Appends one step filled with `last` to `[T, ...]`."""
  filler = np.full((1,) + values.shape[1:], last, values.dtype)
  return np.concatenate([values, filler])
