"""Axis alphabet and structured values shared by every module.

Axes, in the order in which they appear:
  E  critic ensemble        M  members drawn from it
  B  batch                  T  environment steps (time)
  N  sampled actions        K  kept candidates
  n, m  other counts of actions
  H  actions of a chunk     A  action dimension

Other sizes are spelled out, as in `[E, B, width]` or
`[B, height, width, channels]`.

Actions inside the library are in [-1, 1]^A. Rewards are raw (as the environment
returns them) in episodes, logs and tables. Reading experience scales them.
"""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    TYPE_CHECKING,
)

import numpy as np

if TYPE_CHECKING:  # Datasets and domains do not wait for TensorFlow's import.
  import tensorflow as tf

Nest = Any
"""A tensor or array, or a (nested) mapping or tuple of tensors or arrays."""

ValueRange = Tuple[float, float]
"""The lowest and the highest discounted return of a task."""

POLICY_INFO_DTYPES = {
    'monte_carlo_return': np.float32,
    'episode_id': np.int64,
    'step_index': np.int32,
    'policy_version': np.int64,
    'success': np.bool_,
}
"""Scalar fields that a stored step has in addition to those of a trajectory."""

EPISODE_STEP_DTYPES = {
    'action': np.float32,
    'reward': np.float32,
    'discount': np.float32,
    'success': np.bool_,
}
"""Fields of an `Episode` with one entry for each environment step."""


class Candidates(NamedTuple):
  """Actions that a search keeps, best first.

  Attributes:
    actions: `[B, K, A]`.
    values: `[B, K]`, the critic's aggregated values of `actions`, descending.
  """

  actions: tf.Tensor
  values: tf.Tensor


class ActionSamples(NamedTuple):
  """Actions that represent a policy at a batch of states.

  Attributes:
    actions: `[B, m, A]`.
    log_probs: `[B, m]` log densities, or None if they are unknown.
  """

  actions: tf.Tensor
  log_probs: Optional[tf.Tensor] = None


class CriticLoss(NamedTuple):
  """`per_example` `[B]` critic loss and scalar `metrics`."""

  per_example: tf.Tensor
  metrics: Mapping[str, tf.Tensor]


class ImproverLoss(NamedTuple):
  """`per_example` `[B]` policy loss and scalar `metrics`."""

  per_example: tf.Tensor
  metrics: Mapping[str, tf.Tensor]


def _unknown_value_range(gamma: float) -> Optional[ValueRange]:
  del gamma
  return None


class ModelSpec(NamedTuple):
  """Inputs, outputs and seed of a critic, policy or agent.

  It is the first constructor argument of each of them.

  Attributes:
    observation: Nest of `tf.TensorSpec` of raw observations.
    action: Spec `[A]` of the action of one step, in [-1, 1].
    normalization: Observation statistics; None leaves observations unchanged.
    seed: Integer seed of the initial weights.
    value_range: Maps gamma to the range of the task's returns, or to None if it
      is unknown; see `Domain.value_range`.
    raw_action_bounds: Lowest and highest action of one step, `[A]` each, in the
      units of the environment; None if they are unknown.
    chunk_length: H, the number of actions that a policy draws at once.
    num_frames: Number of frames in each `observation`; see `frame_stack`.
  """

  observation: Nest
  action: tf.TensorSpec
  normalization: Optional[Normalization] = None
  seed: int = 0
  value_range: Callable[[float], Optional[ValueRange]] = _unknown_value_range
  raw_action_bounds: Optional[Tuple[np.ndarray, np.ndarray]] = None
  chunk_length: int = 1
  num_frames: int = 1

  @property
  def action_size(self) -> int:
    """H * A, the dimension of what policies draw and critics value."""
    return self.chunk_length * self.action.shape[-1]


class Experience(NamedTuple):
  """The rows of one training step, which trains the parts that have rows.

  `critic`, `policy` and `cloning` are TF-Agents `Trajectory`s `[rows, 2, ...]`
  or `()`. `rollout` and `baseline_rollout` are the rollouts of an on-policy
  agent, in its own format, or `()`.

  Attributes:
    critic: Rows of the critic updates: `critic_utd` consecutive slices.
    policy: Rows of the policy improver's updates.
    cloning: Rows of the pre-training improver's updates (behavior cloning).
    rollout: Rollout that trains the policy and its baseline.
    baseline_rollout: Rollout that trains only the baseline.
  """

  critic: Nest = ()
  policy: Nest = ()
  cloning: Nest = ()
  rollout: Nest = ()
  baseline_rollout: Nest = ()


def stored(info: Mapping[str, Any], name: str) -> Any:
  """Returns a field of `POLICY_INFO_DTYPES` from the info of rows.

  Raises:
    ValueError: If the rows lack it.
  """
  if not isinstance(info, Mapping) or name not in info:
    raise ValueError(
        f'`policy_info` of the rows must have {name!r}, which this loss reads,'
        f' got {sorted(info)}. The rows of the library\'s tables have it; see'
        ' `EpisodeWriter`.'
    )
  return info[name]


class Episode(NamedTuple):
  """One episode of T environment steps, as NumPy arrays.

  Attributes:
    observation: Nest of `[T + 1, ...]`, raw; the last entry follows the last
      step. If a file lacks this entry, it repeats the one before the last step.
    action: `[T, A]` float32 in [-1, 1].
    reward: `[T]` float32, raw.
    discount: `[T]` float32, 0 if the step ended the task, otherwise 1 (also at
      a time-out).
    success: `[T]` bool, whether the task was solved after the step.
    episode_id: Identity of the episode within its source.
    policy_version: Training step of the acting weights; -1 for a dataset.
    has_last_transition: False if the observation after the last step is unknown
      and the step is not terminal. The last step then makes no transition, but
      its reward counts in the return.
    is_continued: Whether the recording goes on with the source's next episode,
      as play does after a success that ends an episode of the task.
  """

  observation: Nest
  action: np.ndarray
  reward: np.ndarray
  discount: np.ndarray
  success: np.ndarray
  episode_id: int = 0
  policy_version: int = -1
  has_last_transition: bool = True
  is_continued: bool = False

  @property
  def num_steps(self) -> int:
    """T, the number of environment steps."""
    return len(self.reward)

  @property
  def num_transitions(self) -> int:
    """The number of steps that make a transition."""
    return self.num_steps - (0 if self.has_last_transition else 1)


def wrong_discount(discount: np.ndarray) -> Optional[int]:
  """Returns the first step whose discount `[T]` no episode has, or None.

  It is 1, except in the last step, where it may be 0.
  """
  is_wrong = discount != 1
  is_wrong[-1] = discount[-1] not in (0, 1)
  return int(np.argmax(is_wrong)) if np.any(is_wrong) else None


class Normalization(NamedTuple):
  """Statistics of the data.

  Both nests have the structure of the observation, with None for each image.

  Attributes:
    mean: Nest of float32 arrays, in the observation's units.
    standard_deviation: Nest of positive float32 arrays, in the same units.
    action_range: Lowest and highest usual action of one step, `[A]` float32 in
      [-1, 1] each; None if unknown. See `datasets.episodes.action_range`.
    action_deviation: Standard deviation of the actions of one step, `[A]`
      float32; None if unknown.
  """

  mean: Nest
  standard_deviation: Nest
  action_range: Optional[Tuple[np.ndarray, np.ndarray]] = None
  action_deviation: Optional[np.ndarray] = None
