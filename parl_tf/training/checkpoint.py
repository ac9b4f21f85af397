"""One checkpoint: the agent, and where the run stands."""

import dataclasses
import json
import os
from typing import Any, Dict, List, Optional, Tuple

import tensorflow as tf


@dataclasses.dataclass
class RunState:
  """Where a run stands.

  Attributes:
    phase: Name of the current phase.
    phase_step: Gradient steps of the phase, or episodes of the online phase.
    last_phase_step: Those that the latest finished phase took.
    env_steps: Environment steps collected.
    episodes: Episodes of the log that have been read into the tables.
    num_rows: Rows of `metrics.csv` that count.
    wall_seconds: Seconds of all sessions.
    phase_start: `(train_step, env_steps, wall_seconds)` at the phase's start.
    held_out_losses: `(step, loss)` of behaviour cloning.
    controller_success_rate: Of the domain's controller.
    summaries: Results of finished phases, by name.
    latest: The last evaluation's metrics.
  """

  phase: str = 'behavior_cloning'
  phase_step: int = 0
  last_phase_step: Optional[int] = None
  env_steps: int = 0
  episodes: int = 0
  num_rows: int = 0
  wall_seconds: float = 0.0
  phase_start: Tuple[int, int, float] = (0, 0, 0.0)
  held_out_losses: List[Tuple[int, float]] = dataclasses.field(
      default_factory=list
  )
  controller_success_rate: Optional[float] = None
  summaries: Dict[str, Any] = dataclasses.field(default_factory=dict)
  latest: Dict[str, float] = dataclasses.field(default_factory=dict)


class _SerializedState(tf.train.experimental.PythonState):
  """Carries a `RunState` inside a TensorFlow checkpoint."""

  def __init__(self, state: RunState):
    self.state = state

  def serialize(self) -> str:
    return json.dumps(dataclasses.asdict(self.state))

  def deserialize(self, string_value: str) -> None:
    for name, value in json.loads(string_value).items():
      setattr(self.state, name, value)


class Checkpoint:
  """Saves and restores the agent and the `RunState` together."""

  def __init__(self, directory: str, agent, state: RunState):
    """Initializes the checkpoint.

    Args:
      directory: Where checkpoints stand.
      agent: `PARLAgent`, its variables made.
      state: Updated in place by `restore`.
    """
    self._checkpoint = tf.train.Checkpoint(
        state=_SerializedState(state), **agent.checkpoint_items
    )
    self._manager = tf.train.CheckpointManager(
        self._checkpoint, directory, max_to_keep=2
    )
    self._directory = directory

  def save(self) -> None:
    """Writes a checkpoint; the one before stays until this one is whole."""
    self._manager.save()

  def restore(self) -> bool:
    """Restores the latest checkpoint; False where there is none.

    Raises:
      ValueError: If it does not fit the agent.
    """
    path = self._manager.latest_checkpoint
    if path is None:
      return False
    try:
      self._checkpoint.restore(path).assert_consumed()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
      raise ValueError(
          f'The checkpoint {os.path.abspath(path)} must hold this agent, but '
          f'does not: {error}'
      ) from error
    return True
