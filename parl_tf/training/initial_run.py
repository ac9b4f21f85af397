"""The start of a run at the end of a phase of another run."""

import json
import os
import shutil
from typing import Optional

from absl import logging

from parl_tf import synced_file
from parl_tf import types
from parl_tf.reports import run_files
from parl_tf.training import phase_checkpoint
from parl_tf.training import run_directory
from parl_tf.training import task_units

DATA = 'data.hdf5'
"""Name of a run's recorded dataset."""


class Beginning:
  """Takes over another run's data, networks and number of training steps.

  `initial_run.json` in the new run's directory records the beginning. Once the
  run has a checkpoint, it no longer reads the other run.

  """

  def __init__(
      self, root_dir: str, path: str, phase: Optional[str], domain
  ):
    """Finds the other run and checks its task.

    Args:
      root_dir: Directory of the new run.
      path: Directory of the other run.
      phase: Its phase, 'behavior_cloning' or 'offline'; None takes the later
        one that the new run can use, see `load`.
      domain: `Domain` of the new run.

    Raises:
      ValueError: If the other run has no checkpoint of the phase or another
        task, or the new run has started without `initial_run.json`.
    """
    self._root_dir = root_dir
    self._path = path
    self._checkpoints = {}
    self._recorded = None
    if run_directory.holds_run(root_dir):
      self._recorded = run_files.read_initial_run(root_dir)
      if self._recorded is None:
        raise ValueError(
            f'{root_dir} has a run, but no {run_files.INITIAL_RUN}.'
        )
      if os.path.realpath(path) != os.path.realpath(self._recorded.path):
        logging.warning(
            '%s began from %s. `run_experiment.initial_run` %s is not read.',
            root_dir,
            self._recorded.describe(),
            path,
        )
      return
    task_units.check(path, domain)
    saved = phase_checkpoint.saved_phases(path)
    if not saved or phase not in (None, *saved):
      wanted = ' or '.join(phase_checkpoint.PHASES) if phase is None else phase
      raise ValueError(
          '`run_experiment.initial_run` must be the directory of a run that '
          f'has finished the phase {wanted}: {path!r} has checkpoints of '
          f'{saved or "none"} in {phase_checkpoint.path(path, "")}.'
      )
    for name in saved if phase is None else [phase]:
      self._checkpoints[name] = phase_checkpoint.PhaseCheckpoint(path, name)
      self._checkpoints[name].check_task(domain)

  def take_data(self) -> str:
    """Returns the path of the data; links or copies what was recorded."""
    own = os.path.join(self._root_dir, DATA)
    if self._recorded is not None:
      return self._recorded.dataset_path or own
    found = next(iter(self._checkpoints.values())).dataset_path
    if found:
      return found
    recorded = os.path.join(self._path, DATA)
    partial = own + synced_file.PARTIAL_SUFFIX
    if os.path.exists(partial):
      os.remove(partial)
    try:
      os.link(recorded, partial)
    except OSError as error:  # For instance, another file system.
      logging.info('Copying %s: %s', recorded, error)
      shutil.copyfile(recorded, partial)
      synced_file.sync(partial)
    os.replace(partial, own)
    synced_file.sync(self._root_dir)
    return own

  def load(
      self, agent, normalization: types.Normalization
  ) -> run_files.InitialRun:
    """Takes over the networks, unless the run has started before.

    If the other run has a critic of another class, or none, the agent's critic
    stays untrained and the new run has an offline phase. If no phase was given,
    it then begins after behavior cloning.

    Args:
      agent: The new run's agent.
      normalization: Its observation statistics.

    Returns:
      The contents of `initial_run.json`.

    Raises:
      ValueError: If a setting of the networks or the normalization differs, or
        a checkpoint is damaged.
    """
    if self._recorded is not None:
      return self._recorded
    has_critic = agent.checkpoint_items.get('critic') is not None
    phase, checkpoint = list(self._checkpoints.items())[-1]
    with_critic = has_critic and checkpoint.fits_critic(agent)
    if has_critic and not with_critic:
      phase, checkpoint = list(self._checkpoints.items())[0]
    checkpoint.load(agent, normalization, with_critic)
    end = phase_checkpoint.PHASES.index(phase) + 1
    skipped = list(phase_checkpoint.PHASES[:end])
    if phase == 'offline' and has_critic and not with_critic:
      skipped.remove('offline')
    initial_run = run_files.InitialRun(
        path=self._path,
        phase=phase,
        skipped_phases=skipped,
        train_step=checkpoint.train_step,
        dataset_path=checkpoint.dataset_path,
    )
    path = os.path.join(self._root_dir, run_files.INITIAL_RUN)
    with synced_file.write(path) as file:
      file.write(json.dumps(initial_run._asdict(), indent=2).encode())
    logging.info(
        'Beginning from %s, at training step %d%s.',
        initial_run.describe(),
        checkpoint.train_step,
        ', with an untrained critic' if has_critic and not with_critic else '',
    )
    return initial_run


def discard(root_dir: str) -> None:
  """Removes the record that a failed start may have left."""
  path = os.path.join(root_dir, run_files.INITIAL_RUN)
  if os.path.exists(path):
    os.remove(path)
