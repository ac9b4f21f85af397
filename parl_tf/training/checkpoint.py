"""Checkpoints of the agent and the progress of its run."""

import collections
import dataclasses
import json
import os
import re
import shutil
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from absl import logging
import tensorflow as tf

from parl_tf import synced_file

_NUM_KEPT = 2
# File names of `tf.train.CheckpointManager`.
_PREFIX = 'ckpt-'
_LIST = 'checkpoint'
_FILE_NAME = re.compile(_PREFIX + r'(\d+)(?:\.|_temp).*')


@dataclasses.dataclass
class RunState:
  """Progress of a run.

  Attributes:
    phase: Name of the current phase.
    phase_step: Gradient steps taken in the phase; episodes in the online phase.
    last_phase_step: `phase_step` at the end of the latest finished phase.
    env_steps: Environment steps collected.
    episodes: Episodes of the log that have been read into the tables.
    num_rows: Rows of `metrics.csv` that belong to this state.
    wall_seconds: Seconds summed over all sessions.
    phase_start: `(train_step, env_steps, wall_seconds)` at the phase's start.
    held_out_losses: `(step, loss)` pairs of behavior cloning.
    controller_success_rate: Success rate of the domain's controller.
    summaries: Results of finished phases, by name.
    latest: Metrics and outcomes of the latest evaluation of the current
      weights.
    num_online_evaluations: Evaluations of the online phase so far.
    phase_lengths: Numbers of steps or episodes that phases have begun with.
    offline_version: Version of a served policy's weights that drew the cached
      samples of the offline phase; '' if none did.
    policy_versions: Versions of a served policy's weights in the online phase.
    lacks_networks: Whether the networks at the end of `phase` could not be
      written, and the next phase has not begun.
    dataset_digest: `run_dataset.digest` of the data; 0 if an earlier version
      began the run.
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
  latest: Dict[str, Any] = dataclasses.field(default_factory=dict)
  num_online_evaluations: int = 0
  phase_lengths: Dict[str, int] = dataclasses.field(default_factory=dict)
  offline_version: str = ''
  policy_versions: List[str] = dataclasses.field(default_factory=list)
  lacks_networks: bool = False
  dataset_digest: int = 0

  def __post_init__(self):
    self._passed: List[str] = []  # In this session, not saved.

  def pass_to(self, phase: str) -> None:
    """Notes that a session has come to a phase, finished or not.

    Raises:
      ValueError: If it is new, but a later one began in an earlier session.
    """
    self._passed.append(phase)
    later = [x for x in self.phase_lengths if x not in self._passed]
    if phase not in self.phase_lengths and later:
      raise ValueError(
          f'The phase {phase} had no steps when this run went on to'
          f' {later[-1]}, and must keep none. To train it, begin a new run.'
      )

  def reopen(self, phase: str, num_steps: int) -> bool:
    """Continues the latest phase if it now has more steps; returns whether."""
    last = self.last_phase_step
    if self.phase != phase or not last or last >= num_steps:
      return False
    self.phase_step = last
    del self.summaries[phase]
    return True


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
      directory: Directory of the checkpoints.
      agent: `PARLAgent` whose variables exist.
      state: Progress of the run; `restore` updates it in place.
    """
    self._checkpoint = tf.train.Checkpoint(
        state=_SerializedState(state), **agent.checkpoint_items
    )
    self._directory = directory
    synced_file.make_directory(directory)
    self._drop_damaged_list()
    self._manager = tf.train.CheckpointManager(
        self._checkpoint, directory, max_to_keep=_NUM_KEPT
    )

  def save(self) -> None:
    """Writes and syncs a checkpoint and keeps the previous one.

    If the write fails, for instance because the disk is full, logs an error and
    removes the partial checkpoint, which may have an index.
    """
    before = set(_files(self._directory))
    try:
      prefix = os.path.basename(self._manager.save()) + '.'
      names = os.listdir(self._directory)
      # TensorFlow does not sync its files. A power failure could damage all
      # files written in the last half minute, and thus every kept checkpoint.
      for name in [*(x for x in names if x.startswith(prefix)), _LIST, '']:
        synced_file.sync(os.path.join(self._directory, name))
    except (OSError, tf.errors.OpError) as error:
      logging.error(
          'Cannot write a checkpoint to %s; the previous one is kept: %s',
          self._directory,
          error,
      )
      listed = map(os.path.basename, self._manager.checkpoints)
      whole = before | {int(x[len(_PREFIX) :]) for x in listed}
    else:
      whole = set(_finished(_files(self._directory))[-_NUM_KEPT:])
    self._remove_all_but(whole)

  def restore(self) -> bool:
    """Restores the newest undamaged checkpoint.

    Returns:
      False if there is no checkpoint yet.

    Raises:
      ValueError: If all checkpoints are damaged, or the newest undamaged one
        does not fit the agent.
    """
    path = _newest_whole(self._directory)
    if path is not None:
      status = None
      try:
        status = self._checkpoint.restore(path)
        status.assert_consumed()
      except (AssertionError, ValueError, tf.errors.OpError) as error:
        if status is not None:
          status.expect_partial()  # Otherwise each value is logged.
        # TensorFlow goes on with the values of all variables.
        reason = str(error).partition('\n')[0].partition(', likely due')[0]
        raise ValueError(
            f'The checkpoint {os.path.abspath(path)} does not fit this agent, '
            'whose parts and sizes must be those of its run (config.gin): '
            f'{reason}'
        ) from error
      return True
    if _finished(_files(self._directory)) or os.path.exists(self._list_path):
      raise ValueError(
          f'All checkpoints in {os.path.abspath(self._directory)} are damaged.'
      )
    return False  # A killed run left at most a partial first checkpoint.

  @property
  def _list_path(self):
    return os.path.join(self._directory, _LIST)

  def _drop_damaged_list(self) -> None:
    """Removes a damaged list of checkpoints, which the manager cannot read."""
    try:
      tf.train.get_checkpoint_state(self._directory)
    except ValueError as error:
      logging.warning('Removing %s: %s', self._list_path, error)
      os.remove(self._list_path)

  def _remove_all_but(self, kept: Set[int]) -> None:
    """Removes the files of checkpoints with other numbers."""
    files = _files(self._directory)
    for number in set(files) - kept:
      for name in files[number]:
        path = os.path.join(self._directory, name)
        if os.path.isdir(path):
          shutil.rmtree(path)
        else:
          os.remove(path)


def read_state(directory: str) -> RunState:
  """Returns the state in the newest checkpoint of a run, without its agent.

  Args:
    directory: Directory of the checkpoints.

  Raises:
    ValueError: If there is no undamaged checkpoint.
  """
  path = _newest_whole(directory)
  if path is None:
    raise ValueError(
        f'{directory} must hold an undamaged checkpoint, but has none.'
    )
  state = RunState()
  reader = tf.train.Checkpoint(state=_SerializedState(state))
  reader.restore(path).expect_partial()
  return state


def _newest_whole(directory: str) -> Optional[str]:
  """Returns the path of the newest undamaged checkpoint, if there is one."""
  # Reads the directory, because the manager's list may be damaged.
  for number in sorted(_files(directory), reverse=True):
    path = os.path.join(directory, f'{_PREFIX}{number}')
    if _is_whole(path):
      return path
  return None


def _files(directory: str) -> Dict[int, List[str]]:
  """Returns the file names of each checkpoint, by its number."""
  files = collections.defaultdict(list)
  if os.path.isdir(directory):
    for match in map(_FILE_NAME.fullmatch, os.listdir(directory)):
      if match:
        files[int(match[1])].append(match[0])
  return files


def _finished(files: Mapping[int, List[str]]) -> List[int]:
  """Returns the numbers of checkpoints with an index, which is written last."""
  return sorted(
      number
      for number, names in files.items()
      if any(name.endswith('.index') for name in names)
  )


def _is_whole(path: str) -> bool:
  """Returns whether a checkpoint can be read in full; warns if it cannot."""
  try:
    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
      reader.get_tensor(name)  # Verifies checksums.
  # A truncated file raises an `IndexError`.
  except (IndexError, tf.errors.OpError) as error:
    logging.warning('Skipping the damaged checkpoint %s: %s', path, error)
    return False
  return True
