"""Axis alphabet and structured values shared by every module.

Axes, in the order in which they appear:
  E  critic ensemble        M  members drawn from it
  B  batch                  T  environment steps (time)
  N  sampled actions        K  kept candidates
  n, m  other counts of actions
  A  action dimension

Actions inside the library live in [-1, 1]^A. Rewards are raw (as the
environment gives them) in episodes, logs and tables, and scaled where
experience is read.
"""

from typing import Any, Mapping, NamedTuple, Optional

import numpy as np
import tensorflow as tf

Nest = Any
"""A tensor or array, or a (nested) mapping or tuple of them."""


class Candidates(NamedTuple):
  """Actions kept by a search, best first.

  Attributes:
    actions: `[B, K, A]`.
    values: `[B, K]`, the critic's aggregated value of `actions`, descending.
  """

  actions: tf.Tensor
  values: tf.Tensor


class ActionSamples(NamedTuple):
  """Actions that stand for a policy at a batch of states.

  Attributes:
    actions: `[B, m, A]`.
    log_probs: `[B, m]` log densities, or None where no density exists.
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


class ModelSpec(NamedTuple):
  """What a critic or a policy is built for; its constructor's first argument.

  Attributes:
    observation: Nest of `tf.TensorSpec` of raw observations.
    action: Spec `[A]` of an action in [-1, 1].
    normalization: Observation statistics; None leaves observations unchanged.
    seed: Integer seed of the initial weights.
  """

  observation: Nest
  action: tf.TensorSpec
  normalization: Optional['Normalization'] = None
  seed: int = 0

  @property
  def action_size(self) -> int:
    """A, the dimension of an action."""
    return self.action.shape[-1]


class Experience(NamedTuple):
  """One training step's rows; what it has rows for is what is trained.

  Each part is `()` or a TF-Agents `Trajectory` `[rows, 2, ...]`; the last two,
  of an agent that learns from what it has just done, are its own rollouts.

  Attributes:
    critic: Rows of the critic's updates, `critic_utd` slices one after another.
    policy: Rows of the policy improver's updates.
    cloning: Rows of the pre-training improver's updates (behaviour cloning).
    rollout: What trains policy and baseline.
    baseline_rollout: What trains the baseline alone.
  """

  critic: Nest = ()
  policy: Nest = ()
  cloning: Nest = ()
  rollout: Nest = ()
  baseline_rollout: Nest = ()


class Episode(NamedTuple):
  """One episode of T environment steps, as numpy arrays.

  Attributes:
    observation: Nest of `[T + 1, ...]`, raw; the last is the one after the
      last step. Where a file lacks it, the own observation of the last step
      stands there again.
    action: `[T, A]` float32 in [-1, 1].
    reward: `[T]` float32, raw.
    discount: `[T]` float32, 0 where the step ended the task, else 1 (also at
      a time-out).
    success: `[T]` bool, whether the task was solved after the step.
    episode_id: Identity of the episode within its source.
    policy_version: Train step of the weights that acted, -1 for a data set.
    has_last_transition: False where the observation after the last step is
      unknown and the step is not terminal: the last step then makes no
      transition, but its reward counts in the return.
  """

  observation: Nest
  action: np.ndarray
  reward: np.ndarray
  discount: np.ndarray
  success: np.ndarray
  episode_id: int = 0
  policy_version: int = -1
  has_last_transition: bool = True

  @property
  def num_steps(self) -> int:
    """T, the number of environment steps."""
    return len(self.reward)

  @property
  def num_transitions(self) -> int:
    """The number of steps that make a transition."""
    return self.num_steps - (0 if self.has_last_transition else 1)


class Normalization(NamedTuple):
  """Observation statistics, each with the structure of the observation.

  A picture has none: None stands in its place.

  Attributes:
    mean: Nest of float32 arrays, in the observation's units.
    standard_deviation: Likewise, positive.
  """

  mean: Nest
  standard_deviation: Nest
